"""BM25 as a system: the lexical floor that an embedding has to beat."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.results import Hit, IndexStats, Run
from koe5_integrations.lexical import BM25Index, Tokenizer

__all__ = ["BM25System"]


class BM25System:
    """BM25 over the documents of a corpus, as Lucene weighs it.

    Args:
        tokenizer: ``bigram``, ``whitespace``, ``char``, ``kiwi`` (see
            :data:`~koe5_integrations.lexical.TOKENIZERS`), or a function from a text to its pieces.
        k1: how fast repeats of a piece stop counting.
        b: how much long documents are held back.
        spec: its name in reports; None is ``bm25:`` and the tokenizer's name.

    Raises:
        ConfigError: an argument has an impossible value.
        MissingExtraError: bm25s, or kiwipiepy for ``kiwi``, is not installed.
    """

    def __init__(
        self,
        tokenizer: str | Tokenizer = "bigram",
        *,
        k1: float = 1.5,
        b: float = 0.75,
        spec: str | None = None,
    ) -> None:
        BM25Index([], tokenizer, k1=k1, b=b)  # checks the arguments before anything is loaded
        name = tokenizer if isinstance(tokenizer, str) else tokenizer.__qualname__
        self.spec = spec or f"bm25:{name}"
        self._facts = {"kind": "bm25", "method": "lucene", "k1": k1, "b": b, "tokenizer": name}
        self._tokenizer = tokenizer
        self._k1, self._b = k1, b
        self._ids: list[str] = []
        self._index: BM25Index | None = None

    def index(self, corpus: Mapping[str, str]) -> IndexStats:
        """Count the pieces of every document."""
        started = time.perf_counter()
        self._index = BM25Index(corpus.values(), self._tokenizer, k1=self._k1, b=self._b)
        self._ids = list(corpus)
        return IndexStats(time.perf_counter() - started, self._index.nbytes)

    def search(self, queries: Mapping[str, str], top_k: int) -> Run:
        """Return up to ``top_k`` documents for each query; none where no piece is known.

        Raises:
            ConfigError: nothing is indexed yet, or ``top_k`` is below 1.
        """
        if self._index is None:
            raise ConfigError(f"{self.spec} has nothing to search: call index() first")
        return {
            query_id: [
                Hit(self._ids[position], score)
                for position, score in self._index.search(text, top_k)
            ]
            for query_id, text in queries.items()
        }

    def facts(self) -> Mapping[str, Any]:
        """Return the parameters and the versions of the libraries that computed."""
        libraries = ["bm25s", *(["kiwipiepy"] if self._tokenizer == "kiwi" else [])]
        return {**self._facts, "versions": {name: version(name) for name in libraries}}
