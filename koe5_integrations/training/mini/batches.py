"""Batches of pairs, each of one source, so that a query's negatives are of its own kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from koe5_integrations.errors import DatasetError
from koe5_integrations.training.mini.features import Ints

__all__ = ["draw_batches", "members"]


def members(sources: Ints, rows: Ints) -> list[Ints]:
    """Return those of ``rows`` that are of each source, for sources of at least two.

    Args:
        sources: number of each pair's source.
        rows: pairs to be trained on.

    Raises:
        DatasetError: no source has two pairs, so that there are no negatives.
    """
    found = [rows[sources[rows] == source] for source in np.unique(sources[rows])]
    found = [some for some in found if len(some) > 1]
    if not found:
        raise DatasetError("training needs a source of at least 2 pairs beside the held-out ones")
    return found


def draw_batches(
    sources: Sequence[Ints], batch_size: int, power: float, rng: np.random.Generator
) -> Iterator[Ints]:
    """Yield positions of pairs without end; each source's pairs come round in shuffled passes.

    A batch holds at most half of its source, so that small sources don't meet the same negatives
    every time. What a pass has left when it is too little for a batch is left out.

    Args:
        sources: positions of each source's pairs, at least 2.
        batch_size: pairs in a batch.
        power: a source is drawn with the probability of its size to this power.
        rng: source of every draw.
    """
    shares = np.array([len(rows) for rows in sources], dtype=np.float64) ** power
    shares /= shares.sum()
    decks = [rng.permutation(rows) for rows in sources]
    while True:
        source = int(rng.choice(len(sources), p=shares))
        count = min(batch_size, max(2, len(sources[source]) // 2))
        if len(decks[source]) < count:
            decks[source] = rng.permutation(sources[source])
        yield decks[source][:count]
        decks[source] = decks[source][count:]
