"""What a model returns, made what the package promises: finite, and unit length where due."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from koe5_integrations.errors import EncodingError
from koe5_integrations.types import Vectors

__all__ = ["finish_vectors"]


def finish_vectors(
    vectors: Vectors,
    *,
    truncate_dim: int | None,
    normalize: bool,
    positions: npt.NDArray[np.intp] | None = None,
) -> Vectors:
    """Keep the first dimensions, check, and scale to unit length.

    Args:
        vectors: raw, shape (n, full dim); scaled in place.
        truncate_dim: dimensions to keep; None keeps all.
        normalize: scale each row to unit length.
        positions: of each row's text in the caller's list, shape (n,); None counts the rows.

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
        bad = np.flatnonzero(~sound)
        places = bad if positions is None else positions[bad]
        first = places.argmin()
        what = "a zero vector" if norms[bad[first]] == 0 else "NaN or infinity"
        raise EncodingError(
            f"the model returned {what} for texts[{places[first]}]; precision='fp32' avoids "
            "overflow, and a damaged model folder must be copied again"
        )
    if normalize:
        vectors /= norms[:, None]
    return vectors
