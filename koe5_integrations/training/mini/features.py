"""What a bag model reads of many texts, as flat arrays: made by the code that reads them in use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from koe5_integrations.backends.bag_features import BigramRows, bigrams
from koe5_integrations.backends.tokenizer import TextTokenizer
from koe5_integrations.errors import DatasetError

__all__ = ["MAX_COUNT", "FeatureReader", "Features", "Ints", "learn_bigrams"]

Ints: TypeAlias = npt.NDArray[np.int64]

MAX_COUNT = np.iinfo(np.uint16).max
_SLICE = 8192
_CODE_BITS = 42  # of a bigram: two code points of 21 bits


@dataclass(frozen=True)
class Features:
    """The features of many texts, each feature once per text with how often it occurs there.

    Attributes:
        ids: rows of the table, end to end, ascending within a text; int32.
        counts: how often each occurs in its text, at most :data:`MAX_COUNT`; uint16.
        offsets: where each text begins in ``ids``, and the end of the last; int64, one longer than
            the number of texts.
    """

    ids: npt.NDArray[np.int32]
    counts: npt.NDArray[np.uint16]
    offsets: Ints

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.offsets) - 1

    def select(self, rows: npt.NDArray[np.integer]) -> Features:
        """Return the texts at the positions ``rows``, in that order."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return Features(self.ids[at], self.counts[at], offsets)

    @classmethod
    def join(cls, parts: Sequence[Features]) -> Features:
        """Return the texts of all parts, one part after the other; at least one part."""
        lengths = [np.diff(part.offsets) for part in parts]
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths))]),
        )

    def document_frequency(self, size: int) -> Ints:
        """Return in how many of the texts each feature occurs, shape (size,)."""
        return np.bincount(self.ids, minlength=size)


class FeatureReader:
    """Turns texts into rows of a table: tokens first, then known bigrams, then buckets.

    Args:
        tokenizer: adjusted in place; its ids are the first rows.
        known: the codes of bigrams with a row of their own, ascending.
        buckets: rows that all other bigrams share.
        max_characters: of a text that are read.
    """

    def __init__(
        self, tokenizer: Tokenizer, known: Ints, buckets: int, *, max_characters: int
    ) -> None:
        pieces = tokenizer.get_vocab_size()
        self.size = pieces + len(known) + buckets
        """Rows of the table."""
        self._tokens = TextTokenizer(tokenizer, None, add_special_tokens=False)
        self._bigrams = BigramRows(known, buckets, pieces)
        self._max_characters = max_characters

    def __call__(self, texts: Sequence[str], prompt: str = "") -> Features:
        """Read texts with a prompt before each, of which no bigrams are taken."""
        none = Features(np.zeros(0, np.int32), np.zeros(0, np.uint16), np.zeros(1, np.int64))
        slices = (texts[at : at + _SLICE] for at in range(0, len(texts), _SLICE))
        return Features.join([none, *(self._read(part, prompt) for part in slices)])

    def _read(self, texts: Sequence[str], prompt: str) -> Features:
        cut = [text[: self._max_characters] for text in texts]
        tokens = self._tokens([prompt + text for text in cut])
        parts = [*(piece.ids for piece in tokens), *self._bigrams(cut)]
        owners = np.tile(np.arange(len(cut)), 2).repeat([len(part) for part in parts])
        distinct, counts = np.unique(owners * self.size + np.concatenate(parts), return_counts=True)
        ends = np.cumsum(np.bincount(distinct // self.size, minlength=len(cut)))
        return Features(
            (distinct % self.size).astype(np.int32),
            np.minimum(counts, MAX_COUNT).astype(np.uint16),
            np.concatenate([np.zeros(1, np.int64), ends]),
        )


def learn_bigrams(texts: Sequence[str], count: int) -> Ints:
    """Return the codes of the ``count`` bigrams that most texts hold, ascending; fewer if need be.

    Of equally frequent ones the lower code is taken.

    Raises:
        DatasetError: the texts hold no bigram.
    """
    found, seen = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for at in range(0, len(texts), _SLICE):
        owners, codes = bigrams(texts[at : at + _SLICE])
        distinct = np.unique(owners << _CODE_BITS | codes) & ((1 << _CODE_BITS) - 1)
        some, often = np.unique(distinct, return_counts=True)
        found.append(some)
        seen.append(often)
    codes, places = np.unique(np.concatenate(found), return_inverse=True)
    if not len(codes):
        raise DatasetError("the training pairs hold no word; check their columns")
    frequency = np.bincount(places, np.concatenate(seen))
    return np.sort(codes[np.argsort(-frequency, kind="stable")[:count]])
