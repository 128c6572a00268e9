"""``koe5 verify``: whether a collection is what its shards say."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from koe5_integrations.cli import options
from koe5_integrations.cli.terminal import say, terminal_width

if TYPE_CHECKING:
    from koe5_integrations.ingestion.verification import Check, Verification

__all__ = ["EXIT_CODES", "verify_collection"]

EXIT_CODES = (
    "Exit codes: 0 sound; 3 a check failed, and its line says what to do; 2 it can't be checked, "
    "and stderr says why: another process is writing there, for example."
)

_UNSOUND = 3
# Wide enough that few lines are wrapped for a file or another program.
_UNLIMITED = 200


def verify_collection(
    collection: Annotated[str, typer.Option(help="Name of the collection.", show_default=False)],
    persist_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the Chroma database.", file_okay=False, show_default=False),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Chroma server, instead: http://127.0.0.1:8000. Needs --shards.",
            show_default=False,
        ),
    ] = None,
    shards: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the vector shards the collection was made from.",
            file_okay=False,
            show_default="DIR.shards/NAME, beside the database",
        ),
    ] = None,
    sample: Annotated[
        int,
        typer.Option(
            min=1,
            help="How many passages to compare with the shards, and to search for. Ids, counts and "
            "the vectors' soundness are checked of all.",
        ),
    ] = 256,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document: sound, and the checks.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="The collection's model, if it is no longer where it was: the same weights.",
            show_default="the one the collection was made with",
        ),
    ] = None,
    device: options.Device = None,
    cache_folder: options.CacheFolder = None,
) -> None:
    """Check a Chroma collection against the shards it was made from.

    Nothing is changed. The collection is first opened in a process of its own,
    so that one so damaged that it brings that down is reported here.
    """
    from koe5_integrations.ingestion.verification import verify

    verification = verify(
        persist_dir=persist_dir,
        url=url,
        collection=collection,
        shards=shards,
        sample=sample,
        model=model,
        device=device,
        cache_folder=cache_folder,
    )
    if as_json:
        document = {"sound": verification.sound, "checks": [asdict(c) for c in verification.checks]}
        typer.echo(json.dumps(document, ensure_ascii=False))
    else:
        _print_table(verification)
        failed = sum(check.ok is False for check in verification.checks)
        total = len(verification.checks)
        say(
            f"collection {collection!r} is sound"
            if verification.sound
            else f"collection {collection!r} is not sound: {failed} of {total} checks failed"
        )
    if not verification.sound:
        raise typer.Exit(_UNSOUND)


def _print_table(verification: Verification) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for check in verification.checks:
        table.add_row(_mark(check), check.name, Text(check.detail))
    Console(width=terminal_width() or _UNLIMITED).print(table)


def _mark(check: Check) -> str:
    if check.ok is None:
        return "[yellow]skipped[/]"
    return "[green]ok[/]" if check.ok else "[bold red]FAILED[/]"
