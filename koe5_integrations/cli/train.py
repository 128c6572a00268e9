"""``koe5 train``: the recipes, from the command line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from inspect import Parameter, Signature, signature
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from koe5_integrations.cli import train_mining
from koe5_integrations.cli.exits import CleanExits
from koe5_integrations.cli.terminal import say
from koe5_integrations.cli.train_output import print_results

if TYPE_CHECKING:
    from koe5_integrations.training.config import TrainingConfig

__all__ = ["app"]

_EXIT_CODES = (
    "Exit codes: 0 done; 2 it can't be done, and stderr says why. After any end, also Ctrl-C "
    "(130), a crash or a power cut, the same command goes on from the last checkpoint."
)
# Seconds without a word.
_SILENCE = 30

# Command -> its configuration, and what its help says.
_RECIPES = {
    "koe5": (
        "KoE5Config",
        """Train a retrieval model on questions, answers and hard negatives, as KoE5 was.

        Questions get `query: `, answers `passage: `, hard negatives `document: `;
        the answers of a batch's other questions are negatives too. The defaults
        are KoE5's. A smaller --mini-batch-size needs less memory and changes
        nothing else.
        """,
    ),
    "kor-nli": (
        "KorNliConfig",
        """Train on KorNLI's entailments and contradictions, as ko-sentence-transformers does.

        Measured on KorSTS: dev while training, test at the end.
        """,
    ),
    "kor-sts": (
        "KorStsConfig",
        """Train on KorSTS's scored sentence pairs, as ko-sentence-transformers does.

        Measured on KorSTS: dev while training, test at the end.
        """,
    ),
    "kor-multitask": (
        "KorMultitaskConfig",
        """Train on KorNLI and KorSTS in turns, as ko-sentence-transformers does.

        Measured on KorSTS: dev while training, test at the end.
        """,
    ),
    "distill": (
        "DistillConfig",
        """Train a small model to give a large one's vectors.

        The teacher embeds the texts once; what it has embedded is kept.
        """,
    ),
}


class _Recipes(CleanExits):
    """Makes a recipe's command when it is asked for, so that ``koe5 --help`` need not."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return [*_RECIPES, *(name for name in self.commands if name not in _RECIPES)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; None if there is none of that name."""
        if cmd_name not in self.commands:
            # All of them for a name that is mistyped, so that the nearest can be suggested.
            for name in [cmd_name] if cmd_name in _RECIPES else _RECIPES:
                alone = typer.Typer(add_completion=False)
                alone.command(name, epilog=_EXIT_CODES)(_command(*_RECIPES[name]))
                self.commands[name] = typer.main.get_command(alone)
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    cls=_Recipes,
    help="Train a model: as KoE5 was, as ko-sentence-transformers does, or after a teacher.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
)
app.command("mine-negatives")(train_mining.mine)


def _command(config_name: str, doc: str) -> Callable[..., None]:
    """Return a command with the options of all recipes and a flag for each field of its own."""
    from koe5_integrations.cli.train_options import chosen_fields, config_flags

    config: type[TrainingConfig] = getattr(import_module("koe5_integrations.training"), config_name)

    def command(
        *,
        config_file: Annotated[
            Path | None,
            typer.Option(
                "--config",
                "-c",
                help="YAML file of settings, as --print-config and every run folder's config.yaml "
                "have them; flags go before it.",
                exists=True,
                dir_okay=False,
            ),
        ] = None,
        fresh: Annotated[
            bool,
            typer.Option(
                "--fresh/--resume",
                help="Throw away an unfinished run in --out, or go on from its last checkpoint.",
            ),
        ] = False,
        print_config: Annotated[
            bool, typer.Option("--print-config", help="Print all settings as YAML; train nothing.")
        ] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help="Print the results as JSON on stdout.")
        ] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="No progress, and no table on stdout.")
        ] = False,
        **arguments: Any,
    ) -> None:
        from koe5_integrations.training import read_config

        settings = read_config(config_file, config, **chosen_fields(config, arguments))
        if print_config:
            typer.echo(settings.to_yaml(), nl=False)
        else:
            _train(settings, fresh=fresh, as_json=as_json, quiet=quiet)

    own = [
        parameter
        for parameter in signature(command, eval_str=True).parameters.values()
        if parameter.kind is not Parameter.VAR_KEYWORD
    ]
    command.__doc__ = doc
    all_of_them = Signature([*own, *config_flags(config)])
    command.__signature__ = all_of_them  # type: ignore[attr-defined]  # typer reads it
    return command


def _train(config: TrainingConfig, *, fresh: bool, as_json: bool, quiet: bool) -> None:
    from koe5_integrations.training import train

    # Where a launcher started several of us, one speaks.
    silent = os.environ.get("RANK", "0") != "0"
    bar = not quiet and not silent and sys.stderr.isatty()
    try:
        trained = train(
            config,
            resume="never" if fresh else "auto",
            on_log=None if quiet or silent or bar else _Told().row,
            show_progress=bar,
        )
    except KeyboardInterrupt:
        if not silent:
            say("run the same command again to go on from the last checkpoint")
        raise
    if silent:
        return
    if as_json:
        paths = {"out": str(trained.out), "model_dir": str(trained.model_dir)}
        typer.echo(json.dumps({**asdict(trained), **paths}, ensure_ascii=False))
    elif not quiet:
        print_results(trained)
    if not quiet:
        say(f"written to {trained.out}; the model is {trained.model_dir}")


class _Told:
    """Says how a run is going: at each evaluation, and otherwise twice a minute."""

    def __init__(self) -> None:
        self._said = monotonic()
        self._loss = ""

    def row(self, row: Mapping[str, Any]) -> None:
        """One row of ``metrics.jsonl`` was written."""
        if "loss" in row:
            self._loss = f", loss {row['loss']:.4f}"
        elif "primary" not in row:
            return
        dev = f", dev {row['primary']:.4f}" if "primary" in row else ""
        if dev or monotonic() - self._said > _SILENCE:
            self._said = monotonic()
            say(f"update {row['step']:,} (epoch {row['epoch']:.2f}){self._loss}{dev}")
