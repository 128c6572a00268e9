"""What ``koe5 ingest`` shows while it runs and when it is done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from koe5_integrations.cli.terminal import say, terminal_width

if TYPE_CHECKING:
    from rich.progress import Progress

    from koe5_integrations.ingestion.documents import Rejected
    from koe5_integrations.ingestion.estimate import Estimate
    from koe5_integrations.ingestion.summary import Summary

__all__ = [
    "as_json_types",
    "estimate_rows",
    "progress",
    "say_rejected",
    "show",
    "summary_rows",
]

# Wide enough that nothing is wrapped for a file or another program.
_UNLIMITED = 200

Rows = Sequence[tuple[str, str]]


class _Told:
    """Passes on to a progress bar, if there is one, how far an ingestion has got."""

    def __init__(self, bar: Progress | None, task: Any, total: int | None) -> None:
        self._bar = bar
        self._task = task
        self._total = total
        self._bytes = 0
        self.completed = 0.0

    def read(self, n: int) -> None:
        """So many more bytes were read."""
        self._bytes += n
        self._show(self._bytes, "")

    def update(self, summary: Summary) -> None:
        """Counts have grown."""
        rate = summary.embedded / summary.seconds if summary.seconds else 0.0
        done = f"{summary.embedded:,} embedded ({rate:,.0f}/s), {summary.loaded:,} loaded"
        # Where the store is slower than the model, what is read is not done yet.
        loaded = min(summary.loaded / summary.to_load, 1.0) if summary.to_load else 1.0
        self._show(summary.bytes_read, done, loaded)

    def _show(self, bytes_read: int, done: str, loaded: float = 1.0) -> None:
        known = bytes_read if self._total is None else min(bytes_read, self._total)
        self.completed = known * loaded
        if self._bar is not None:
            self._bar.update(self._task, completed=self.completed, done=done)


@contextmanager
def progress(what: str, total: int | None, *, shown: bool) -> Iterator[_Told]:
    """Draw a progress bar on stderr, by bytes read and loaded where their number is known."""
    if not shown:
        yield _Told(None, None, None)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[done]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        yield _Told(bar, bar.add_task(what, total=total, done=""), total)


def summary_rows(summary: Summary) -> Rows:
    """Return what a run has done, as names and values."""
    documents = [
        f"{n:,} {name}"
        for name in ("new", "changed", "unchanged", "removed", "duplicates", "quarantined")
        if (n := getattr(summary, name))
    ]
    rate = summary.embedded / summary.seconds if summary.seconds else 0.0
    return [
        ("documents read", ", ".join(documents) or "none"),
        ("texts embedded", f"{summary.embedded:,}"),
        ("vectors used again", f"{summary.reused:,}"),
        ("shards written", f"{summary.shards:,}"),
        ("passages loaded", f"{summary.loaded:,}"),
        ("documents stored", f"{summary.documents:,}"),
        ("passages stored", f"{summary.passages:,}"),
        ("time", f"{_duration(summary.seconds)} ({rate:,.0f} texts embedded a second)"),
    ]


def estimate_rows(found: Estimate) -> Rows:
    """Return what a run would do, as names and values."""
    documents = [
        f"{n:,} {name}"
        for name in ("new", "changed", "unchanged", "quarantined")
        if (n := getattr(found, name))
    ]
    rows = [
        ("documents read", ", ".join(documents) or "none"),
        ("to embed", f"{found.passages:,} passages, {found.tokens:,} tokens"),
        ("vectors", f"{found.bytes / 1e6:,.1f} MB"),
    ]
    if found.passages_per_second is not None:
        rows.append(
            (
                "time to embed",
                f"{_duration(found.seconds)} at {found.passages_per_second:,.1f} passages a "
                "second, measured on a sample",
            )
        )
    return rows


def as_json_types(summary: Summary) -> dict[str, Any]:
    """Return a summary as JSON types."""
    quarantine = None if summary.quarantine is None else str(summary.quarantine)
    return {**asdict(summary), "quarantine": quarantine}


def show(fields: Mapping[str, Any], rows: Rows, *, as_json: bool, quiet: bool) -> None:
    """Print a result: on stdout as JSON if asked for, else as a table."""
    if as_json:
        typer.echo(json.dumps(fields, ensure_ascii=False))
    elif not quiet:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        for row in rows:
            table.add_row(*map(Text, row))
        Console(width=terminal_width() or _UNLIMITED, highlight=False).print(table)


def say_rejected(rejected: Rejected) -> None:
    """Name what a dry run would quarantine."""
    say(f"{rejected.place}: {rejected.reason}")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
