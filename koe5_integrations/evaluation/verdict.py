"""What an evaluation supports, in sentences and letters that every report shares."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np

from koe5_integrations.evaluation.results import EvalResult, SystemResult

__all__ = [
    "HEADLINES",
    "Variant",
    "compressions",
    "costs",
    "deciding",
    "headlines",
    "human_bytes",
    "letters",
    "mains",
    "percentiles",
    "title",
    "truncations",
    "variant_of",
    "variants",
    "verdict",
    "wins",
]

HEADLINES = ("ndcg@10", "recall@10", "mrr@10", "success@1")
"""The measures of the first table and of the comparisons, the deciding one first."""

_TITLES = {
    "ndcg": "nDCG",
    "map": "MAP",
    "mrr": "MRR",
    "f1_of_means": "F1 of means",
    "mean_f1": "mean F1",
}


def title(measure: str) -> str:
    """Return a measure as people write it: ``nDCG@10``."""
    name, at, k = measure.partition("@")
    return f"{_TITLES.get(name, name)}{at}{k}"


def headlines(measures: Sequence[str]) -> list[str]:
    """Return the measures to show first: those of :data:`HEADLINES`, or the first four."""
    return [name for name in HEADLINES if name in measures] or list(measures)[:4]


def letters(result: EvalResult) -> dict[str, str]:
    """Return a letter for each system, by spec: a, …, z, aa, …; ablations come last."""
    names = list(ascii_lowercase)
    while len(names) < len(result.systems):
        names += [first + second for first in names for second in ascii_lowercase]
    own = mains(result)
    variants = [spec for spec in result.systems if spec not in own]
    return dict(zip([*own, *variants], names, strict=False))


def wins(result: EvalResult, measure: str, among: Container[str]) -> dict[str, list[str]]:
    """Return the letters of the systems each system is significantly better than, by spec.

    Args:
        result: whose comparisons count.
        measure: which of them.
        among: specs of the systems that are shown; a win over another would point nowhere.
    """
    letter = letters(result)
    beaten: dict[str, list[str]] = {spec: [] for spec in result.systems}
    for found in result.comparisons:
        if found.measure == measure and found.significant and found.worse in among:
            beaten[found.better].append(letter[found.worse])
    return {spec: sorted(names) for spec, names in beaten.items()}


def variant_of(spec: str, systems: Container[str]) -> str | None:
    """Return the system an ablation varied (``dense:m`` for ``dense:m[prefix=none]``), or None."""
    base = spec.rpartition("[")[0]
    return base if spec.endswith("]") and base in systems else None


def mains(result: EvalResult) -> dict[str, SystemResult]:
    """Return the systems that are no ablation of another."""
    systems = result.systems
    return {spec: found for spec, found in systems.items() if variant_of(spec, systems) is None}


@dataclass(frozen=True, slots=True)
class Variant:
    """What an ablation did to a system.

    Attributes:
        spec: of the variant.
        base: of the system itself.
        measure: the deciding one.
        value: of the variant.
        difference: of the variant's mean from the system's own; below 0 is a loss.
        p_holm: corrected over all variants.
    """

    spec: str
    base: str
    measure: str
    value: float
    difference: float
    p_holm: float


def variants(result: EvalResult) -> list[Variant]:
    """Return what the ablations did, on the deciding measure."""
    measure = deciding(result)
    found = []
    for pair in result.comparisons:
        for spec, base, sign in ((pair.better, pair.worse, 1), (pair.worse, pair.better, -1)):
            if pair.measure == measure and variant_of(spec, {base}) is not None:
                value = result.systems[spec].measures[measure].value
                change = sign * pair.difference
                found.append(Variant(spec, base, measure, value, change, pair.p_holm))
    order = list(result.systems)
    return sorted(found, key=lambda variant: order.index(variant.spec))


def truncations(result: EvalResult) -> list[str]:
    """Say what each system's model would not read, where that was counted."""
    said = []
    for spec, system in mains(result).items():
        for kind, found in system.facts.get("truncation", {}).items():
            said.append(
                f"{spec}: {found['texts']:,} of {found['of_texts']:,} {kind} ({found['share']:.1%})"
                f" are longer than {found['limit']} tokens; {found['tokens']:,} of "
                f"{found['of_tokens']:,} tokens lie beyond"
            )
    return said


def compressions(result: EvalResult) -> list[str]:
    """Say how much of what float vectors find each compressed system finds."""
    share = "recall_against_float@10"
    return [
        f"{spec}: {system.facts['bytes_per_vector']:,} bytes per vector find "
        f"{system.facts[share]:.1%} of the 10 nearest by float vectors"
        for spec, system in mains(result).items()
        if share in system.facts
    ]


def verdict(result: EvalResult) -> list[str]:
    """Say what the deciding measure supports and what it doesn't, one sentence per string."""
    measure = deciding(result)
    if measure is None:
        return []
    ranked = sorted(
        mains(result).values(), key=lambda system: system.measures[measure].value, reverse=True
    )
    best = ranked[0]
    value = best.measures[measure]
    low, high = value.ci
    said = [
        f"{best.spec} is highest on {title(measure)}: {value.value:.3f} "
        f"(95% interval {low:.3f} to {high:.3f}, {value.n} queries)."
    ]
    beaten = [
        found.worse
        for found in result.comparisons
        if found.measure == measure
        and found.better == best.spec
        and found.significant
        and found.worse in mains(result)
    ]
    open_ = [system.spec for system in ranked[1:] if system.spec not in beaten]
    if beaten:
        said.append(f"It is significantly better than {_listed(beaten)} (Holm-corrected, 5%).")
    if open_:
        said.append(
            f"Whether it is better than {_listed(open_)} this set can't tell: the difference is "
            "not significant."
        )
    gap = result.smallest_gap.get(measure)
    if gap is not None and len(ranked) > 1:
        said.append(f"Differences of {title(measure)} below about {gap:.3f} can't be told here.")
    if value.n < 50:
        said.append(
            f"{value.n} queries are few: one query more or less right moves a rate by "
            f"{1 / value.n:.3f}."
        )
    return said


def percentiles(system: SystemResult) -> tuple[float, float] | None:
    """Return p50 and p95 of a query asked alone, in milliseconds; None if not timed."""
    if not system.latencies:
        return None
    p50, p95 = np.percentile(np.asarray(system.latencies) * 1000, [50, 95])
    return float(p50), float(p95)


def costs(system: SystemResult) -> Mapping[str, str]:
    """Return what a system costs, in words for a table, by column title."""
    timed = percentiles(system)
    rate = system.queries_per_second
    return {
        "index": f"{system.index.seconds:,.2f} s",
        "embedded": f"{system.index.embedded:,}",
        "index size": human_bytes(system.index.bytes),
        "latency p50": f"{timed[0]:,.2f} ms" if timed else "–",
        "p95": f"{timed[1]:,.2f} ms" if timed else "–",
        "queries/s": f"{rate:,.0f}" if rate else "–",
    }


def human_bytes(count: int | None) -> str:
    """Return a size in a unit that fits it, or – if it is not known."""
    if count is None:
        return "–"
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"


def deciding(result: EvalResult) -> str | None:
    """Return the measure the verdict is about: the first headline that every system has."""
    systems = list(result.systems.values())
    shared = [
        name
        for name in (systems[0].measures if systems else ())
        if all(name in system.measures for system in systems)
    ]
    found = headlines(shared)
    return found[0] if found else None


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
