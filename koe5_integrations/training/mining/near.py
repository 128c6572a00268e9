"""Passages that are nearly the same text: a negative must be neither a positive nor a copy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from koe5_integrations.training.pairs import normalise

__all__ = ["NearDuplicates"]

_LENGTH = 4
# A question's positives and its candidates, which are compared with one another.
_KEPT = 4096


class NearDuplicates:
    """Compares passages by the letters they share, whatever the model.

    A passage is nearly another if the shorter one's sequences of four letters and digits, spaces
    and punctuation left out, occur in the other to this share; so are a passage and its start, and
    two slices of a document that mostly overlap.

    Args:
        passages: by whose positions one asks.
        share: from which on they are nearly the same, above 0 to 1; None finds none.
    """

    def __init__(self, passages: Sequence[str], share: float | None) -> None:
        self._share = share
        self._pieces = lru_cache(_KEPT)(lambda position: _pieces(passages[position]))

    def is_near(self, candidate: int, others: Iterable[int]) -> bool:
        """Whether the passage at a position is nearly one of those at other positions."""
        if self._share is None:
            return False
        mine = self._pieces(candidate)
        return any(
            len(mine & theirs) >= self._share * min(len(mine), len(theirs))
            for theirs in map(self._pieces, others)
        )


def _pieces(text: str) -> frozenset[str]:
    letters = normalise(text)
    return frozenset(
        letters[start : start + _LENGTH] for start in range(max(1, len(letters) - _LENGTH + 1))
    )
