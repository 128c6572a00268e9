"""``koe5 models``: the table of known models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from koe5_integrations.cli.terminal import terminal_width

if TYPE_CHECKING:
    from rich.table import Table

    from koe5_integrations.profiles import ModelProfile

__all__ = ["show_models"]

# Wider than the table will ever be: nothing is wrapped for a file or another program.
_UNLIMITED = 1000


def show_models(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON list with all that is known.")
    ] = False,
) -> None:
    """Show the models whose prompts are known.

    Prompts are in double quotes, so that a space at the end can be seen.
    A - means that the model's own files say it.
    """
    from koe5_integrations.profiles import PROFILES

    profiles = list(PROFILES.values())
    if as_json:
        from dataclasses import asdict

        listed = [asdict(profile) for profile in profiles]
        typer.echo(json.dumps(listed, ensure_ascii=False, indent=2))
        return

    from rich.console import Console
    from rich.measure import Measurement

    on_terminal = terminal_width()
    width = on_terminal or _UNLIMITED
    table = _table(profiles, wrap=on_terminal is not None)
    wide = Console(width=_UNLIMITED)
    if Measurement.get(wide, wide.options, table).maximum <= width:
        Console(width=width).print(table)
    else:
        # A table squeezed into a narrow terminal breaks every name and prompt.
        typer.echo("\n\n".join(map(_paragraph, profiles)))


def _table(profiles: list[ModelProfile], *, wrap: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("model", style="cyan")
    table.add_column("dim", justify="right")
    table.add_column("max tokens", justify="right")
    table.add_column("pooling")
    table.add_column("query prompt", overflow="fold", max_width=28 if wrap else None)
    table.add_column("passage prompt", overflow="fold", max_width=28 if wrap else None)
    table.add_column("licence")
    table.add_column("note", overflow="fold", max_width=40 if wrap else None)
    for profile in profiles:
        # Text, so that no bracket is taken for markup.
        table.add_row(*(Text(cell) for cell in _facts(profile)))
    return table


def _paragraph(profile: ModelProfile) -> str:
    name, dim, tokens, pooling, query, passage, license, note = _facts(profile)
    lines = [
        typer.style(name, bold=True),
        f"  dim {dim}, max tokens {tokens}, pooling {pooling}, licence {license}",
        f"  query prompt {query}, passage prompt {passage}",
    ]
    return "\n".join([*lines, f"  {note}"] if note else lines)


def _facts(profile: ModelProfile) -> tuple[str, ...]:
    return (
        profile.name,
        str(profile.dim or "-"),
        str(profile.max_seq_length or "-"),
        profile.pooling or "-",
        _quoted(profile.query_prompt),
        _quoted(profile.passage_prompt),
        profile.license or "-",
        profile.note,
    )


def _quoted(prompt: str) -> str:
    return json.dumps(prompt, ensure_ascii=False) if prompt else "none"
