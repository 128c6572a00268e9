"""Texts as bags of token ids in flat arrays, which is all that a static embedding reads of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

Ints: TypeAlias = npt.NDArray[np.int64]

_SLICE = 20_000


@dataclass(frozen=True)
class Bags:
    """Token ids of many texts.

    Attributes:
        ids: all token ids end to end, int32.
        offsets: where each text begins in `ids`, and the end of the last; int64, one longer than
            the number of texts.
    """

    ids: npt.NDArray[np.int32]
    offsets: Ints

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.offsets) - 1

    def select(self, rows: Ints, *, max_tokens: int) -> Bags:
        """Return the texts at the positions `rows`, each cut to its first `max_tokens` tokens."""
        lengths = np.minimum(self.offsets[rows + 1] - self.offsets[rows], max_tokens)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Bags(self.ids[np.repeat(self.offsets[rows], lengths) + within], offsets)

    def groups(self) -> Ints:
        """Return a number per text that is equal for texts of equal tokens; int64."""
        numbers: dict[bytes, int] = {}
        return np.array(
            [
                numbers.setdefault(self.ids[start:end].tobytes(), len(numbers))
                for start, end in zip(self.offsets[:-1], self.offsets[1:], strict=True)
            ],
            dtype=np.int64,
        )


def bag_texts(tokenizer: Tokenizer, texts: Sequence[str], *, prompt: str) -> Bags:
    """Tokenize each text with `prompt` before it, without special tokens, uncut."""
    pieces: list[npt.NDArray[np.int32]] = []
    for start in range(0, len(texts), _SLICE):
        slice_texts = [prompt + text for text in texts[start : start + _SLICE]]
        encodings = tokenizer.encode_batch_fast(slice_texts, add_special_tokens=False)
        pieces.extend(np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings)
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    ids = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int32)
    return Bags(ids, np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)]))


def document_frequency(bags: Bags, vocab_size: int) -> Ints:
    """Return in how many of the texts each token occurs, shape (vocab_size,)."""
    owners = np.repeat(np.arange(len(bags)), np.diff(bags.offsets))
    distinct = np.unique(owners * vocab_size + bags.ids)
    return np.bincount(distinct % vocab_size, minlength=vocab_size)
