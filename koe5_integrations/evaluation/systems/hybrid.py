"""Several systems as one, by reciprocal rank fusion."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.results import Hit, IndexStats, Run, System
from koe5_integrations.fusion import RRF_K, reciprocal_rank_fusion

__all__ = ["HybridSystem"]


class HybridSystem:
    """Fuses the rankings of other systems: a document gains ``1 / (k + rank)`` from each.

    Args:
        systems: at least two.
        spec: its name in reports; None is ``hybrid:`` and the others' joined by ``+``.
        k: the higher, the less the first ranks stand out.
        depth: documents taken of each system's ranking; more if more are asked for.

    Raises:
        ConfigError: fewer than two systems, or ``k`` or ``depth`` out of range.
    """

    def __init__(
        self,
        systems: Sequence[System],
        *,
        spec: str | None = None,
        k: float = RRF_K,
        depth: int = 100,
    ) -> None:
        if len(systems) < 2:
            raise ConfigError(f"a hybrid needs two systems or more, not {len(systems)}")
        if not k >= 0 or depth < 1:
            raise ConfigError(f"k={k!r} must be 0 or more and depth={depth!r} at least 1")
        self.spec = spec or "hybrid:" + "+".join(system.spec for system in systems)
        self.systems = tuple(systems)
        self._k = k
        self._depth = depth

    def index(self, corpus: Mapping[str, str]) -> IndexStats:
        """Index the corpus in each system, one after the other. Raises as they do."""
        started = time.perf_counter()
        stats = [system.index(corpus) for system in self.systems]
        sizes = [each.bytes for each in stats]
        return IndexStats(
            time.perf_counter() - started,
            None if None in sizes else sum(size or 0 for size in sizes),
            sum(each.embedded for each in stats),
        )

    def search(self, queries: Mapping[str, str], top_k: int) -> Run:
        """Return the ``top_k`` best fused documents of each query. Raises as the systems do."""
        if top_k < 1:
            raise ConfigError(f"top_k={top_k!r} must be at least 1")
        depth = max(top_k, self._depth)
        runs = [system.search(queries, depth) for system in self.systems]
        fused: dict[str, list[Hit]] = {}
        for query_id in queries:
            rankings = [[hit.doc_id for hit in run.get(query_id, ())] for run in runs]
            best = reciprocal_rank_fusion(rankings, k=self._k)[:top_k]
            fused[query_id] = [Hit(doc_id, score) for doc_id, score in best]
        return fused

    def facts(self) -> Mapping[str, Any]:
        """Return the fusion's parameters and the facts of each system."""
        return {
            "kind": "hybrid",
            "fusion": "reciprocal rank",
            "k": self._k,
            "depth": self._depth,
            "systems": {system.spec: dict(system.facts()) for system in self.systems},
        }

    @property
    def warnings(self) -> Sequence[str]:
        """What the systems have to say, each sentence after the system's name."""
        return [
            f"{system.spec}: {sentence}"
            for system in self.systems
            for sentence in getattr(system, "warnings", ())
        ]

    @property
    def used_cache(self) -> bool:
        """Whether searching many queries took vectors from a cache, and so can't be timed."""
        return any(getattr(system, "used_cache", False) for system in self.systems)
