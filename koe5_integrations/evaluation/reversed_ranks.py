"""The worst-first artefact: what a score becomes if each answer is ranked backwards.

AutoRAG before 0.2.17 sorted Chroma's distances in descending order (its issue 699, pull request
713), so every list of k documents was scored from its end. With one relevant document per query
the true ranks can be worked out again from what was published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from koe5_integrations.errors import ConfigError

__all__ = ["RankCounts", "recover_ranks", "reverse"]


@dataclass(frozen=True)
class RankCounts:
    """How many queries have their one relevant document at each rank.

    Attributes:
        queries: all of them, also those whose document was not found.
        at: of the queries with the document at rank 1, 2, …, k.
    """

    queries: int
    at: tuple[int, ...]

    def __post_init__(self) -> None:
        if min(self.at, default=0) < 0 or sum(self.at) > self.queries:
            raise ConfigError(
                f"{list(self.at)} of {self.queries} queries is no count of ranks: it must be 0 or "
                "more, and no more than there are"
            )

    @property
    def reversed(self) -> RankCounts:
        """The counts after every list of k documents is turned round."""
        return RankCounts(self.queries, self.at[::-1])

    @property
    def ndcg(self) -> float:
        """NDCG@k, 0 to 1."""
        gains = (count / math.log2(rank + 1) for rank, count in enumerate(self.at, start=1))
        return sum(gains) / self.queries

    @property
    def mrr(self) -> float:
        """MRR@k, 0 to 1."""
        return sum(count / rank for rank, count in enumerate(self.at, start=1)) / self.queries

    @property
    def recall(self) -> float:
        """Recall@k, 0 to 1."""
        return sum(self.at) / self.queries


def recover_ranks(
    queries: int, ndcg_at_1: float, recall_at_3: float, reversed_ndcg_at_3: float
) -> RankCounts:
    """Work out the true ranks behind an NDCG@3 that was computed worst first.

    Args:
        queries: with one relevant document each.
        ndcg_at_1: share of queries with it at rank 1 (turning round one document changes nothing).
        recall_at_3: share of queries with it among the first 3.
        reversed_ndcg_at_3: as published, 0 to 1.

    Raises:
        ConfigError: no counts give these figures, so the artefact is not their cause.
    """
    first, found = round(ndcg_at_1 * queries), round(recall_at_3 * queries)
    # Turned round, rank 1 earns 1/2, rank 2 as ever 1/log2(3), and rank 3 the whole.
    rest = reversed_ndcg_at_3 * queries - first / 2
    second = round((found - first - rest) / (1 - 1 / math.log2(3)))
    third = found - first - second
    if min(first, second, third) >= 0 and found <= queries:
        counts = RankCounts(queries, (first, second, third))
        if abs(counts.reversed.ndcg - reversed_ndcg_at_3) <= 0.0002:
            return counts
    raise ConfigError(
        f"NDCG@3 {reversed_ndcg_at_3:.4f} with {first} right at rank 1 and {found} among the first "
        f"3 of {queries} is not what ranking worst first gives"
    )


def reverse(ranked: Mapping[str, Sequence[str]], k: int) -> dict[str, list[str]]:
    """Return each query's first ``k`` document ids, worst first, as the artefact had them."""
    return {query_id: list(ids[:k])[::-1] for query_id, ids in ranked.items()}
