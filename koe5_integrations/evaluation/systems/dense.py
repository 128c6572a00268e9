"""Dense search as a system: an encoder's vectors, ranked exactly."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.cache import EmbeddingCache
from koe5_integrations.evaluation.results import Hit, IndexStats, Run
from koe5_integrations.evaluation.search import exact_search
from koe5_integrations.evaluation.systems.embedding import TextEmbedder
from koe5_integrations.types import Vectors

__all__ = ["DenseSystem"]


class DenseSystem:
    """Every document compared with every query by inner product: what the embedding can do at best.

    Args:
        encoder: makes the vectors.
        spec: its name in reports; None is ``dense:`` and the encoder's model.
        cache: keeps vectors between runs.
        show_progress: draw progress bars on stderr.
    """

    def __init__(
        self,
        encoder: KoE5Encoder,
        *,
        spec: str | None = None,
        cache: EmbeddingCache | None = None,
        show_progress: bool = False,
    ) -> None:
        self.spec = spec or f"dense:{encoder.model}"
        self._embedder = TextEmbedder(encoder, cache, show_progress)
        self._show_progress = show_progress
        self._ids: list[str] = []
        self._vectors: Vectors | None = None

    def index(self, corpus: Mapping[str, str]) -> IndexStats:
        """Embed the documents as passages; those with nothing visible in them are left out.

        Raises:
            DatasetError: a document is not a text, named by its id.
            KoE5Error: the model can't be had, or not be run.
        """
        started = time.perf_counter()
        self._ids, self._vectors, new = self._embedder.embed(corpus, "passage")
        return IndexStats(time.perf_counter() - started, self._vectors.nbytes, new)

    def search(self, queries: Mapping[str, str], top_k: int) -> Run:
        """Return the ``top_k`` nearest documents of each query, with cosine similarity as score.

        Equal scores keep the order of the corpus. A query with nothing visible in it gets an empty
        answer.

        Raises:
            ConfigError: nothing is indexed yet, or ``top_k`` is below 1.
            DatasetError: a query is not a text, named by its id.
            KoE5Error: the model can't be run.
        """
        if self._vectors is None:
            raise ConfigError(f"{self.spec} has nothing to search: call index() first")
        ids, vectors, _ = self._embedder.embed(queries, "query")
        rows, scores = exact_search(vectors, self._vectors, top_k)
        found = {
            query_id: [Hit(self._ids[row], score) for row, score in zip(*answer, strict=True)]
            for query_id, *answer in zip(ids, rows.tolist(), scores.tolist(), strict=True)
        }
        return {query_id: found.get(query_id, []) for query_id in queries}

    def facts(self) -> Mapping[str, Any]:
        """Return the model, and everything that decides its vectors."""
        return {"kind": "dense", "search": "exact", **self._embedder.facts()}

    @property
    def encoder(self) -> KoE5Encoder:
        """What makes the vectors."""
        return self._embedder.encoder

    @property
    def warnings(self) -> Sequence[str]:
        """What was left out or cut so far, one sentence each."""
        return self._embedder.warnings

    @property
    def used_cache(self) -> bool:
        """Whether searching many queries took vectors from the cache, and so can't be timed."""
        return self._embedder.used_cache

    def with_encoder(self, encoder: KoE5Encoder, spec: str) -> DenseSystem:
        """Return the same system, not indexed, with another encoder and name."""
        return DenseSystem(
            encoder, spec=spec, cache=self._embedder.cache, show_progress=self._show_progress
        )
