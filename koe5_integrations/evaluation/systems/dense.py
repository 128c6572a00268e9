"""Dense search as a system: an encoder's vectors, ranked exactly, as floats or compressed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.results import Hit, IndexStats, Run
from koe5_integrations.evaluation.search import exact_search
from koe5_integrations.evaluation.systems.compressed import CompressedVectors, Form
from koe5_integrations.evaluation.systems.embedding import TextEmbedder
from koe5_integrations.types import Vectors

__all__ = ["DenseSystem"]


class DenseSystem:
    """Every document compared with every query by inner product: what the embedding can do at best.

    Args:
        encoder: makes the vectors.
        spec: its name in reports; None is ``dense:`` and the encoder's model.
        cache: folder of vectors kept between runs; None is the encoder's own choice.
        show_progress: draw progress bars on stderr.
        form: how the vectors are compressed; None keeps floats.

    Raises:
        ConfigError: there is no such form.
        MissingExtraError: sentence-transformers, which compresses, is not installed.
    """

    def __init__(
        self,
        encoder: KoE5Encoder,
        *,
        spec: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        show_progress: bool = False,
        form: Form | None = None,
    ) -> None:
        self.spec = spec or f"dense:{encoder.model}" + (f"@{form}" if form else "")
        self._compressed = CompressedVectors(form) if form else None
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
        if self._compressed is not None:
            self._compressed.load()
        started = time.perf_counter()
        self._ids, self._vectors, new = self._embedder.embed(corpus, "passage")
        size = self._vectors.nbytes
        if self._compressed is not None:
            size = self._compressed.index(self._vectors, self.encoder.fingerprint)
        return IndexStats(time.perf_counter() - started, size, new)

    def search(self, queries: Mapping[str, str], top_k: int) -> Run:
        """Return the ``top_k`` nearest documents of each query, with cosine similarity as score.

        The scores of bits alone are of another kind (see
        :meth:`~koe5_integrations.compression.CompressedIndex.search`). Equal scores keep the order
        of the corpus. A query with nothing visible in it gets an empty answer.

        Raises:
            ConfigError: nothing is indexed yet, or ``top_k`` is below 1.
            DatasetError: a query is not a text, named by its id.
            KoE5Error: the model can't be run.
        """
        if self._vectors is None:
            raise ConfigError(f"{self.spec} has nothing to search: call index() first")
        ids, vectors, _ = self._embedder.embed(queries, "query")
        if self._compressed is None:
            rows, scores = exact_search(vectors, self._vectors, top_k)
        else:
            rows, scores = self._compressed.search(ids, vectors, top_k)
        found = {
            query_id: [Hit(self._ids[row], score) for row, score in zip(*answer, strict=True)]
            for query_id, *answer in zip(ids, rows.tolist(), scores.tolist(), strict=True)
        }
        return {query_id: found.get(query_id, []) for query_id in queries}

    def facts(self) -> Mapping[str, Any]:
        """Return the model, everything that decides its vectors, and what compression lost."""
        compressed = self._compressed.facts() if self._compressed is not None else {}
        return {"kind": "dense", "search": "exact", **self._embedder.facts(), **compressed}

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
            encoder,
            spec=spec,
            cache=self._embedder.cache,
            show_progress=self._show_progress,
            form=self._compressed.form if self._compressed is not None else None,
        )
