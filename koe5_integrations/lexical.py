"""BM25 for Korean: which pieces of a text are compared decides whether it works at all.

A Korean word carries its particles and endings (문자열은, 문자열이, 문자열을), so that whole words
hardly ever meet. Character bigrams within words meet in the stem, need no dictionary and forgive
missing spaces; they are the default. The scores are those of the `bm25s` library.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from koe5_integrations.errors import ConfigError, MissingExtraError, shorten

if TYPE_CHECKING:
    from kiwipiepy import Kiwi

__all__ = ["TOKENIZERS", "BM25Index", "Tokenizer", "kiwi"]

Tokenizer: TypeAlias = Callable[[str], list[str]]
"""Cuts a text into the pieces that are compared."""

_WORD = re.compile(r"\w+")
# Nouns, verbs and adjectives, roots, foreign words, Chinese characters and numbers.
_CONTENT = ("N", "V", "XR", "SL", "SH", "SN")


def _fold(text: str) -> str:
    # NFKC joins decomposed Hangul (macOS file names, some PDFs) and makes full-width forms plain.
    return unicodedata.normalize("NFKC", text).lower()


def _bigrams(text: str) -> list[str]:
    return [
        word[start : start + 2]
        for word in _WORD.findall(_fold(text))
        for start in range(max(len(word) - 1, 1))
    ]


def _words(text: str) -> list[str]:
    return _fold(text).split()


def _characters(text: str) -> list[str]:
    return [character for character in _fold(text) if not character.isspace()]


@lru_cache(maxsize=1)
def kiwi() -> Kiwi:
    """Return the process's Kiwi, which takes seconds to load.

    Raises:
        ImportError: kiwipiepy is not installed.
    """
    from kiwipiepy import Kiwi

    return Kiwi()


def _morphemes(text: str) -> list[str]:
    analysed: Any = kiwi().tokenize(_fold(text))
    return [token.form for token in analysed if token.tag.startswith(_CONTENT)]


TOKENIZERS: dict[str, Tokenizer] = {
    "bigram": _bigrams,
    "whitespace": _words,
    "char": _characters,
    "kiwi": _morphemes,
}
"""By name: character bigrams within words, words between spaces, single characters (as in mteb's
Korean BM25), and content morphemes by Kiwi (extra ``ko``). All fold to NFKC and lower case."""


class BM25Index:
    """Texts made searchable by BM25 (Lucene's variant, as `bm25s` computes it).

    Args:
        texts: the texts, in the order their positions are given by.
        tokenizer: a name of :data:`TOKENIZERS`, or a function from a text to its pieces.
        k1: how fast repeats of a piece stop counting, 0 or more.
        b: how much long texts are held back, 0 to 1.

    Raises:
        ConfigError: an argument has an impossible value.
        MissingExtraError: bm25s, or kiwipiepy for ``kiwi``, is not installed.
    """

    def __init__(
        self,
        texts: Iterable[str],
        tokenizer: str | Tokenizer = "bigram",
        *,
        k1: float = 1.5,
        b: float = 0.75,
    ) -> None:
        self._tokenize = find_tokenizer(tokenizer)
        if not (k1 >= 0 and 0 <= b <= 1):
            raise ConfigError(f"k1={k1!r} must be 0 or more and b={b!r} between 0 and 1")
        try:
            from bm25s import BM25
        except ImportError as error:
            raise MissingExtraError("BM25 search", "eval") from error
        self._vocabulary: dict[str, int] = {}
        # Numbers at once: the pieces of a large corpus would not fit in memory as strings.
        numbered = [array("i", numbers) for numbers in self._number(texts)]
        self._size = len(numbered)
        self._bm25 = BM25(method="lucene", k1=k1, b=b)
        if self._vocabulary:
            self._bm25.index(
                (numbered, self._vocabulary), create_empty_token=False, show_progress=False
            )

    def search(self, query: str, top_k: int) -> list[tuple[int, float]]:
        """Return positions and scores of up to ``top_k`` texts, best first.

        Texts that share no piece with the query are not among them, so that the answer may be
        empty. Equal scores keep the order of the texts.

        Raises:
            ConfigError: ``top_k`` is below 1.
        """
        if top_k < 1:
            raise ConfigError(f"top_k={top_k!r} must be at least 1")
        pieces = self._tokenize(query)
        known = [self._vocabulary[piece] for piece in pieces if piece in self._vocabulary]
        if not known:
            return []
        scores = self._bm25.get_scores_from_ids(known)
        found = np.flatnonzero(scores > 0)
        if len(found) > top_k:
            least = np.partition(scores[found], -top_k)[-top_k]
            found = found[scores[found] >= least]
        best = found[np.argsort(-scores[found], kind="stable")][:top_k]
        return [(int(position), float(scores[position])) for position in best]

    @property
    def nbytes(self) -> int:
        """Bytes of the scores that searching reads; the vocabulary comes on top."""
        if not self._vocabulary:
            return 0
        parts: Iterable[npt.NDArray[Any]] = (
            self._bm25.scores[part] for part in ("data", "indices", "indptr")
        )
        return sum(part.nbytes for part in parts)

    def __len__(self) -> int:
        return self._size

    def _number(self, texts: Iterable[str]) -> Iterator[list[int]]:
        for text in texts:
            yield [
                self._vocabulary.setdefault(piece, len(self._vocabulary))
                for piece in self._tokenize(text)
            ]


def find_tokenizer(tokenizer: object) -> Tokenizer:
    """Return the function a name of :data:`TOKENIZERS` stands for, or the function given.

    Raises:
        ConfigError: it is neither.
        MissingExtraError: kiwipiepy is not installed and needed.
    """
    if isinstance(tokenizer, str) and tokenizer in TOKENIZERS:
        # Looked for only: loading its model takes a second.
        if tokenizer == "kiwi" and find_spec("kiwipiepy") is None:
            raise MissingExtraError("the tokenizer 'kiwi'", "ko")
        return TOKENIZERS[tokenizer]
    if callable(tokenizer):
        return tokenizer
    raise ConfigError(
        f"tokenizer={shorten(tokenizer)} must be one of {', '.join(map(repr, TOKENIZERS))}, "
        "or a function from a text to a list of strings"
    )
