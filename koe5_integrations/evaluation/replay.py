"""Measured figures against published ones, cell by cell, and the table in the seed's own form."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.datasets.known import KNOWN
from koe5_integrations.evaluation.measures import parse_measure
from koe5_integrations.evaluation.published import SOURCES, Published, canonical_name, published
from koe5_integrations.evaluation.results import EvalResult
from koe5_integrations.evaluation.tables import layout

__all__ = [
    "WITHIN",
    "Figures",
    "Replayed",
    "figures",
    "replay",
    "replay_table",
    "seed_table",
]

Figures: TypeAlias = Mapping[str, Mapping[str, float]]
"""Measured values, 0 to 1, by measure, by data set."""
Kind: TypeAlias = Literal["reproduced", "within", "different", "known-bad", "not measured"]
Style: TypeAlias = Literal["markdown", "text"]

WITHIN = 2
"""Whole queries by which repeated runs of the same model were seen to differ."""
# Two decimals of percent, some of them cut off rather than rounded.
_ROUNDING = 0.0001
_SEED_SETS = {
    "ko-strategyqa": "Ko-StrategyQA",
    "autorag": "AutoRAG",
    "publichealthqa": "PublicHealthQA",
}
_SEED_MEASURES = {
    "ndcg@1": "NDCG@1",
    "f1_of_means@1": "F1@1",
    "ndcg@3": "NDCG@3",
    "f1_of_means@3": "F1@3",
}


@dataclass(frozen=True, slots=True)
class Replayed:
    """A published cell and what was measured.

    Attributes:
        published: the cell.
        measured: 0 to 1; None if that was not measured.
        kind: ``reproduced`` to the published decimals, ``within`` some hits, ``different``,
            ``known-bad`` whatever was measured, or ``not measured``.
        hits: by how many whole queries the measured value is off, signed, from the published
            value or, where that is known to be bad, from the right one; None if that can't be
            said.
        explanation: what a reader must know; None if the verdict says it all.
    """

    published: Published
    measured: float | None
    kind: Kind
    hits: float | None
    explanation: str | None

    @property
    def verdict(self) -> str:
        """The kind in words, such as ``within 2 hits``."""
        if self.kind == "within" and self.hits is not None:
            count = _whole_hits(self.published, abs(self.hits))
            return f"within {count} hit{'s' if count > 1 else ''}"
        return self.kind


def figures(results: EvalResult | Iterable[EvalResult], spec: str) -> dict[str, dict[str, float]]:
    """Return one system's values from evaluations, by measure, by data set.

    Args:
        results: evaluations of the published data sets; others are passed over.
        spec: the system's name in them.

    Raises:
        ConfigError: no result has the system, or a known data set was not measured whole.
    """
    given = [results] if isinstance(results, EvalResult) else list(results)
    found: dict[str, dict[str, float]] = {}
    known_specs: list[str] = []
    for result in given:
        system = result.systems.get(spec)
        known_specs += result.systems
        name = canonical_name(result.dataset)
        if system is None or name not in _SEED_SETS:
            continue
        for measured in system.measures.values():
            if measured.n != KNOWN[name].queries:
                raise ConfigError(
                    f"{result.dataset!r} was measured on {measured.n} queries, and the published "
                    f"figures are of {KNOWN[name].queries}; measure on the whole set"
                )
        found[name] = {measure: value.value for measure, value in system.measures.items()}
    if spec not in known_specs:
        raise ConfigError(
            f"no result has the system {spec!r}; there is {', '.join(dict.fromkeys(known_specs))}"
        )
    return found


def replay(
    measured: Figures,
    model: str = "nlpai-lab/KoE5",
    *,
    within: int = WITHIN,
    sources: Sequence[str] | None = None,
) -> list[Replayed]:
    """Compare measured figures with every published cell of a model.

    Differences are counted in hits, that is whole queries going from nothing to one relevant
    document at the first rank: 1 / n for nDCG, recall and MRR, 2 / (k + 1) / n for an F1 (exact
    with one relevant document per query, and an approximation on Ko-StrategyQA).

    Args:
        measured: values, 0 to 1, by measure, by data set; of :func:`figures` or a table of your
            own. Empty lists what is published.
        model: hub name, or the name the source gives it, such as ``BGE-m3``.
        within: hits up to which a value counts as the same.
        sources: short names out of ``SOURCES``; None takes all.

    Raises:
        ConfigError: nothing is published of the model or by the source, or a value is not a
            number from 0 to 1.
    """
    values = _checked(measured)
    for source in sources or ():
        if source not in SOURCES:
            raise ConfigError(f"source {source!r} is unknown; there is {', '.join(SOURCES)}")
    wanted = model.lower()
    cells = [
        cell
        for cell in published()
        if wanted in (cell.model.lower(), cell.label.lower())
        and (sources is None or cell.source in sources)
    ]
    if not cells:
        models = list(dict.fromkeys(cell.model for cell in published()))
        close = difflib.get_close_matches(model, models, n=3, cutoff=0.4)
        raise ConfigError(
            f"nothing is published here of {model!r}"
            + (f" by {', '.join(sources)}" if sources else "")
            + f"; there is {', '.join(close or models)}"
        )
    return [_judge(cell, values.get(cell.dataset, {}).get(cell.measure), within) for cell in cells]


def replay_table(cells: Sequence[Replayed], style: Style = "markdown") -> str:
    """Write the verdicts as a table, with the explanations and the sources below it.

    Args:
        cells: of :func:`replay`.
        style: ``markdown``, or ``text`` in columns.
    """
    notes: dict[str, int] = {}
    rows = []
    for cell in cells:
        base = cell.published
        mark = ""
        if cell.explanation is not None:
            mark = f" [{notes.setdefault(cell.explanation, len(notes) + 1)}]"
        rows.append(
            [
                _SEED_SETS[base.dataset],
                base.measure,
                _percent(base.value),
                _percent(base.right) if base.right is not None else "",
                _percent(cell.measured),
                f"{cell.hits:+.1f}" if cell.hits is not None else "",
                cell.verdict + mark,
                base.source,
            ]
        )
    head = ["set", "measure", "published", "right", "measured", "hits", "verdict", "source"]
    used = dict.fromkeys(cell.published.source for cell in cells)
    below = [f"[{number}] {text}" for text, number in notes.items()]
    below += [f"{name}: {SOURCES[name]}" for name in used]
    return "\n".join([layout(head, rows, style), "", *_lines(below, style)]) + "\n"


def seed_table(
    measured: Mapping[str, Figures] | None = None,
    *,
    with_published: bool = True,
    style: Style = "markdown",
) -> str:
    """Write the table KoE5 publishes: NDCG@1, F1@1, NDCG@3, F1@3 per set, and their averages.

    Values are percent. An average is given where all three sets were measured. A published value
    that is known to be bad is starred, and the right one stands beside it; so it is with the
    averages made of it. F1 is ``f1_of_means``.

    Args:
        measured: figures by the name of the row, put below the published rows.
        with_published: show the seed's own rows.
        style: ``markdown``, or ``text`` in columns.

    Raises:
        ConfigError: a value is not a number from 0 to 1.
    """
    rows, starred = [], False
    if with_published:
        by_label: dict[str, list[Published]] = {}
        for cell in published():
            if cell.source == "seed":
                by_label.setdefault(cell.label, []).append(cell)
        for label, cells in by_label.items():
            as_is = _by_set((cell, cell.value) for cell in cells)
            right = _by_set((c, c.value if c.right is None else c.right) for c in cells)
            rows.append([label, *_seed_row(as_is, right)])
            starred = starred or as_is != right
    for name, own in (measured or {}).items():
        values = _checked(own)
        rows.append([name, *_seed_row(values, values)])
    sets = [*_SEED_SETS.values(), "Average"]
    head = ["model", *(f"{name} {m}" for name in sets for m in _SEED_MEASURES.values())]
    table = layout(head, rows, style)
    if not starred:
        return table + "\n"
    note = (
        "\\* " if style == "markdown" else "* "
    ) + "Known bad: AutoRAG before 0.2.17 ranked worst first; the right value is in brackets."
    return f"{table}\n\n{note}\n"


def _judge(cell: Published, value: float | None, within: int) -> Replayed:
    target = cell.value if cell.right is None else cell.right
    hits = None if value is None else (value - target) / _hit(cell)
    if cell.known_bad is not None:
        told = cell.known_bad
        if value is not None and abs(value - cell.value) <= within * _hit(cell):
            told += "; what was measured shows the same fault: is it ranked worst first?"
        return Replayed(cell, value, "known-bad", hits, told)
    if value is None or hits is None:
        return Replayed(cell, None, "not measured", None, cell.note)
    count = _whole_hits(cell, abs(hits))
    kind: Kind = "reproduced" if count == 0 else "within" if count <= within else "different"
    return Replayed(cell, value, kind, hits, cell.note)


def _hit(cell: Published) -> float:
    measure = parse_measure(cell.measure)
    worth = 2 / (measure.k + 1) if "f1" in measure.name else 1.0
    return worth / KNOWN[cell.dataset].queries


def _whole_hits(cell: Published, hits: float) -> int:
    """How many whole queries explain the gap, allowing for the rounding of what is published."""
    return max(math.ceil(hits - (_ROUNDING + 1e-9) / _hit(cell)), 0)


def _checked(measured: Figures) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for dataset, values in measured.items():
        for measure, value in values.items():
            parse_measure(measure)
            if not _is_share(value):
                raise ConfigError(
                    f"{dataset} {measure} is {value!r}; give a number from 0 to 1, not percent"
                )
            found.setdefault(canonical_name(dataset), {})[measure] = float(value)
    return found


def _is_share(value: object) -> bool:
    return isinstance(value, int | float | np.number) and bool(0 <= value <= 1)


def _by_set(cells: Iterable[tuple[Published, float]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for cell, value in cells:
        found.setdefault(cell.dataset, {})[cell.measure] = value
    return found


def _seed_row(as_is: Figures, right: Figures) -> list[str]:
    row = []
    for dataset in (*_SEED_SETS, None):
        for measure in _SEED_MEASURES:
            shown, meant = (_cell(part, dataset, measure) for part in (as_is, right))
            star = f"* ({_percent(meant)})" if shown != meant else ""
            row.append(f"{_percent(shown)}{star}")
    return row


def _cell(values: Figures, dataset: str | None, measure: str) -> float | None:
    if dataset is not None:
        return values.get(dataset, {}).get(measure)
    each = [values.get(name, {}).get(measure) for name in _SEED_SETS]
    present = [value for value in each if value is not None]
    return sum(present) / len(each) if len(present) == len(each) else None


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _lines(texts: Sequence[str], style: Style) -> list[str]:
    return [f"- {text}" if style == "markdown" else text for text in texts]
