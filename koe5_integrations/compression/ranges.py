"""What codes must cover, learnt from a sample of vectors; measured in docs/compression.md."""

from __future__ import annotations

from typing import Any

import numpy as np

from koe5_integrations.errors import ConfigError, KoE5Warning
from koe5_integrations.types import Vectors
from koe5_integrations.warn import warn

__all__ = ["as_vectors", "common_range", "own_ranges", "sample_of", "threshold"]

_SAMPLE = 10_000
_FEW = 100
# Minimum and maximum of a sample would cut off what the sample lacks.
_DEVIATIONS = 4.0
_UNEVEN = 5.0
# Vectors that all point one way share most of their signs, which then tell nothing apart.
_CROWDED = 0.5


def sample_of(vectors: Vectors) -> Vectors:
    """Return up to 10,000 rows, evenly from the whole.

    Raises:
        ConfigError: there are fewer than 2.
    """
    if len(vectors) < 2:
        raise ConfigError(f"a sample of {len(vectors)} calibrates nothing: give 2 vectors at least")
    if len(vectors) < _FEW:
        warn(
            KoE5Warning(
                f"compression is calibrated with {len(vectors)} vectors only; with {_FEW} or more "
                "of the corpus the codes fit better what is still to come"
            )
        )
    if len(vectors) <= _SAMPLE:
        return vectors
    return vectors[np.arange(_SAMPLE) * len(vectors) // _SAMPLE]


def threshold(sample: Vectors) -> Vectors:
    """Return what a value must exceed for its bit to be 1, float32, shape (dim,).

    The mean, if the mean cosine of the vectors is above 0.5; else 0.
    """
    mean = sample.mean(axis=0, dtype=np.float64)
    squares = np.einsum("ij,ij->i", sample, sample, dtype=np.float64)
    crowded = bool(mean @ mean > _CROWDED * squares.mean())
    return np.asarray(mean if crowded else np.zeros_like(mean), dtype=np.float32)


def own_ranges(sample: Vectors) -> tuple[Vectors, Vectors]:
    """Return each dimension's mean less and plus 4 standard deviations, float32, shape (dim,)."""
    mean = sample.mean(axis=0, dtype=np.float64)
    reach = _DEVIATIONS * sample.std(axis=0, dtype=np.float64)
    # A dimension that never changes needs a step that is not zero.
    reach = np.maximum(reach, 1e-3 * np.abs(mean) + 1e-6)
    return (mean - reach).astype(np.float32), (mean + reach).astype(np.float32)


def common_range(sample: Vectors) -> tuple[Vectors, Vectors]:
    """Return one range around 0 that covers :func:`own_ranges`, for all dimensions alike.

    It has 128 steps down and 127 up, so that an int8 code times the step is the value.
    """
    lows, highs = own_ranges(sample)
    widest = np.maximum(-lows, highs).max()
    usual = np.median(highs - lows) / 2
    if widest > _UNEVEN * usual:
        warn(
            KoE5Warning(
                f"one of the {len(lows)} dimensions reaches {widest / usual:.0f} times as far as "
                "usual, so that one range for all makes coarse steps: per_dimension=True makes "
                "finer ones"
            )
        )
    same = np.full_like(highs, widest)
    return same * np.float32(-128 / 127), same


def as_vectors(vectors: Any, *, dim: int | None) -> Vectors:
    """Return vectors as float32, or raise ConfigError for what can't be compressed."""
    given = np.asarray(vectors)
    if given.ndim != 2 or given.dtype.kind != "f" or given.shape[1] != (dim or given.shape[1] or 1):
        raise ConfigError(
            f"vectors of type {given.dtype} and shape {given.shape} must be floats of the shape "
            f"(n, {'dim' if dim is None else dim})"
        )
    with np.errstate(over="ignore"):
        checked = np.ascontiguousarray(given, dtype=np.float32)
    finite = np.isfinite(checked).all(axis=1)
    if not finite.all():
        raise ConfigError(
            f"vectors[{int(np.flatnonzero(~finite)[0])}] holds NaN or infinity, which has no code"
        )
    return checked
