"""The words the layers share."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Role", "Vectors"]

Role: TypeAlias = Literal["query", "passage"]
"""What a text is to the search: the question asked, or a text to be found."""

Vectors: TypeAlias = npt.NDArray[np.float32]
"""Embeddings, shape (n, dim), float32, C-contiguous; (0, dim) for no texts."""
