"""What a bag model reads of a text beside its tokens: the pairs of characters within words.

A Korean word carries its particles and endings, which a tokenizer cuts in one place or another.
Bigrams meet in the stem all the same.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["BigramRows", "bigrams"]

_BITS = 21  # of a code point
# Beyond lie rare Chinese characters and nothing else that is in use.
_LISTED = 0x20000
# Knuth's multiplicative hash: 2**64 by the golden ratio.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def bigrams(texts: Sequence[str]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Return the character bigrams within the texts' words, in NFKC and lower case.

    A word of one letter is kept as that letter. Words are runs of letters, digits and ``_``.

    Returns:
        The text that each is from, ascending, and its code: both code points, 21 bits each.
    """
    folded = (unicodedata.normalize("NFKC", text).lower().replace("\n", " ") for text in texts)
    points = np.frombuffer("\n".join(folded).encode("utf-32-le", "replace"), dtype=np.uint32)
    points = points.astype(np.int64)
    owners = np.cumsum(points == ord("\n"))
    in_word = _in_word()[np.minimum(points, _LISTED)]
    before, after = np.r_[False, in_word[:-1]], np.r_[in_word[1:], False]
    codes = np.where(after, (points << _BITS) | np.r_[points[1:], 0], points)
    kept = in_word & (after | ~before)
    return owners[kept], codes[kept]


@cache
def _in_word() -> npt.NDArray[np.bool_]:
    letters = [chr(point).isalnum() or chr(point) == "_" for point in range(_LISTED)]
    return np.array([*letters, True])


class BigramRows:
    """Numbers bigrams as the rows of a table: known ones by name, the others by hash.

    Args:
        known: codes as :func:`bigrams` gives them, ascending, int64; at least one.
        buckets: rows that all others share, at least one.
        first: number of the first row; the buckets come after the known ones.
    """

    def __init__(self, known: npt.NDArray[np.int64], buckets: int, first: int) -> None:
        self._known = known
        self._buckets = np.uint64(buckets)
        self._first = first

    def __call__(self, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """Return each text's rows, as often as its bigrams occur."""
        owners, codes = bigrams(texts)
        at = np.minimum(np.searchsorted(self._known, codes), len(self._known) - 1)
        hashed = (codes.astype(np.uint64) * _GOLDEN) >> np.uint64(40)
        other = len(self._known) + (hashed % self._buckets).astype(np.int64)
        rows = (self._first + np.where(self._known[at] == codes, at, other)).astype(np.int32)
        ends = np.searchsorted(owners, np.arange(1, len(texts)))
        return np.split(rows, ends) if len(texts) else []
