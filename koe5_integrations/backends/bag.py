"""Bag models: a sum of one-bit vectors of a text's tokens and character bigrams, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from koe5_integrations.backends import Tokens
from koe5_integrations.backends.bag_features import BigramRows
from koe5_integrations.backends.files import read_json
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.tokenizer import TextTokenizer
from koe5_integrations.errors import ModelLoadError
from koe5_integrations.types import Vectors

__all__ = ["BagBackend", "saturated", "stretched"]

# Rows unpacked at a time: 1 MiB of float32, which stays near the processor.
_ROWS = 256


def saturated(counts: npt.NDArray[np.integer], saturation: float) -> npt.NDArray[np.float32]:
    """Return what a feature that occurs so often counts: 1 once, at most ``1 + saturation``."""
    occurring = counts.astype(np.float32)
    return occurring * np.float32(1 + saturation) / (occurring + np.float32(saturation))


def stretched(sums: Vectors, exponent: float, longest: float) -> Vectors:
    """Return passages' vectors of unit length, in which short texts don't weigh as much as others.

    A sum of length l gets the length (l / longest) ** (1 - exponent), at most 1; what is missing
    to 1 goes into one more dimension, which is 0 in a question. So the cosine with a question is
    as if the passage had been divided by a power of its length only, up to that length.

    Args:
        sums: shape (n, dim - 1), float32.
        exponent: the power, 0 to 1; 1 is the plain cosine.
        longest: the length at which a vector is 1 long without the last dimension.

    Returns:
        shape (n, dim), float32.
    """
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    kept = np.minimum(lengths / longest, 1) ** (1 - exponent)
    scaled = sums * (kept / np.maximum(lengths, np.finfo(np.float32).tiny))
    return np.hstack([scaled, np.sqrt(np.maximum(1 - kept**2, 0))]).astype(np.float32)


class BagBackend:
    """Weighted sums of one-bit vectors, without torch.

    Args:
        folder: a folder of kind ``bag``.
        max_seq_length: tokens read of each text; None reads all.

    Raises:
        ModelLoadError: the weights are damaged.
    """

    # The gathered rows of a pass are few enough to be counted at once.
    batch_tokens = 8192
    # Texts of any lengths go together: nothing is padded.
    pass_tokens = batch_tokens

    def __init__(self, folder: ModelFolder, max_seq_length: int | None = None) -> None:
        config = read_json(folder.path / "config.json")
        with safe_open(folder.path / "model.safetensors", framework="numpy") as weights:
            self._bits: npt.NDArray[np.uint8] = weights.get_tensor("bits")
            self._scales = weights.get_tensor("scales").astype(np.float32)
            known: npt.NDArray[np.int64] = weights.get_tensor("bigrams")
        self._width: int = folder.dim - 1
        self._saturation: float = config["saturation"]
        self._exponent: float = config["length_exponent"]
        self._longest: float = config["longest"]
        self._passage_token: int = config["passage_token"]
        pieces = len(self._bits) - len(known) - config["buckets"]
        if len(self._scales) != len(self._bits) or self._bits.shape[1] * 8 < self._width:
            raise ModelLoadError(f"{folder.path / 'model.safetensors'} is damaged; copy it again")
        self._bigrams = BigramRows(known, config["buckets"], pieces)
        self._tokens = TextTokenizer.from_folder(folder, max_seq_length)
        self._prompts: tuple[str, ...] = tuple(config["prompts"])

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return each text's tokens, in order, with the text they are of."""
        return [
            tokens._replace(
                text=text if tokens.uncut <= len(tokens.ids) else self._tokens.cut(text)
            )
            for text, tokens in zip(texts, self._tokens(texts), strict=True)
        ]

    def _without_prompt(self, text: str) -> str:
        # A prompt is a token of its own, and its letters say nothing.
        return next((text[len(p) :] for p in self._prompts if text.startswith(p)), text)

    def forward(self, batch: Sequence[Tokens]) -> Vectors:
        """Return unit vectors, shape (len(batch), dim); zeros for no tokens."""
        bigrams = self._bigrams([self._without_prompt(tokens.text) for tokens in batch])
        features = [*(tokens.ids for tokens in batch), *bigrams]
        owners = np.tile(np.arange(len(batch)), 2).repeat([len(part) for part in features])
        size = len(self._bits)
        distinct, counts = np.unique(owners * size + np.concatenate(features), return_counts=True)
        rows, owners = distinct % size, distinct // size
        weights = self._scales[rows] * saturated(counts, self._saturation)
        ends = np.searchsorted(owners, np.arange(len(batch) + 1))
        sums = np.zeros((len(batch), self._bits.shape[1] * 8), dtype=np.float32)
        for text, (start, end) in enumerate(pairwise(ends)):
            for at in range(start, end, _ROWS):
                some = slice(at, min(at + _ROWS, end))
                ones = np.unpackbits(self._bits[rows[some]], axis=1).astype(np.float32)
                # A bit b stands for 2b - 1.
                sums[text] += 2 * (weights[some] @ ones) - weights[some].sum()
        sums = sums[:, : self._width]
        out = np.zeros((len(batch), self._width + 1), dtype=np.float32)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        np.divide(sums, norms, out=out[:, :-1], where=norms > 0)
        passages = np.array(
            [len(tokens.ids) > 0 and tokens.ids[0] == self._passage_token for tokens in batch]
        )
        out[passages] = stretched(sums[passages], self._exponent, self._longest)
        return out
