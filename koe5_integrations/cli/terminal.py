"""Talking to the person at the terminal; stdout is for results."""

from __future__ import annotations

import sys
import unicodedata
from shutil import get_terminal_size

import typer

__all__ = ["printable", "say", "say_warning", "terminal_width"]


def printable(text: str) -> str:
    """Put a stored text on one line that can't move the cursor or colour the terminal."""
    composed = unicodedata.normalize("NFC", text)
    return " ".join("".join(c if c.isprintable() else " " for c in composed).split())


def say(message: str) -> None:
    """Write a line to stderr."""
    typer.echo(message, err=True)


def say_warning(message: str) -> None:
    """Write a warning to stderr."""
    typer.secho("warning: ", fg="yellow", nl=False, err=True)
    say(message)


def terminal_width() -> int | None:
    """Return the columns of the terminal results are shown on; None if they go elsewhere."""
    return get_terminal_size().columns if sys.stdout.isatty() else None
