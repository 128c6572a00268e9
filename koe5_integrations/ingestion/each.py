"""Splits and embeds many texts, a few of which may be at fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import EncodingError, InputError
from koe5_integrations.types import Vectors

__all__ = ["embed_each", "split_each"]

_Split = TypeVar("_Split")


def split_each(
    split: Callable[[Sequence[str]], Sequence[_Split]], texts: Sequence[str]
) -> list[_Split | str]:
    """Return what each text was split into, or the reason why it can't be.

    Args:
        split: a method of :class:`~koe5_integrations.splitting.TokenSplitter` for many texts.
        texts: any number.
    """
    try:
        return list(split(texts))
    except InputError as error:
        if len(texts) == 1:
            return [error.problem]
        return [result for text in texts for result in split_each(split, [text])]


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
