"""Axes of the plots: a value's place as a share of the axis, and where its ticks stand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_MOST_TICKS = 6


@dataclass(frozen=True, slots=True)
class LinearAxis:
    """An axis of shares between two ends inside 0 to 1."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> LinearAxis:
        """Return the axis that holds the values, with room beside the outermost."""
        known = list(values)
        low, high = min(known), max(known)
        margin = max((high - low) * 0.08, 0.01)
        return cls(max(low - margin, 0.0), min(high + margin, 1.0))

    def place(self, value: float) -> float:
        """Return where a value stands, 0 at the low end to 1 at the high end."""
        return _within((value - self.low) / (self.high - self.low))

    def ticks(self) -> list[float]:
        """Return up to six round values."""
        width = self.high - self.low
        step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if width / s < _MOST_TICKS)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [step * i for i in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class LogAxis:
    """A logarithmic axis of costs above 0, with ticks that are round in base 10 or base 2."""

    low: float
    high: float
    base: int

    @classmethod
    def of(cls, costs: Iterable[float], base: int) -> LogAxis:
        """Return the axis that holds the costs, with room beside the outermost."""
        known = [math.log10(cost) for cost in costs]
        low, high = min(known), max(known)
        margin = max((high - low) * 0.12, 0.3)
        return cls(low - margin, high + margin, base)

    def place(self, cost: float) -> float:
        """Return where a cost stands, 0 at the low end to 1 at the high end."""
        return _within((math.log10(cost) - self.low) / (self.high - self.low))

    def ticks(self) -> list[float]:
        """Return up to six round costs, as fine as that allows."""
        return next(
            (found for found in map(self._every, _STEPS[self.base]) if len(found) <= _MOST_TICKS),
            [],
        )

    def _every(self, step: tuple[int, tuple[int, ...]]) -> list[float]:
        """Return the ticks at ``digits`` times each ``power``-th power of the base."""
        power, digits = step
        one = math.log10(self.base) * power
        exponents = range(math.floor(self.low / one) - 1, math.ceil(self.high / one) + 1)
        costs = (digit * float(self.base) ** (power * e) for e in exponents for digit in digits)
        return [cost for cost in costs if self.low <= math.log10(cost) <= self.high]


_STEPS = {
    10: ((1, (1, 2, 5)), (1, (1, 3)), *((power, (1,)) for power in range(1, 7))),
    2: tuple((power, (1,)) for power in (1, 2, 5, 10, 20)),
}


def _within(share: float) -> float:
    return min(max(share, 0.0), 1.0)
