"""Means over queries drawn anew, with replacement: what the intervals are made of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from koe5_integrations.errors import ConfigError

__all__ = ["resampled_means"]

Values = npt.NDArray[np.float64]

_BLOCK = 1 << 22  # numbers held at once: 32 MB


def resampled_means(columns: Values, samples: int, seed: int) -> Values:
    """Return the columns' means over resampled queries, shape (samples, m).

    Args:
        columns: values by query, shape (queries, m); one draw of queries serves all columns.
        samples: how often the queries are drawn.
        seed: of the random numbers.

    Raises:
        ConfigError: fewer than 1 sample.
    """
    if samples < 1:
        raise ConfigError(f"samples={samples} must be at least 1; 10,000 is the default")
    means = [counts @ columns for counts in _draws(len(columns), samples, seed)]
    return np.concatenate(means) / len(columns)


def _draws(n: int, samples: int, seed: int) -> Iterator[Values]:
    """How often each of n queries was drawn, blocks of shape (≤ samples, n)."""
    random = np.random.default_rng(seed)
    rows = max(1, min(samples, _BLOCK // n))
    for start in range(0, samples, rows):
        size = min(rows, samples - start)
        drawn = random.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n)
        yield counts.reshape(size, n).astype(np.float64)
