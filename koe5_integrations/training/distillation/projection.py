"""A teacher's vectors in fewer dimensions, so that their inner products change least."""

from __future__ import annotations

import numpy as np

from koe5_integrations.types import Vectors

__all__ = ["fit_projection"]


def fit_projection(sample: Vectors, dim: int) -> Vectors:
    """Return the principal directions of a sample of vectors, shape (sample's dim, dim), float32.

    A product with it turns vectors into coordinates, those that say most first, which is what
    vectors that will be cut need. The mean is not taken away first, as PCA would: it is part of
    every similarity, and what is done to the passages must be done to each question.

    Args:
        sample: shape (n, d).
        dim: directions to keep, at most d.
    """
    moments = sample.astype(np.float64).T @ sample.astype(np.float64)
    _, directions = np.linalg.eigh(moments)
    kept = directions[:, ::-1][:, :dim]
    # An eigenvector's sign is arbitrary; machines should agree on it.
    largest = kept[np.abs(kept).argmax(axis=0), np.arange(dim)]
    return np.ascontiguousarray(kept * np.sign(largest), dtype=np.float32)
