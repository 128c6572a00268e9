"""What a model returns, made what the package promises: finite, and unit length where due."""

from __future__ import annotations

import numpy as np

from koe5_integrations.errors import EncodingError
from koe5_integrations.types import Vectors

__all__ = ["finish_vectors"]


def finish_vectors(vectors: Vectors, *, truncate_dim: int | None, normalize: bool) -> Vectors:
    """Keep the first dimensions, check, and scale to unit length.

    Args:
        vectors: raw, shape (n, full dim); scaled in place.
        truncate_dim: dimensions to keep; None keeps all.
        normalize: scale each row to unit length.

    Returns:
        float32, shape (n, dim), C-contiguous.

    Raises:
        EncodingError: a row is not finite, or is zero and has no direction to scale.
    """
    if truncate_dim is not None:
        vectors = np.ascontiguousarray(vectors[:, :truncate_dim])
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    sound = np.isfinite(norms) & (norms > 0) if normalize else np.isfinite(norms)
    if not sound.all():
        bad = int(np.flatnonzero(~sound)[0])
        what = "a zero vector" if norms[bad] == 0 else "NaN or infinity"
        raise EncodingError(
            f"the model returned {what} for texts[{bad}]; precision='fp32' avoids overflow, and a "
            "damaged model folder must be copied again"
        )
    if normalize:
        vectors /= norms[:, None]
    return vectors
