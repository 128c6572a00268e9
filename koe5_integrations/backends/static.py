"""Static embeddings: the mean of a text's token vectors, in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from safetensors import safe_open

from koe5_integrations.backends import Tokens
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.tokenizer import TextTokenizer
from koe5_integrations.types import Vectors

__all__ = ["StaticBackend"]


class StaticBackend:
    """A sentence-transformers ``StaticEmbedding``, without torch.

    Args:
        folder: a folder of kind ``static``.
        max_seq_length: tokens read of each text; None reads all.
    """

    # The gathered token vectors of a pass stay within a few MiB, near the processor.
    batch_tokens = 8192
    # Texts of any lengths go together: nothing is padded.
    pass_tokens = batch_tokens

    def __init__(self, folder: ModelFolder, max_seq_length: int | None = None) -> None:
        with safe_open(folder.files("model.safetensors")[0], framework="numpy") as weights:
            self._table: Vectors = weights.get_tensor("embedding.weight").astype(np.float32)
        self.tokenize = TextTokenizer.from_folder(folder, max_seq_length)

    def forward(self, batch: Sequence[Tokens]) -> Vectors:
        """Return each text's mean token vector, shape (len(batch), dim); zeros for no tokens."""
        lengths = np.array([len(tokens.ids) for tokens in batch])
        out = np.zeros((len(batch), self._table.shape[1]), dtype=np.float32)
        filled = np.flatnonzero(lengths)
        if filled.size:
            ids = np.concatenate([tokens.ids for tokens in batch])
            starts = np.cumsum(lengths[filled]) - lengths[filled]
            sums = np.add.reduceat(self._table[ids], starts, axis=0)
            out[filled] = sums / lengths[filled, None]
        return out
