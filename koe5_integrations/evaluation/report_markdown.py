"""report.md: the numbers with what they can bear, for a pull request or a wiki."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

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

__all__ = ["SEED_MEASURES", "render_markdown", "table_in_seed_form"]

SEED_MEASURES = ("ndcg@1", "f1_of_means@1", "ndcg@3", "f1_of_means@3")
"""The columns KoE5 reports, in its order."""

_SEED_TITLES = ("NDCG@1", "F1@1", "NDCG@3", "F1@3")


def render_markdown(result: EvalResult) -> str:
    """Return the report: verdict, tables, comparisons, costs, warnings and manifest."""
    parts = [
        f"# Retrieval evaluation: {_cell(result.dataset)}",
        _subject(result),
        " ".join(_cell(sentence) for sentence in verdict(result)),
        *_headline_table(result),
        *_seed_section(result),
        *_comparisons(result),
        *_ablations(result),
        *_costs(result),
        *_warnings(result),
        *_all_measures(result),
        *_manifest(result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table_in_seed_form(results: Sequence[EvalResult]) -> str:
    """Return KoE5's own table, in per cent: four columns per data set, and their average.

    A cell is – where a system was not run on the set, and so is its average. F1@k is the harmonic
    mean of the mean precision and the mean recall, which is what KoE5 published.
    """
    several = len(results) > 1
    sets = [result.dataset for result in results] + (["Average"] if several else [])
    header = ["System"]
    header += [f"{_cell(name)} {column}" for name in sets for column in _SEED_TITLES]
    rows = []
    for spec in dict.fromkeys(spec for result in results for spec in mains(result)):
        values = [_seed_values(result, spec) for result in results]
        if several:
            columns = zip(*values, strict=True)
            values.append([_mean(column) for column in columns])
        cells = [f"{v * 100:.2f}" if v is not None else "–" for row in values for v in row]
        rows.append([_code(spec), *cells])
    return _table(header, rows, left=1)


def _subject(result: EvalResult) -> str:
    data = result.manifest.get("data", {})
    counts = (("queries", "questions"), ("documents", "documents"))
    said = [f"{data[key]:,} {name}" for key, name in counts if key in data]
    if (each := data.get("relevant_per_query")) is not None:
        said.append(f"{each:g} relevant per question")
    return ", ".join(said) + "." if said else ""


def _headline_table(result: EvalResult) -> list[str]:
    names = headlines(_measures(result))
    letter = letters(result)
    shown = mains(result)
    beaten = {name: wins(result, name, shown) for name in names}
    rows = []
    for spec, system in shown.items():
        cells = [_measured(system.measures.get(name), beaten[name][spec]) for name in names]
        n = next((m.n for m in system.measures.values()), 0)
        rows.append([letter[spec], _code(spec), *cells, f"{n:,}"])
    note = (
        "In brackets: 95% bootstrap interval over questions. Superscripts: the systems this one is "
        "significantly better than (paired permutation test, Holm-corrected, 5%)."
    )
    return [_table(["", "System", *map(title, names), "n"], rows), note]


def _seed_section(result: EvalResult) -> list[str]:
    if not all(name in _measures(result) for name in SEED_MEASURES):
        return []
    return ["## In KoE5's own form (per cent)", table_in_seed_form([result])]


def _comparisons(result: EvalResult) -> list[str]:
    rows = [
        [
            title(found.measure),
            _code(found.better),
            _code(found.worse),
            f"{found.difference:.4f}",
            _p(found.p_value),
            _p(found.p_holm),
            "yes" if found.significant else "no",
        ]
        for found in result.comparisons
        if {found.better, found.worse} <= mains(result).keys()
    ]
    if not rows:
        return []
    header = ["Measure", "Higher", "Lower", "Difference", "p", "p (Holm)", "Significant"]
    gaps = ", ".join(f"{title(name)} {gap:.3f}" for name, gap in result.smallest_gap.items())
    smallest = f"Smallest gap this set can resolve: {gaps}." if gaps else ""
    return ["## Comparisons", _table(header, rows, left=3), smallest]


def _ablations(result: EvalResult) -> list[str]:
    rows = [
        [
            _code(found.spec),
            f"{found.value:.3f}",
            f"{found.difference:+.3f}",
            _p(found.p_holm),
            "yes" if found.p_holm < 0.05 else "no",
        ]
        for found in variants(result)
    ]
    parts = []
    if rows:
        measure = title(deciding(result) or "")
        header = ["Variant", measure, "from the system itself", "p (Holm)", "Significant"]
        parts = ["## Ablations", _table(header, rows, left=1)]
    if said := truncations(result):
        parts += ["## Truncation", "\n".join(f"- {_cell(sentence)}" for sentence in said)]
    return parts


def _costs(result: EvalResult) -> list[str]:
    by_spec = {spec: costs(system) for spec, system in mains(result).items()}
    header = ["System", *next(iter(by_spec.values()))]
    rows = [[_code(spec), *cost.values()] for spec, cost in by_spec.items()]
    note = "Latency: each question asked alone. Queries/s: all asked at once."
    said = "\n".join(f"- {_cell(sentence)}" for sentence in compressions(result))
    return ["## Cost", _table(header, rows, left=1), note, said]


def _warnings(result: EvalResult) -> list[str]:
    found = [
        f"- {_code(spec)}: {_cell(warning)}"
        for spec, system in result.systems.items()
        for warning in system.warnings
    ]
    return ["## Warnings", "\n".join(found)] if found else []


def _all_measures(result: EvalResult) -> list[str]:
    rows = []
    for name in _measures(result):
        found = [system.measures.get(name) for system in mains(result).values()]
        rows.append([title(name), *(_with_hits(measured) for measured in found)])
    header = ["Measure", *map(_code, mains(result))]
    note = "In brackets: questions with a relevant document among the first k, where that counts."
    return ["## All measures", _table(header, rows, left=1), note]


def _manifest(result: EvalResult) -> list[str]:
    text = json.dumps(dict(result.manifest), ensure_ascii=False, indent=2, default=str)
    # A fence longer than any run of backticks inside can't be closed by it.
    fence = "`" * (3 + max((len(run) for run in _runs_of_backticks(text)), default=0))
    return ["## Manifest", f"{fence}json\n{text}\n{fence}"]


def _runs_of_backticks(text: str) -> Iterable[str]:
    import re

    return re.findall(r"`+", text)


def _measures(result: EvalResult) -> list[str]:
    every = (name for system in result.systems.values() for name in system.measures)
    return list(dict.fromkeys(every))


def _measured(measured: Measured | None, beaten: Sequence[str]) -> str:
    if measured is None:
        return "–"
    above = f"<sup>{','.join(beaten)}</sup>" if beaten else ""
    low, high = measured.ci
    return f"{measured.value:.3f}{above} [{low:.3f}, {high:.3f}]"


def _with_hits(measured: Measured | None) -> str:
    if measured is None:
        return "–"
    hits = f" ({measured.hits} of {measured.n})" if measured.hits is not None else ""
    return f"{measured.value:.4f}{hits}"


def _seed_values(result: EvalResult, spec: str) -> list[float | None]:
    system = result.systems.get(spec)
    found = [system.measures.get(name) if system else None for name in SEED_MEASURES]
    return [measured.value if measured else None for measured in found]


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if len(there) == len(values) else None


def _p(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 2) -> str:
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule[: len(header)], *rows])


def _cell(text: str) -> str:
    """Escape what would end a cell, a line or start markup."""
    plain = " ".join(str(text).split())
    for character in ("\\", "|", "<", "*", "_", "`", "["):
        plain = plain.replace(character, f"\\{character}")
    return plain


def _code(spec: str) -> str:
    plain = " ".join(str(spec).split()).replace("|", "\\|")
    return f"`{plain}`" if "`" not in plain else _cell(spec)
