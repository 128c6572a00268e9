"""Text, numbers and marks of the HTML report, safe to put into markup."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import NamedTuple

from koe5_integrations.evaluation.results import EvalResult, SystemResult
from koe5_integrations.evaluation.verdict import headlines, human_bytes, letters

PALETTE = 8
"""How many colours the style sheet holds; systems beyond share them and differ by letter."""

_MEANINGS = {
    "ndcg": "Rank quality: 1 when every relevant document stands at the top.",
    "recall": "Share of the relevant documents among the first k.",
    "precision": "Share of the first k that is relevant.",
    "map": "Mean average precision over the first k.",
    "mrr": "One over the rank of the first relevant document, 0 beyond k.",
    "success": "Share of queries with a relevant document among the first k.",
    "f1_of_means": "Harmonic mean of mean precision and mean recall at k.",
    "mean_f1": "Mean over queries of each query's F1 at k.",
}
# What HTML forbids in text, and lone surrogates, which UTF-8 can't hold.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Mark(NamedTuple):
    """How a system is told apart: a letter, and a colour class of the style sheet."""

    letter: str
    colour: str

    @property
    def badge(self) -> str:
        """The coloured letter, as markup."""
        return f'<span class="badge {self.colour}">{self.letter}</span>'


def marks(result: EvalResult) -> dict[str, Mark]:
    """Return each system's mark, by spec."""
    return {
        spec: Mark(letter, f"s{position % PALETTE}")
        for position, (spec, letter) in enumerate(letters(result).items())
    }


def spec_code(spec: str) -> str:
    """Return a system's name, as markup that may break its line after ``:`` and ``+``."""
    return "<code>" + re.sub("([:+])", r"\1<wbr>", escape(spec)) + "</code>"


def named(mark: Mark, spec: str) -> str:
    """Return a system's mark and name, as markup."""
    return f'<span class="system">{mark.badge} {spec_code(spec)}</span>'


def clean(text: str) -> str:
    """Replace what neither HTML nor UTF-8 can hold by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def escape(value: object) -> str:
    """Return ``value`` as text that is safe in markup and in a quoted attribute."""
    return html.escape(clean(str(value)), quote=True)


def cut(text: str, limit: int) -> str:
    """Return the first ``limit`` characters, the last an ellipsis if there were more."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def cutoff(measure: str) -> str:
    """Return the k of a measure's name; empty if it has none."""
    return measure.partition("@")[2]


def meaning(measure: str) -> str:
    """Return one sentence that explains a measure; empty for one this report does not know."""
    return _MEANINGS.get(measure.partition("@")[0], "")


def main_measure(result: EvalResult) -> str | None:
    """Return the measure the verdict is about; None if the systems have none in common."""
    systems = list(result.systems.values())
    common = [
        name
        for name in (systems[0].measures if systems else ())
        if all(name in system.measures for system in systems)
    ]
    return next(iter(headlines(common)), None)


def by_value(result: EvalResult, measure: str) -> list[SystemResult]:
    """Return the systems, best first; equals keep the order they were given in."""
    return sorted(result.systems.values(), key=lambda system: -system.measures[measure].value)


def score(value: float) -> str:
    """Return a measure's value with three decimals."""
    return f"{value:.3f}"


def duration(seconds: float) -> str:
    """Return seconds in the unit that reads best."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def size(count: float) -> str:
    """Return a number of bytes in the unit that reads best."""
    return human_bytes(round(count)).replace(".0 ", " ")


def plural(count: int, noun: str, many: str | None = None) -> str:
    """Return a count with its noun: ``1 query``, ``1,204 documents``."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def relevant_per_query(qrels: Mapping[str, Mapping[str, int]]) -> float:
    """Return how many documents a query of the qrels has to find, on average."""
    relevant = sum(value > 0 for judged in qrels.values() for value in judged.values())
    return relevant / len(qrels) if qrels else 0.0
