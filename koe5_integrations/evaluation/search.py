"""Exact search: rank every document for every query by inner product, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from koe5_integrations.errors import ConfigError
from koe5_integrations.types import Vectors

__all__ = ["exact_search", "rank"]

_BLOCK_QUERIES = 256
_BLOCK_PASSAGES = 16_384
# A matrix product rounds a row by where it stands in its block, so that equal passages come out a
# few bits apart. That many passages more than asked for are compared again, alike for all.
_SPARE = 32


def exact_search(
    queries: Vectors, passages: Vectors, top_k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Find the passages with the greatest inner products, without approximation.

    Never holds more than 256 x 16,384 products (16 MiB), whatever the number of queries and
    passages, beside a few temporary arrays of that shape. Equal passages keep their order, and the
    first of an answer do not depend on how many are asked for, or with which other queries.

    Args:
        queries: float32, shape (q, dim).
        passages: float32, shape (d, dim).
        top_k: passages per query, at least 1.

    Returns:
        Rows of ``passages``, int64, and their inner products, float32, both of shape
        (q, min(top_k, d)), best first.

    Raises:
        ConfigError: ``top_k`` is below 1, or the dimensions differ.
    """
    if top_k < 1:
        raise ConfigError(f"top_k={top_k!r} must be at least 1")
    if queries.ndim != 2 or passages.ndim != 2 or queries.shape[1] != passages.shape[1]:
        raise ConfigError(
            f"queries of shape {queries.shape} can't be compared with passages of shape "
            f"{passages.shape}: both need the shape (n, dim) with the same dim"
        )
    width = min(top_k, len(passages))
    rows = np.empty((len(queries), width), dtype=np.int64)
    products = np.empty((len(queries), width), dtype=np.float32)
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block = queries[start : start + _BLOCK_QUERIES]
        near = _search_block(block, passages, min(width + _SPARE, len(passages)))
        near.sort(axis=1)
        for row, (query, candidates) in enumerate(zip(block, near, strict=True), start=start):
            exact = np.einsum("kd,d->k", passages[candidates], query, dtype=np.float64)
            best = np.argsort(-exact, kind="stable")[:width]
            rows[row], products[row] = candidates[best], exact[best]
    return rows, products


def _search_block(queries: Vectors, passages: Vectors, width: int) -> npt.NDArray[np.int64]:
    """Return the rows of the `width` best passages of each query, up to rounding."""
    rows = np.empty((len(queries), 0), dtype=np.int64)
    products = np.empty((len(queries), 0), dtype=np.float32)
    for start in range(0, len(passages), _BLOCK_PASSAGES):
        block = queries @ passages[start : start + _BLOCK_PASSAGES].T
        columns, kept = _best(block, width)
        # The best so far come first: they are earlier passages, and the sort below is stable.
        rows = np.concatenate([rows, columns + start], axis=1)
        products = np.concatenate([products, kept], axis=1)
        order = np.argsort(-products, axis=1, kind="stable")[:, :width]
        rows = np.take_along_axis(rows, order, axis=1)
        products = np.take_along_axis(products, order, axis=1)
    return rows


def _best(
    scores: npt.NDArray[np.float32], width: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the columns of each row's `width` greatest scores, in column order, and the scores.

    Of equal scores at the edge the first columns are kept, which `argpartition` doesn't promise.
    """
    size = scores.shape[1]
    if size <= width:
        return np.broadcast_to(np.arange(size), scores.shape), scores
    least = np.partition(scores, size - width, axis=1)[:, [size - width]]
    keep = scores >= least
    for row in np.flatnonzero(keep.sum(axis=1) > width):
        tied = np.flatnonzero(scores[row] == least[row])
        spare = int(keep[row].sum()) - width
        keep[row, tied[len(tied) - spare :]] = False
    columns = np.nonzero(keep)[1].reshape(len(scores), width)
    return columns, np.take_along_axis(scores, columns, axis=1)


def rank(
    queries: Vectors,
    passages: Vectors,
    query_ids: Sequence[str],
    doc_ids: Sequence[str],
    *,
    top_k: int,
) -> dict[str, list[str]]:
    """Return the ids of the `top_k` best documents by query id, best first.

    Equal scores keep the order of `doc_ids`.

    Args:
        queries: unit vectors, shape (len(query_ids), dim).
        passages: unit vectors, shape (len(doc_ids), dim).
        query_ids: ids of the rows of `queries`.
        doc_ids: ids of the rows of `passages`.
        top_k: documents per query; fewer when there are fewer.
    """
    rows, _ = exact_search(queries, passages, top_k)
    return {
        query_id: [doc_ids[row] for row in found]
        for query_id, found in zip(query_ids, rows.tolist(), strict=True)
    }
