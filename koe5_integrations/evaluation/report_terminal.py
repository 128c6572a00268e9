"""The evaluation at a terminal, as a table by rich."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from koe5_integrations.evaluation.results import EvalResult, Measured
from koe5_integrations.evaluation.verdict import (
    compressions,
    costs,
    deciding,
    headlines,
    letters,
    mains,
    title,
    truncations,
    variants,
    verdict,
    wins,
)

if TYPE_CHECKING:
    from rich.console import Console

    from koe5_integrations.evaluation.gates import Verdict

__all__ = ["print_gates", "print_result"]

_COSTS = ("index", "index size", "latency p50", "p95", "queries/s")


def print_result(result: EvalResult, console: Console) -> None:
    """Print the headline measures with intervals, what they support, costs and warnings."""
    data = result.manifest.get("data", {})
    counts = [f"{data[key]:,} {key}" for key in ("queries", "documents") if key in data]
    console.print(Text(f"{result.dataset}: {', '.join(counts)}", style="bold"))
    console.print(_table(result))
    console.print(
        Text("95% bootstrap intervals; > a: significantly better than system a (Holm, 5%)", "dim")
    )
    for sentence in verdict(result):
        console.print(Text(sentence))
    console.print()
    console.print(_costs(result))
    if variants(result):
        console.print()
        console.print(_ablations(result))
    for sentence in [*compressions(result), *truncations(result)]:
        console.print(Text(sentence))
    for spec, system in result.systems.items():
        for warning in system.warnings:
            console.print(Text.assemble(("warning: ", "yellow"), f"{spec}: {warning}"))


def print_gates(verdicts: Iterable[Verdict], console: Console) -> None:
    """Print a line for each gate."""
    for found in verdicts:
        word = ("passed: ", "green") if found.passed else ("FAILED: ", "bold red")
        console.print(Text.assemble(word, found.reason))


def _table(result: EvalResult) -> Table:
    first = next(iter(result.systems.values()))
    names = headlines(list(first.measures))
    letter = letters(result)
    shown = mains(result)
    beaten = {name: wins(result, name, shown) for name in names}
    table = _plain_table()
    table.add_column("")
    table.add_column("system", style="cyan", overflow="fold", min_width=12)
    for name in names:
        table.add_column(title(name), justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    for spec, system in shown.items():
        cells = [_cell(system.measures.get(name), beaten[name][spec]) for name in names]
        n = next((measured.n for measured in system.measures.values()), 0)
        # Text, so that no bracket is taken for markup.
        table.add_row(letter[spec], Text(spec), *cells, f"{n:,}")
    return table


def _costs(result: EvalResult) -> Table:
    table = _plain_table()
    table.add_column("system", style="cyan", overflow="fold", min_width=12)
    for name in _COSTS:
        table.add_column(name, justify="right", no_wrap=True)
    for spec, system in mains(result).items():
        found = costs(system)
        table.add_row(Text(spec), *(found[name] for name in _COSTS))
    return table


def _ablations(result: EvalResult) -> Table:
    table = _plain_table()
    table.add_column("ablation", style="cyan", overflow="fold", min_width=12)
    for name in (title(deciding(result) or ""), "change", "p (Holm)"):
        table.add_column(name, justify="right", no_wrap=True)
    for found in variants(result):
        change = Text(f"{found.difference:+.3f}", "red" if found.p_holm < 0.05 else "")
        table.add_row(Text(found.spec), f"{found.value:.3f}", change, f"{found.p_holm:.4f}")
    return table


def _plain_table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")


def _cell(measured: Measured | None, beaten: list[str]) -> Text:
    if measured is None:
        return Text("–")
    low, high = measured.ci
    lines = [(f"{measured.value:.3f}", "bold"), (f"\n{low:.3f}–{high:.3f}", "dim")]
    if beaten:
        lines.append((f"\n> {','.join(beaten)}", "green"))
    return Text.assemble(*lines)
