"""What servers answer, made arrays: every count, index, length and number checked."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

from koe5_integrations.backends.remote.client import Unusable
from koe5_integrations.types import Vectors

__all__ = ["openai_vectors", "tei_vectors", "token_ids"]


def tei_vectors(answer: Any, count: int, dim: int) -> Vectors:
    """Read the answer of TEI's ``/embed``: a list of vectors, in the order of the texts.

    Args:
        answer: its JSON.
        count: of the texts that were sent.
        dim: length of a vector.

    Returns:
        float32, shape (count, dim), finite.

    Raises:
        Unusable: it is not that.
    """
    if not isinstance(answer, list) or len(answer) != count:
        raise Unusable(f"answers with {_size(answer)} instead of {count} vectors")
    return _checked(np.stack([_vector(row, dim) for row in answer]))


def openai_vectors(answer: Any, count: int, dim: int, model: str) -> Vectors:
    """Read the answer of ``/embeddings``: vectors in any order, with the index of their text.

    Arguments, result and errors as :func:`tei_vectors`; ``model`` is the name of the model asked.
    """
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or len(data) != count:
        raise Unusable(f"answers with {_size(data)} instead of {count} vectors")
    if answer.get("model", model) != model:
        raise Unusable(f"answers as {answer['model']!r} when {model!r} was asked")
    rows: dict[Any, Any] = {}
    for item in data:
        if not isinstance(item, dict) or not isinstance(item.get("index"), int):
            raise Unusable("answers with a vector that doesn't say which text it is of")
        rows[item["index"]] = item.get("embedding")
    if rows.keys() != set(range(count)):
        raise Unusable(f"answers with the vectors of {sorted(rows)[:5]}…, not of all {count} texts")
    return _checked(np.stack([_vector(rows[i], dim) for i in range(count)]))


def token_ids(answer: Any, count: int) -> list[list[int]]:
    """Read the answer of ``/tokenize`` for a list of texts (TEI) or one (vLLM, llama.cpp).

    Args:
        answer: its JSON.
        count: of the texts.

    Raises:
        Unusable: it is not that.
    """
    texts = [answer.get("tokens")] if isinstance(answer, dict) else answer
    if not isinstance(texts, list) or len(texts) != count:
        raise Unusable(f"answers with {_size(texts)} instead of {count} lists of tokens")
    if not all(isinstance(tokens, list) for tokens in texts):
        raise Unusable("answers with something that is no list of tokens")
    ids: list[list[Any]] = [
        [token.get("id") if isinstance(token, dict) else token for token in tokens]
        for tokens in texts
    ]
    if not all(isinstance(i, int) for tokens in ids for i in tokens):
        raise Unusable("answers with tokens that have no ids")
    return ids


def _vector(row: Any, dim: int) -> Vectors:
    if isinstance(row, str):
        try:
            vector = np.frombuffer(base64.b64decode(row, validate=True), dtype="<f4")
        except (binascii.Error, ValueError):
            raise Unusable("answers with a vector that is no base64 of float32") from None
    else:
        try:
            vector = np.array(row, dtype=np.float32)  # None, JSON's way to say NaN, becomes NaN
        except (ValueError, TypeError, OverflowError):
            raise Unusable("answers with a vector that is no list of numbers") from None
    if vector.shape != (dim,):
        raise Unusable(
            f"answers with a vector of shape {vector.shape}, where the model's have {dim} "
            "dimensions: it serves another model"
        )
    return vector


def _checked(vectors: Vectors) -> Vectors:
    if not np.isfinite(vectors).all():
        raise Unusable("answers with NaN or infinity", broken=True)
    return vectors


def _size(answer: Any) -> str:
    return str(len(answer)) if isinstance(answer, list) else type(answer).__name__
