"""How a command ends: a foreseen problem is one message on stderr, never a traceback."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from koe5_integrations.cli.terminal import say, say_warning
from koe5_integrations.errors import InputError, KoE5Error, KoE5Warning, shorten

__all__ = ["CleanExits", "CommandError", "as_flags", "at_its_place"]

_INTERRUPTED = 130
_BROKEN_PIPE = 141


class CommandError(Exception):
    """A command can't do what was asked; the message is what the user reads."""


def at_its_place(error: KoE5Error, places: Sequence[str]) -> CommandError:
    """Turn an encoder's error about ``texts[7]`` into one about the place that text came from.

    Args:
        error: what encoding a list of texts raised.
        places: where each of them came from, such as ``notes.txt:12``.
    """
    if isinstance(error, InputError) and error.position is not None:
        return CommandError(f"{places[error.position]} {error.problem}: {shorten(error.value)}")
    return CommandError(re.sub(r"texts\[(\d+)\]", lambda m: places[int(m[1])], str(error), count=1))


def as_flags(message: str, options: Collection[str]) -> str:
    """Rewrite ``on_prefixed='keep'`` as ``--on-prefixed 'keep'``, for the options a command has."""
    if not options:
        return message
    names = "|".join(map(re.escape, sorted(options)))
    return re.sub(
        rf"(?<![\w-])({names})=(?=(['\"\w])?)",
        lambda m: f"--{m[1].replace('_', '-')}{' ' if m[2] else ''}",
        message,
    )


class CleanExits(TyperGroup):
    """Runs a command and ends the process as the help's exit codes say."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        # Restores the filters and showwarning, for whoever runs this inside a larger program.
        with warnings.catch_warnings():
            warnings.simplefilter("always", KoE5Warning)
            self._show_ours_plainly(ctx)
            try:
                result = super().invoke(ctx)
                # A reader that has gone away is noticed here rather than at interpreter exit.
                sys.stdout.flush()
                return result
            except (KoE5Error, CommandError) as error:
                self._fail(as_flags(str(error), self._options(ctx)))
            except BrokenPipeError:
                # https://docs.python.org/3/library/signal.html#note-on-sigpipe
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(_BROKEN_PIPE) from None
            except OSError as error:
                at = f"{error.filename}: " if error.filename else ""
                self._fail(f"{at}{error.strerror or error}")
            except KeyboardInterrupt:
                say("interrupted")
                raise typer.Exit(_INTERRUPTED) from None

    def _fail(self, message: str) -> NoReturn:
        typer.secho("error: ", fg="red", nl=False, err=True)
        say(message)
        raise typer.Exit(2) from None

    def _options(self, ctx: Any) -> set[str]:
        command = self.commands.get(ctx.invoked_subcommand or "")
        params = command.params if command else []
        return {p.name for p in params if p.name and f"--{p.name.replace('_', '-')}" in p.opts}

    def _show_ours_plainly(self, ctx: Any) -> None:
        show = warnings.showwarning

        def plainly(
            message: Warning | str, category: type[Warning], *where: Any, **kw: Any
        ) -> None:
            if issubclass(category, KoE5Warning):
                say_warning(as_flags(str(message), self._options(ctx)))
            else:
                show(message, category, *where, **kw)

        warnings.showwarning = plainly
