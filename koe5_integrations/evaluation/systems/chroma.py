"""Dense search through a Chroma collection: next to exact search it shows what the index loses."""

from __future__ import annotations

import os
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.results import Hit, IndexStats, Run
from koe5_integrations.evaluation.systems.embedding import TextEmbedder

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

__all__ = ["ChromaSystem"]

_QUERIES_AT_ONCE = 256


class ChromaSystem:
    """An encoder's vectors in a Chroma collection of their own, in a folder that goes with it.

    Args:
        encoder: makes the vectors.
        spec: its name in reports; None is ``chroma:`` and the encoder's model.
        cache: folder of vectors kept between runs, or None, which is the encoder's own choice; the
            collection is always built anew.
        show_progress: draw progress bars on stderr.

    Raises:
        MissingExtraError: chromadb is not installed.
    """

    def __init__(
        self,
        encoder: KoE5Encoder,
        *,
        spec: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        show_progress: bool = False,
    ) -> None:
        # Not at the top: chromadb takes a second, and only this system needs it.
        from koe5_integrations.chroma import open_collection

        self._open_collection = open_collection
        self.spec = spec or f"chroma:{encoder.model}"
        self._embedder = TextEmbedder(encoder, cache, show_progress)
        self._show_progress = show_progress
        self._collection: Collection | None = None
        self._places: dict[str, int] = {}
        self._close: weakref.finalize[..., ChromaSystem] | None = None

    def index(self, corpus: Mapping[str, str]) -> IndexStats:
        """Embed the documents as passages and load them into a new collection.

        Raises:
            DatasetError: a document is not a text, named by its id.
            KoE5Error: the model can't be had, or not be run.
        """
        self.close()
        started = time.perf_counter()
        ids, vectors, new = self._embedder.embed(corpus, "passage")
        folder = tempfile.TemporaryDirectory(prefix="koe5-chroma-", ignore_cleanup_errors=True)
        client = _client(folder.name)
        self._close = weakref.finalize(self, _remove, client, folder)
        self._collection = self._open_collection(client, "evaluation", self._embedder.encoder)
        size = client.get_max_batch_size()
        for start in range(0, len(ids), size):
            batch = slice(start, start + size)
            self._collection.add(ids=ids[batch], embeddings=list(vectors[batch]))
        self._places = {doc_id: place for place, doc_id in enumerate(corpus)}
        stored = sum(file.stat().st_size for file in Path(folder.name).rglob("*") if file.is_file())
        return IndexStats(time.perf_counter() - started, stored, new)

    def search(self, queries: Mapping[str, str], top_k: int) -> Run:
        """Return what Chroma finds nearest to each query, with cosine similarity as score.

        Raises:
            ConfigError: nothing is indexed yet, or ``top_k`` is below 1.
            DatasetError: a query is not a text, named by its id.
            KoE5Error: the model can't be run.
        """
        if self._collection is None:
            raise ConfigError(f"{self.spec} has nothing to search: call index() first")
        if top_k < 1:
            raise ConfigError(f"top_k={top_k!r} must be at least 1")
        ids, vectors, _ = self._embedder.embed(queries, "query")
        run: dict[str, list[Hit]] = {query_id: [] for query_id in queries}
        limit = min(top_k, self._collection.count())
        for start in range(0, len(ids) if limit else 0, _QUERIES_AT_ONCE):
            batch = slice(start, start + _QUERIES_AT_ONCE)
            answer: Any = self._collection.query(
                query_embeddings=list(vectors[batch]), n_results=limit, include=["distances"]
            )
            for query_id, found, distances in zip(
                ids[batch], answer["ids"], answer["distances"], strict=True
            ):
                # Chroma leaves the order of equal distances open.
                nearest = sorted(
                    zip(distances, found, strict=True),
                    key=lambda hit: (hit[0], self._places[hit[1]]),
                )
                run[query_id] = [Hit(doc_id, 1 - float(distance)) for distance, doc_id in nearest]
        return run

    def facts(self) -> Mapping[str, Any]:
        """Return the model, everything that decides its vectors, and the index's settings."""
        settings = self._collection.configuration_json.get("hnsw") if self._collection else None
        return {
            "kind": "chroma",
            "search": "hnsw",
            "hnsw": settings,
            "versions": {"chromadb": version("chromadb")},
            **self._embedder.facts(),
        }

    def close(self) -> None:
        """Delete the collection and its folder; also done when the system is garbage."""
        if self._close is not None:
            self._close()
        self._collection = None

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

    def with_encoder(self, encoder: KoE5Encoder, spec: str) -> ChromaSystem:
        """Return the same system, not indexed, with another encoder and name."""
        return ChromaSystem(
            encoder, spec=spec, cache=self._embedder.cache, show_progress=self._show_progress
        )


def _client(folder: str) -> ClientAPI:
    import chromadb
    from chromadb.config import Settings

    return chromadb.PersistentClient(folder, settings=Settings(anonymized_telemetry=False))


def _remove(client: Any, folder: tempfile.TemporaryDirectory[str]) -> None:
    client.close()
    folder.cleanup()
