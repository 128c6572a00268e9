"""Splits and embeds many texts, a few of which may be at fault."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import EncodingError, InputError
from koe5_integrations.splitting import Chunk, TokenSplitter
from koe5_integrations.types import Vectors

__all__ = ["PassageSplitter", "embed_each", "split_each"]

_SPARE = 8


def split_each(splitter: TokenSplitter, texts: Sequence[str]) -> list[list[Chunk] | str]:
    """Return each text's passages, or the reason why it has none."""
    try:
        return list(splitter.split_many(texts))
    except InputError as error:
        if len(texts) == 1:
            return [error.problem]
        return [result for text in texts for result in split_each(splitter, [text])]


class PassageSplitter:
    """Splits into texts, without counting the tokens of those that fit for certain.

    No tokenizer makes more tokens of a text than it has bytes in NFKC, for each stands for one at
    least. The encoder would say so if one did.

    Args:
        splitter: for the others.
        encoder: whose tokens they are.
    """

    def __init__(self, splitter: TokenSplitter, encoder: KoE5Encoder) -> None:
        self._splitter = splitter
        self._encoder = encoder
        self._room: int | None = None

    def __call__(self, texts: Sequence[str]) -> list[list[str] | str]:
        """Return each text's passages, or the reason why it has none."""
        if self._room is None:
            # Prefix and special tokens, with some to spare for how they join the text.
            around = self._encoder.count_tokens(["가"], "passage")[0]
            self._room = self._splitter.chunk_tokens - around - _SPARE
        room = self._room
        results: list[list[str] | str] = [[text.strip()] for text in texts]
        unsure = [i for i, text in enumerate(texts) if _bytes(text, room) > room]
        for i, chunks in zip(
            unsure, split_each(self._splitter, [texts[i] for i in unsure]), strict=True
        ):
            results[i] = chunks if isinstance(chunks, str) else [chunk.text for chunk in chunks]
        return results


def _bytes(text: str, enough: int) -> int:
    """Count a text's bytes in NFKC; of a long text it is enough to know that there are more."""
    return len(text) if len(text) > enough else len(unicodedata.normalize("NFKC", text).encode())


def embed_each(encoder: KoE5Encoder, texts: Sequence[str]) -> tuple[Vectors, dict[int, str]]:
    """Embed passages, and find out which of them can't be.

    Args:
        encoder: of the passages.
        texts: bare; any number.

    Returns:
        float32, shape (len(texts), dim), zero where a text could not be embedded; and the reason
        for each of those, by its position.

    Raises:
        KoE5Error: what is no single text's fault: the model can't be had, or embeds nothing; a
            server is unreachable.
    """
    vectors = np.zeros((len(texts), encoder.dim), dtype=np.float32)
    faults: dict[int, str] = {}
    parts = [range(len(texts))]
    while parts:
        part = parts.pop()
        if not part:
            continue
        try:
            vectors[part.start : part.stop] = encoder.encode_passages([texts[i] for i in part])
        except (InputError, EncodingError) as error:
            if len(part) == 1:
                faults[part.start] = error.problem if isinstance(error, InputError) else str(error)
                continue
            middle = part.start + len(part) // 2
            parts += [range(middle, part.stop), range(part.start, middle)]
    if texts and len(faults) == len(texts):
        # Raises, if it is the model that is at fault rather than every single text.
        encoder.encode_passages(["문장"])
    return vectors, faults
