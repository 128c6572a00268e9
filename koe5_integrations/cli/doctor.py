"""``koe5 doctor``: how an existing Chroma collection was embedded, and what is wrong with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from koe5_integrations.cli import options
from koe5_integrations.cli.exits import CommandError
from koe5_integrations.cli.terminal import printable, terminal_width
from koe5_integrations.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from koe5_integrations.ingestion.diagnosis import Diagnosis, Finding

__all__ = ["EXIT_CODES", "diagnose_collection"]

EXIT_CODES = (
    "Exit codes: 0 healthy (notes at most); 3 diagnosed, with faults or warnings; 2 it can't be "
    "done, and stderr says why."
)

_ILL = 3
_UNLIMITED = 200
_SEVERITY_STYLES = {"fault": "bold red", "warning": "yellow", "note": "dim"}


def diagnose_collection(
    collection: Annotated[str, typer.Argument(help="Name of a collection, whoever made it.")],
    persist_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the Chroma database.", exists=True, file_okay=False, show_default=False
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Of a Chroma server, instead: http://127.0.0.1:8000.", show_default=False
        ),
    ] = None,
    sample: Annotated[
        int,
        typer.Option(
            min=1, max=2000, help="How many rows to embed again; 200 see a fault in 5% of the rows."
        ),
    ] = 200,
    seed: Annotated[int, typer.Option(help="Of the drawing of those rows.")] = 0,
    read_all: Annotated[
        bool | None,
        typer.Option(
            "--read-all/--sample-only",
            help="Read all texts, to count those that are missing or repeated.",
            show_default="up to a million rows",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document: facts and findings.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="The model its vectors should be of.",
            show_default="the one it records, or else nlpai-lab/KoE5",
        ),
    ] = None,
    profile: options.Profile = None,
    revision: options.Revision = None,
    query_prompt: options.QueryPrompt = None,
    passage_prompt: options.PassagePrompt = None,
    backend: options.Backend = None,
    base_url: options.BaseUrl = None,
    api_key_env: options.ApiKeyEnv = None,
    device: options.Device = None,
    precision: options.Precision = None,
    batch_size: options.BatchSize = None,
    max_seq_length: options.MaxSeqLength = None,
    truncate_dim: options.TruncateDim = None,
    cache_folder: options.CacheFolder = None,
) -> None:
    """Find out how a Chroma collection was embedded.

    A sample of its texts is embedded again: as passages, as questions, without
    a prefix, and in the other ways frameworks do it. Nothing is written.
    """
    given = options.chosen(locals())

    from koe5_integrations.encoder import KoE5Encoder
    from koe5_integrations.ingestion.diagnosis import diagnose
    from koe5_integrations.ingestion.existing import existing_collection, recorded_options

    with existing_collection(
        collection, persist_dir=persist_dir, url=url, purpose="koe5 doctor"
    ) as opened:
        recorded = recorded_options(opened, trusted=url is None)
        try:
            encoder = KoE5Encoder(**recorded | given)
        except ConfigError as error:
            if model is not None:
                raise
            raise CommandError(
                f"{error}. Collection {collection!r} records that model: say with --model where "
                "it is now, or which other one to compare with"
            ) from None
        with _progress(shown=not quiet and sys.stderr.isatty()) as advance:
            diagnosis = diagnose(
                opened, encoder, sample=sample, seed=seed, read_all=read_all, on_progress=advance
            )
    if as_json:
        typer.echo(json.dumps(_document(diagnosis), ensure_ascii=False))
    else:
        _print(diagnosis)
    if not diagnosis.healthy:
        raise typer.Exit(_ILL)


def _document(diagnosis: Diagnosis) -> dict[str, Any]:
    from dataclasses import asdict

    findings = [asdict(finding) | {"share": finding.share} for finding in diagnosis.findings]
    return asdict(diagnosis) | {
        "healthy": diagnosis.healthy,
        "sureness": diagnosis.sureness,
        "findings": findings,
    }


def _print(diagnosis: Diagnosis) -> None:
    from rich.console import Console

    width = terminal_width()
    made_by = f", made by {diagnosis.made_by}" if diagnosis.made_by else ""
    dim = "" if diagnosis.dim is None else f" of {diagnosis.dim} dimensions"
    lines = [
        f"{diagnosis.collection}: {diagnosis.rows:,} rows{dim}, space {diagnosis.space}{made_by}",
        f"compared with {diagnosis.model} ({diagnosis.fingerprint})",
        diagnosis.sureness,
    ]
    if diagnosis.made:
        counts = sorted(diagnosis.made.items(), key=lambda count: -count[1])
        lines.append("made: " + ", ".join(f"{n:,} {name}" for name, n in counts))
    for line in lines:
        typer.echo(printable(line))
    if diagnosis.findings:
        typer.echo()
        Console(width=width or _UNLIMITED, highlight=False).print(_table(diagnosis.findings))
    if diagnosis.healthy:
        typer.secho("healthy", fg="green", bold=True)


def _table(findings: list[Finding]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 1, 0), pad_edge=False, header_style="bold")
    table.add_column("finding", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("what it means, and what to do", overflow="fold")
    for finding in findings:
        told = Text(printable(_sentence(finding)))
        if finding.examples:
            shown = ", ".join(map(printable, finding.examples))
            told.append(f"\nsuch as {shown}", style="dim")
        if finding.remedy:
            told.append(f"\n→ {finding.remedy}")
        style = _SEVERITY_STYLES[finding.severity]
        name = Text(f"{finding.kind}\n", style=style).append(finding.severity, style="dim")
        table.add_row(name, _rows(finding), told)
    return table


def _sentence(finding: Finding) -> str:
    """Begin a sentence about rows with how many there are."""
    if not finding.of:
        return finding.sentence
    return f"{finding.count:,} of {finding.of:,} rows {finding.sentence}"


def _rows(finding: Finding) -> str:
    share = finding.share
    if share is None:
        return "all"
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[str, int], None]]:
    """Say on stderr what is being done, and how far it is."""
    if not shown:
        yield lambda step, n: None
        return

    from rich.console import Console

    with Console(stderr=True).status("opening") as status:
        units = {"reading": "rows", "embedding": "texts"}
        yield lambda step, n: status.update(f"{step}: {n:,} {units[step]}")
