"""The engines a model runs on.

A backend turns texts that already carry their prompt into raw vectors, in two steps, so that the
scheduler can see how long each text is before it decides what runs together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from koe5_integrations.types import Vectors

__all__ = ["Backend", "Tokens"]


class Tokens(NamedTuple):
    """One text as the model reads it."""

    ids: npt.NDArray[np.int32]
    """Token ids, shape (length,), special tokens included, cut at the model's maximum."""

    uncut: int
    """How many tokens the whole text has; more than ``len(ids)`` if it was cut."""

    text: str = ""
    """What a server is sent or bigrams are taken of, cut like the tokens; else empty."""


class Backend(Protocol):
    """A loaded model; any thread may call ``tokenize``, one at a time ``forward``.

    A model on a server takes several calls of ``forward`` at a time: it stands for each of its own
    replicas.
    """

    batch_tokens: int
    """How many tokens, padding included, this engine and device like to see in one pass."""

    pass_tokens: int
    """What a pass costs before its first token (reading the weights, starting the kernels), as the
    number of tokens that take as long in a large pass; ``batch_tokens`` if texts are not padded."""

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return each text's tokens, in order."""

    def forward(self, batch: Sequence[Tokens]) -> Vectors:
        """Return raw vectors, shape (len(batch), dim), neither normalised nor checked.

        Raises:
            DeviceMemoryError: so much at once does not fit into the device's memory; it is called
                again with less.
            EmbeddingServerError: no text is at fault; it is not called again for these.
        """
