"""Sentence similarity in the seed's table form: four similarities x two correlations.

The form is that of ko-sentence-transformers' KorSTS table: cosine, negative euclidean, negative
manhattan and dot product against the human score, as Pearson's and Spearman's correlation times
100, over all 1,379 test pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, EncodingError
from koe5_integrations.evaluation.datasets import StsDataset
from koe5_integrations.evaluation.published import published_sts
from koe5_integrations.evaluation.tables import layout
from koe5_integrations.types import Role, Vectors

__all__ = ["COLUMNS", "Encode", "StsResult", "evaluate_sts", "pearson", "spearman", "sts_table"]

Encode: TypeAlias = Callable[[list[str]], npt.ArrayLike]
"""Turns n sentences into vectors, shape (n, dim)."""
Values: TypeAlias = npt.NDArray[np.float64]

_SIMILARITIES = ("cosine", "euclidean", "manhattan", "dot")
COLUMNS = tuple(f"{kind}_{how}" for kind in _SIMILARITIES for how in ("pearson", "spearman"))
"""The table's columns, in order."""
_PAIRS_AT_ONCE = 4096
# How far float32 vectors of unit length are from it.
_UNIT = 1e-3


@dataclass(frozen=True)
class StsResult:
    """Correlations of one encoder with human scores.

    Attributes:
        name: the row's name.
        dim: dimensions kept of each vector.
        pairs: number of sentence pairs.
        values: times 100, by column (see :data:`COLUMNS`).
        role: whose prefix was put before both sentences; None for no prefix.
    """

    name: str
    dim: int
    pairs: int
    values: Mapping[str, float]
    role: Role | None = None


def evaluate_sts(
    encoder: KoE5Encoder | Encode,
    pairs: StsDataset,
    *,
    role: Role | None = None,
    truncate_dims: Sequence[int] = (),
    name: str | None = None,
) -> list[StsResult]:
    """Correlate similarities of vectors with human scores, at full and at cut dimensions.

    The sentences are embedded once. Vectors of unit length have it again after they are cut, as
    ``KoE5Encoder(truncate_dim=…)`` does.

    Args:
        encoder: a :class:`KoE5Encoder`, or a function of sentences that returns their vectors.
        pairs: such as ``load_sts("korsts")``.
        role: put this role's prefix before both sentences; None puts none, because both sentences
            are alike. Of a function None is all there can be.
        truncate_dims: dimensions to keep besides all (Matryoshka), in any order.
        name: of the row; None takes the model's.

    Returns:
        The full vectors' result first, then one per cut, in the order given.

    Raises:
        ConfigError: a role of a function, or a cut that is not below the full dimension.
        EncodingError: the function returned no finite vectors of the right shape.
        InputError: a sentence can't be embedded.
    """
    encode, row = _function(encoder, role)
    for dim in truncate_dims:
        if not isinstance(dim, int) or dim < 1:
            raise ConfigError(f"truncate_dims has {dim!r}; give whole numbers from 1 on")
    if isinstance(encoder, KoE5Encoder):
        _check_dims(truncate_dims, encoder.dim)
    sentences = list(dict.fromkeys((*pairs.first, *pairs.second)))
    vectors = _vectors(encode, sentences)
    _check_dims(truncate_dims, vectors.shape[1])
    position = {sentence: number for number, sentence in enumerate(sentences)}
    first = np.array([position[sentence] for sentence in pairs.first])
    second = np.array([position[sentence] for sentence in pairs.second])
    unit = bool(np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=_UNIT))
    results = []
    for dim in dict.fromkeys((vectors.shape[1], *truncate_dims)):
        kept = vectors[:, :dim]
        if unit and dim < vectors.shape[1]:
            lengths = np.linalg.norm(kept, axis=1, keepdims=True)
            kept = np.divide(kept, lengths, out=np.zeros_like(kept), where=lengths > 0)
        values = _correlations(kept, first, second, pairs.scores)
        results.append(StsResult(name or row, dim, len(pairs.scores), values, role))
    return results


def pearson(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return Pearson's correlation, in [-1, 1]; NaN where one side is all the same."""
    a, b = (np.asarray(side, dtype=np.float64) for side in (first, second))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip((a @ b) / scale, -1, 1)) if scale > 0 else math.nan


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return Spearman's rank correlation, in [-1, 1]; equal values share their mean rank."""
    return pearson(_mean_ranks(first), _mean_ranks(second))


def sts_table(
    results: Sequence[StsResult],
    *,
    with_published: bool = True,
    style: Literal["markdown", "text"] = "markdown",
) -> str:
    """Write the seed's KorSTS table, its published rows first.

    Args:
        results: of :func:`evaluate_sts`.
        with_published: show the seed's rows; only sensible for KorSTS.
        style: ``markdown``, or ``text`` in columns.
    """
    head = ["model", *(column.replace("_", " ") for column in COLUMNS)]
    rows = []
    if with_published:
        rows += [
            [row.model, *(f"{row.values[column]:.2f}" for column in COLUMNS)]
            for row in published_sts()
        ]
    rows += [
        [_title(result), *(f"{result.values[column]:.2f}" for column in COLUMNS)]
        for result in results
    ]
    return layout(head, rows, style) + "\n"


def _title(result: StsResult) -> str:
    prefix = f"{result.role} prefix" if result.role else "no prefix"
    return f"{result.name} ({result.dim} dim, {prefix})"


def _function(encoder: KoE5Encoder | Encode, role: Role | None) -> tuple[Encode, str]:
    if role not in (None, "query", "passage"):
        raise ConfigError(f"role={role!r} must be 'query', 'passage' or None for no prefix")
    if not isinstance(encoder, KoE5Encoder):
        if role is not None:
            raise ConfigError(
                f"role={role!r} needs a KoE5Encoder; let your function add its own prefix"
            )
        return encoder, getattr(encoder, "__name__", type(encoder).__name__)
    folder = Path(encoder.model)
    name = folder.name if folder.is_absolute() else encoder.model
    if role is None:
        settings: dict[str, Any] = {**encoder.config(), "query_prompt": "", "passage_prompt": ""}
        return KoE5Encoder(**settings).encode_queries, name
    return (encoder.encode_queries if role == "query" else encoder.encode_passages), name


def _check_dims(truncate_dims: Sequence[int], full: int) -> None:
    for dim in truncate_dims:
        if dim > full:
            raise ConfigError(f"truncate_dims has {dim}, but the vectors have {full} dimensions")


def _vectors(encode: Encode, sentences: list[str]) -> Vectors:
    vectors = np.asarray(encode(sentences), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(sentences) or not vectors.shape[1]:
        raise EncodingError(
            f"expected vectors of shape ({len(sentences)}, dim), one per sentence; got the shape "
            f"{vectors.shape}"
        )
    if not np.isfinite(vectors).all():
        bad = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise EncodingError(f"the vector of {sentences[bad]!r} holds NaN or infinity")
    return vectors


def _correlations(
    vectors: Vectors,
    first: npt.NDArray[np.intp],
    second: npt.NDArray[np.intp],
    scores: Sequence[float],
) -> dict[str, float]:
    parts = [
        _similarities(
            vectors[first[start : start + _PAIRS_AT_ONCE]].astype(np.float64),
            vectors[second[start : start + _PAIRS_AT_ONCE]].astype(np.float64),
        )
        for start in range(0, len(first), _PAIRS_AT_ONCE)
    ]
    values: dict[str, float] = {}
    for kind in _SIMILARITIES:
        found = np.concatenate([part[kind] for part in parts])
        values[f"{kind}_pearson"] = 100 * pearson(found, scores)
        values[f"{kind}_spearman"] = 100 * spearman(found, scores)
    return values


def _similarities(first: Values, second: Values) -> dict[str, Values]:
    dot: Values = np.einsum("nd,nd->n", first, second)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return {
        "cosine": np.divide(dot, lengths, out=np.zeros_like(dot), where=lengths > 0),
        "euclidean": -np.linalg.norm(first - second, axis=1),
        "manhattan": -np.abs(first - second).sum(axis=1),
        "dot": dot,
    }


def _mean_ranks(values: npt.ArrayLike) -> Values:
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[group], dtype=np.float64)
