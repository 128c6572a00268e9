"""The tables of a benchmark, as text in cells; the terminal and Markdown show the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from koe5_integrations.bench.results import BenchResult, Measured

__all__ = ["Table", "headline", "remarks", "tables"]

_MIB = 2**20
_NOT_MEASURED = "-"


@dataclass(frozen=True)
class Table:
    """A title, a header, and rows that each begin with what they are about."""

    title: str
    header: list[str]
    rows: list[list[str]]


def headline(result: BenchResult) -> str:
    """Return model and machine in one line."""
    machine = result.machine
    return (
        f"{result.model['model']} (dim {result.model['dim']}) on {machine['cores']} cores of "
        f"{machine['cpu']}, {machine['memory'] / 2**30:.0f} GiB of memory"
    )


def tables(result: BenchResult) -> list[Table]:
    """Return what there is to show; nothing if nothing could be measured."""
    if not result.measured:
        return []
    return [make(result.measured) for make in (_bulk, _questions, _callers, _costs)]


def remarks(result: BenchResult) -> list[str]:
    """Return failures and notes, a sentence each."""
    return [
        *(f"failed: {each.configuration.name}: {each.reason}" for each in result.failed),
        *(f"note: {note}" for note in result.notes),
    ]


def _bulk(measured: Sequence[Measured]) -> Table:
    lengths = sorted({point.length for each in measured for point in each.throughput})
    rows = []
    for each in measured:
        rates = {
            (point.batch_tokens, point.length): point.texts_per_second for point in each.throughput
        }
        for batch in dict.fromkeys(batch for batch, _ in rates):
            cells = [rates.get((batch, length)) for length in lengths]
            tokens = [
                point.tokens_per_second for point in each.throughput if point.batch_tokens == batch
            ]
            rows.append(
                [
                    each.configuration.name,
                    f"{batch or each.batch_tokens:,}{'' if batch else ' (own)'}",
                    *(_NOT_MEASURED if cell is None else _number(cell) for cell in cells),
                    _number(max(tokens)),
                ]
            )
    header = [
        "configuration",
        "tokens in a pass",
        *(f"{length} tokens" for length in lengths),
        "tokens/s",
    ]
    return Table("Passages a second, by their length", header, rows)


def _questions(measured: Sequence[Measured]) -> Table:
    rows = [
        [
            each.configuration.name,
            *(_ms(wait) for wait in (each.query.p50, each.query.p95, each.query.p99)),
            f"{each.query.calls:,}",
            _ms(each.query_during_bulk.p50),
            _ms(each.query_during_bulk.p95),
            f"{each.query_during_bulk.calls:,}",
        ]
        for each in measured
    ]
    header = ["configuration", "p50", "p95", "p99", "asked", "in bulk p50", "p95", "asked"]
    return Table("Milliseconds of a question, alone and while a bulk job runs", header, rows)


def _callers(measured: Sequence[Measured]) -> Table:
    rows = [
        [
            each.configuration.name,
            *(f"{_number(point.queries_per_second)} ({_ms(point.p95)})" for point in each.callers),
        ]
        for each in measured
    ]
    counts = [point.callers for point in measured[0].callers]
    header = ["configuration", *(f"{n} caller{'s' if n > 1 else ''}" for n in counts)]
    return Table("Questions a second of concurrent callers (p95 of one, ms)", header, rows)


def _costs(measured: Sequence[Measured]) -> Table:
    on_gpu = any(each.memory.device_peak is not None for each in measured)
    rows = []
    for each in measured:
        fidelity, memory = each.fidelity, each.memory
        device_peak = memory.device_peak
        rows.append(
            [
                each.configuration.name,
                each.device,
                f"{each.load_seconds:.2f}",
                _ms(each.first_query_seconds),
                _mib(memory.resident),
                _mib(memory.peak),
                *([_NOT_MEASURED if device_peak is None else _mib(device_peak)] if on_gpu else []),
                _NOT_MEASURED if fidelity is None else f"{fidelity.mean:.5f}",
                _NOT_MEASURED if fidelity is None else f"{fidelity.min:.5f}",
            ]
        )
    header = [
        "configuration",
        "device",
        "load s",
        "first question ms",
        "loaded MiB",
        "peak MiB",
        *(["GPU peak MiB"] if on_gpu else []),
        "cosine mean",
        "cosine min",
    ]
    return Table("Loading, memory, and cosine to fp32", header, rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ms(seconds: float) -> str:
    return _number(1000 * seconds)


def _mib(size: int) -> str:
    return f"{size / _MIB:,.0f}"
