"""Which of several candidates a stored vector is, and whether that can be told.

Distance is half the squared distance of unit vectors, which is 1 - cosine. What is compared with
what is measured on the sample itself: how far the candidates lie apart, for each text, and how far
different texts do. No threshold stands for a property of some model.

Why it can be told although rounding (fp16, int8) may move a vector farther than a prefix does:
rounding moves it in all directions alike. On the line between two candidates a and b, where a is 0
and b is 1, a vector made as a and then moved by noise of length e stands at 0, give or take
e / (|b - a| * sqrt(dim)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Judgement", "is_of_this_model", "judge", "outlying", "spread", "unit"]

Floats = npt.NDArray[np.float64]

# On the line between two candidates a vector must lie in the nearest quarter to be taken for one.
_NEAREST_QUARTER = 0.5
# The square of the standard deviation on that line which noise may cause: 0.1.
_MOST_NOISE = 0.01
# Below this, candidates differ by what two engines differ by.
_SAME = 1e-10
# Vectors in bf16, or of a model run in it, are off by about this.
_ROUNDING = 1e-3
_MUCH_FARTHER = 10
_FEWEST_DIRECTIONS = 5
_ENOUGH_FOR_A_MEDIAN = 500


def unit(vectors: npt.NDArray[np.floating]) -> Floats:
    """Return the rows scaled to unit length, in float64; NaN stays, a zero row becomes NaN."""
    wide = vectors.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(wide / np.linalg.norm(wide, axis=-1, keepdims=True))


@dataclass(frozen=True)
class Judgement:
    """Of each vector, shape (n,) each.

    Attributes:
        best: position of the nearest candidate.
        distance: to it; infinite without any.
        told: whether it can be told from every candidate of another kind.
        apart: least distance between it and a candidate of another kind; infinite if there is none.
    """

    best: npt.NDArray[np.intp]
    distance: Floats
    told: npt.NDArray[np.bool_]
    apart: Floats


def judge(stored: Floats, candidates: Floats, kinds: Sequence[str]) -> Judgement:
    """Compare vectors with their candidates.

    Args:
        stored: unit vectors, shape (n, dim).
        candidates: unit vectors, shape (k, n, dim); NaN where a candidate doesn't apply.
        kinds: of the candidates; those of one kind need not be told apart.
    """
    n, dim = stored.shape
    to_stored = _distance(candidates, stored)
    best = to_stored.argmin(axis=0)
    nearest = to_stored[best, np.arange(n)]
    gaps = _distance(candidates, candidates[best, np.arange(n)])
    names = np.array(kinds)
    rivals = (names[:, None] != names[best][None, :]) & np.isfinite(to_stored)
    with np.errstate(invalid="ignore"):
        distinct = (
            (gaps > _SAME)
            & (to_stored - nearest >= _NEAREST_QUARTER * gaps)
            & (nearest <= _MOST_NOISE * dim * gaps)
        )
    return Judgement(
        best,
        nearest,
        np.asarray((distinct | ~rivals).all(axis=0)),
        np.where(rivals, gaps, np.inf).min(axis=0),
    )


def _distance(many: Floats, one: Floats) -> Floats:
    """Return distances of shape (k, n), infinite where a vector doesn't apply."""
    difference = many - one
    squared = np.einsum("knd,knd->kn", difference, difference)
    return np.where(np.isnan(squared), np.inf, squared / 2)


def spread(vectors: Floats) -> float:
    """Return the median distance between different texts; 2 if there are not two."""
    if len(vectors) < 2:
        return 2.0
    some = vectors[:: -(-len(vectors) // _ENOUGH_FOR_A_MEDIAN)]
    return float(np.median(1 - (some @ some.T)[np.triu_indices(len(some), 1)]))


def outlying(distances: Floats, limit: float) -> npt.NDArray[np.bool_]:
    """Tell which vectors are too far from their text's to be explained by rounding.

    Args:
        distances: of each vector to its nearest candidate, shape (n,).
        limit: distance beyond which none fits.
    """
    within = distances[distances <= limit]
    if not len(within):
        return np.full(len(distances), True)
    # Where all are off alike, something rounds; where few are far off, their text was edited.
    usual = float(np.quantile(within, 0.9))
    return np.asarray(distances > min(limit, max(_ROUNDING, _MUCH_FARTHER * usual)))


def is_of_this_model(vectors: Floats, known: Floats) -> npt.NDArray[np.bool_] | None:
    """Tell which vectors lie where this model's do, whatever their text.

    A model's vectors fill some directions more than others. Those are learnt from one half of the
    known ones and tried on the other.

    Args:
        vectors: in question, shape (n, dim).
        known: of this model, of different texts, shape (m, dim).

    Returns:
        None if that can't be told: too few are known, or they fill all directions alike.
    """
    m, dim = known.shape
    directions = min(m, dim) // 4
    if directions < _FEWEST_DIRECTIONS:
        return None
    halves = known[0::2], known[1::2]
    held_out = [_energy(halves[1 - i], halves[i], directions) for i in (0, 1)]
    usual = float(np.median(np.concatenate(held_out)))
    # The share a vector of random direction has, and the standard deviation of that.
    by_chance = directions / dim
    give_or_take = np.sqrt(2 * by_chance * (1 - by_chance) / dim)
    if usual < by_chance + 4 * give_or_take:
        return None
    return np.asarray(_energy(vectors, known, directions) > (usual + by_chance) / 2)


def _energy(vectors: Floats, known: Floats, directions: int) -> Floats:
    """Return the share of each vector's squared length in the directions that the known fill."""
    filled = np.linalg.svd(known, full_matrices=False)[2][:directions]
    return np.asarray(((vectors @ filled.T) ** 2).sum(axis=1))
