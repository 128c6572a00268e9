"""Embeddings kept for when the same text comes again: in memory, on disk, or both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from koe5_integrations.types import Role, Vectors

__all__ = ["Embedded", "Rows", "text_keys"]

Rows: TypeAlias = npt.NDArray[np.intp]
"""Which of the distinct texts of a call, shape (n,)."""


@dataclass(slots=True)
class Embedded:
    """What texts became, a row each. The counts let a cached text be reported as cut, too.

    Attributes:
        vectors: finished, float32, shape (n, dim).
        read: tokens of each text that the model read, shape (n,).
        uncut: tokens of each whole text, shape (n,).
    """

    vectors: Vectors
    read: npt.NDArray[np.int64]
    uncut: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, n: int, dim: int) -> Embedded:
        """Make room for ``n`` texts."""
        return cls(
            np.empty((n, dim), dtype=np.float32), np.zeros(n, np.int64), np.zeros(n, np.int64)
        )


def text_keys(fingerprint: str, role: Role, prompted: Sequence[str]) -> list[bytes]:
    """Return what each text is kept under, 32 bytes.

    A vector is decided by the fingerprint and the text as the model reads it, its prompt included;
    so ``on_prefixed``, which decides on the prompt, needs no part of its own. The role is one
    nevertheless: the roles stay apart where a model has the same prompt for both.

    Args:
        fingerprint: the encoder's digest, of fixed length.
        role: ``query`` or ``passage``.
        prompted: checked texts with their prompt in front.
    """
    common = hashlib.sha256(f"{fingerprint}\0{role}\0".encode())
    keys = []
    for text in prompted:
        key = common.copy()
        key.update(text.encode())
        keys.append(key.digest())
    return keys
