"""The paired permutation test: what differences arise if two systems' answers are swapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.metrics import harmonic_mean

__all__ = ["Difference", "critical_values", "p_values"]

Values = npt.NDArray[np.float64]

_EXACT = 16  # queries that differ, up to which all 2**n swaps are tried
_BLOCK = 1 << 22  # numbers held at once: 32 MB
# Two sums of the same numbers in another order differ by less than this share of their size.
_ROUNDING = 1e-10


@dataclass(frozen=True)
class Difference:
    """Two systems' values, paired by query.

    One column is a mean over queries. Two are precision and recall, whose means are combined to
    their harmonic mean (``f1_of_means``).

    Attributes:
        first: shape (queries, 1 or 2).
        second: the same of the other system.
    """

    first: Values
    second: Values

    @property
    def observed(self) -> float:
        """The difference of the two systems' figures, first minus second."""
        return float(self.after(np.zeros((1, self.first.shape[1])))[0])

    @property
    def gaps(self) -> Values:
        """First minus second, by query."""
        return self.first - self.second

    @property
    def differing(self) -> npt.NDArray[np.intp]:
        """The queries on which they differ; swapping the others changes nothing."""
        return np.flatnonzero(self.gaps.any(axis=1))

    def after(self, moved: Values) -> Values:
        """Return the difference of the figures after swaps.

        Args:
            moved: per arrangement, the sum of the gaps of the swapped queries, shape
                (arrangements, 1 or 2).
        """
        n = len(self.first)
        means = (self.first.sum(axis=0) - moved) / n, (self.second.sum(axis=0) + moved) / n
        if moved.shape[1] == 1:
            return np.asarray(means[0][:, 0] - means[1][:, 0], dtype=np.float64)
        first, second = (harmonic_mean(mean[:, 0], mean[:, 1]) for mean in means)
        return np.asarray(first - second, dtype=np.float64)


def p_values(tests: Sequence[Difference], *, samples: int, seed: int) -> Values:
    """Return the two-sided p-value of each test, shape (tests,).

    Exact where few queries differ; else (reached + 1) / (samples + 1), so that it is never 0.

    Args:
        tests: all on equally many queries; the random swaps are drawn once for all of them.
        samples: random swaps.
        seed: of the random numbers.

    Raises:
        ConfigError: fewer than 1 sample.
    """

    def share(test: Difference, sizes: Values, exact: bool) -> float:
        goal = abs(test.observed)
        reached = int(np.count_nonzero(sizes >= goal - _slack(test)))
        return reached / len(sizes) if exact else (reached + 1) / (len(sizes) + 1)

    return _evaluate(tests, share, samples=samples, seed=seed)


def critical_values(
    tests: Sequence[Difference], *, level: float, samples: int, seed: int
) -> Values:
    """Return of each test the least difference that would have a p-value of at most ``level``.

    Infinite where no arrangement is that rare. Arguments and errors as :func:`p_values`.
    """

    def least(test: Difference, sizes: Values, exact: bool) -> float:
        extra = 0 if exact else 1
        ordered = np.sort(sizes)[::-1]
        # How many arrangements reach each size, counting all that equal it but for rounding.
        reached = len(sizes) - np.searchsorted(ordered[::-1], ordered - _slack(test), side="left")
        rare = (reached + extra) / (len(sizes) + extra) <= level
        return float(ordered[rare][-1]) if rare.any() else float("inf")

    return _evaluate(tests, least, samples=samples, seed=seed)


def _slack(test: Difference) -> float:
    return _ROUNDING * float(np.abs(test.gaps).sum()) / len(test.first)


def _evaluate(
    tests: Sequence[Difference],
    judge: Callable[[Difference, Values, bool], float],
    *,
    samples: int,
    seed: int,
) -> Values:
    if samples < 1:
        raise ConfigError(f"samples={samples} must be at least 1; 10,000 is the default")
    result = np.empty(len(tests))
    sampled: list[int] = []
    for number, test in enumerate(tests):
        rows = test.differing
        if len(rows) > _EXACT:
            sampled.append(number)
        else:
            arrangements = _all_swaps(len(rows)) @ test.gaps[rows]
            result[number] = judge(test, np.abs(test.after(arrangements)), True)
    if not sampled:
        return result
    widths = [tests[number].first.shape[1] for number in sampled]
    gaps = np.hstack([tests[number].gaps for number in sampled])
    moved = np.concatenate([swaps @ gaps for swaps in _swaps(len(gaps), samples, seed)])
    ends = np.cumsum(widths)
    for number, width, end in zip(sampled, widths, ends, strict=True):
        sizes = np.abs(tests[number].after(moved[:, end - width : end]))
        result[number] = judge(tests[number], sizes, False)
    return result


def _all_swaps(n: int) -> Values:
    """Every way to swap n queries or not, shape (2**n, n), of 0 and 1."""
    numbers = np.arange(1 << n)[:, None]
    return ((numbers >> np.arange(n)) & 1).astype(np.float64)


def _swaps(n: int, samples: int, seed: int) -> Iterator[Values]:
    """Random ways to swap n queries or not, blocks of shape (≤ samples, n), of 0 and 1."""
    random = np.random.default_rng(seed)
    rows = max(1, min(samples, _BLOCK // n))
    for start in range(0, samples, rows):
        size = min(rows, samples - start)
        drawn = random.integers(0, 256, size=(size, -(-n // 8)), dtype=np.uint8)
        yield np.unpackbits(drawn, axis=1, count=n).astype(np.float64)
