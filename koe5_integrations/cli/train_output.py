"""What ``koe5 train`` shows when a run is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from koe5_integrations.cli.terminal import terminal_width

if TYPE_CHECKING:
    from rich.table import Table

    from koe5_integrations.training import Trained

__all__ = ["print_results"]

# Wide enough that nothing is wrapped for a file or another program.
_UNLIMITED = 200


def print_results(trained: Trained) -> None:
    """Print what the model reached on the dev set, and its tables on test sets."""
    from rich.console import Console

    console = Console(width=terminal_width() or _UNLIMITED, highlight=False)
    if trained.metrics:
        before = {"base": trained.before["primary"], "this model": trained.metrics["primary"]}
        console.print(_table({"dev set, primary metric": before}))
    # Tables of the same metrics are one, a row each.
    by_metrics: dict[tuple[str, ...], dict[str, Mapping[str, float]]] = {}
    for title, values in trained.results.items():
        by_metrics.setdefault(tuple(values), {})[title] = values
    for rows in by_metrics.values():
        console.print()
        console.print(_table(rows))


def _table(rows: Mapping[str, Mapping[str, float]]) -> Table:
    from rich.table import Table

    table = Table("", box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in next(iter(rows.values())):
        table.add_column(name, justify="right")
    for title, values in rows.items():
        table.add_row(title, *map(_figure, values.values()))
    return table


def _figure(value: float) -> str:
    return f"{value:.2f}" if abs(value) > 1 else f"{value:.4f}"
