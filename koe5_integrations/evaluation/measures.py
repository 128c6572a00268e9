"""The names of the measures: ``ndcg@10`` and its kind, read and checked."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from koe5_integrations.errors import ConfigError, shorten

__all__ = ["MEASURES", "Measure", "parse_measure"]

_NAMES = ("ndcg", "recall", "precision", "map", "mrr", "success", "mean_f1", "f1_of_means")
_SET_BASED = frozenset({"recall", "precision", "success", "mean_f1", "f1_of_means"})

MEASURES = (
    *(
        f"{name}@{k}"
        for name in ("ndcg", "recall", "precision", "map", "mrr", "success")
        for k in (1, 3, 5, 10, 100)
    ),
    *(f"{name}@{k}" for name in ("f1_of_means", "mean_f1") for k in (1, 3)),
)
"""The measures of a report."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric at a cut-off, such as ``ndcg@10``.

    Attributes:
        name: ``ndcg``, ``recall``, ``precision``, ``map``, ``mrr``, ``success`` (any relevant
            document found), ``mean_f1`` (mean of each query's F1) or ``f1_of_means`` (harmonic
            mean of mean precision and mean recall, as KoE5 publishes it).
        k: how many of the first documents are looked at.
    """

    name: str
    k: int

    @property
    def is_mean(self) -> bool:
        """Whether it is a mean of a value that each query has."""
        return self.name != "f1_of_means"

    @property
    def counts_hits(self) -> bool:
        """Whether the rank inside the first k makes no difference, so that hits tell it all."""
        return self.k == 1 or self.name in _SET_BASED

    def __str__(self) -> str:
        """Return ``name@k``."""
        return f"{self.name}@{self.k}"


def parse_measure(text: str) -> Measure:
    """Read ``ndcg@10``.

    Raises:
        ConfigError: the name is unknown or the cut-off is not a whole number from 1 on.
    """
    name, at, cut = text.partition("@") if isinstance(text, str) else ("", "", "")
    if name not in _NAMES:
        close = difflib.get_close_matches(name, _NAMES, n=1)
        hint = f"did you mean {close[0]}@{cut or 10}? " if close else ""
        raise ConfigError(
            f"measure {shorten(text)} is unknown; {hint}write one of {', '.join(_NAMES)} with a "
            "cut-off, such as ndcg@10"
        )
    if not at or not (cut.isascii() and cut.isdecimal()) or int(cut) < 1:
        raise ConfigError(
            f"measure {shorten(text)} needs a cut-off of at least 1, such as {name}@10"
        )
    return Measure(name, int(cut))
