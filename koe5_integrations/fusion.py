"""Reciprocal rank fusion: one ranking out of several, by the ranks alone."""

from __future__ import annotations

from collections.abc import Sequence

from koe5_integrations.errors import ConfigError

__all__ = ["RRF_K", "reciprocal_rank_fusion"]

RRF_K = 60
"""The constant of Cormack, Clarke and Büttcher (SIGIR 2009), https://doi.org/10.1145/1571941.1572114"""


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[str]],
    *,
    k: float = RRF_K,
    weights: Sequence[float] | None = None,
) -> list[tuple[str, float]]:
    """Return ids and fused scores, best first: each ranking adds ``weight / (k + rank)``.

    Ranks count from 1. A repeated id counts where it stands first. Of equal scores the one with
    the better best rank comes first, then the one of the earlier ranking.

    Args:
        rankings: ids, best first.
        k: the higher, the less the first ranks stand out; 0 or more.
        weights: of each ranking, 0 or more; equal if None.

    Raises:
        ConfigError: ``k`` or a weight is negative, or their number is not that of the rankings.
    """
    if weights is None:
        weights = [1.0] * len(rankings)
    if len(weights) != len(rankings):
        raise ConfigError(f"{len(weights)} weights for {len(rankings)} rankings: give one for each")
    if not k >= 0 or not all(weight >= 0 for weight in weights):
        raise ConfigError(f"k={k!r} and weights={list(weights)!r} must be 0 or more")
    scores: dict[str, float] = {}
    first: dict[str, tuple[int, int]] = {}
    for number, (ranking, weight) in enumerate(zip(rankings, weights, strict=True)):
        for rank, key in enumerate(dict.fromkeys(ranking), start=1):
            scores[key] = scores.get(key, 0.0) + weight / (k + rank)
            first[key] = min(first.get(key, (rank, number)), (rank, number))
    return sorted(scores.items(), key=lambda item: (-item[1], first[item[0]]))
