"""Weighted sums of a table's rows in torch, with a backward pass that is a bag of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from koe5_integrations.backends.bag import saturated
from koe5_integrations.training.mini.features import MAX_COUNT, Features
from koe5_integrations.types import Vectors

__all__ = ["BagSums", "one_bit"]

_TEXTS_AT_ONCE = 1024


class _Sums(torch.autograd.Function):
    # Of every row's gradient, torch's own backward makes a sum over single occurrences. Turned
    # round, so that rows are bags of texts, the fast forward kernel does it.

    @staticmethod
    def forward(
        ctx: Any,
        table: torch.Tensor,
        ids: torch.Tensor,
        offsets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(ids, offsets, weights)
        ctx.rows = len(table)
        return functional.embedding_bag(
            ids, table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
        )

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        ids, offsets, weights = ctx.saved_tensors
        order = torch.sort(ids, stable=True).indices
        texts = torch.arange(len(offsets) - 1, dtype=torch.int32)
        owners = texts.repeat_interleave(offsets.diff())
        starts = torch.zeros(ctx.rows + 1, dtype=torch.int32)
        torch.cumsum(torch.bincount(ids, minlength=ctx.rows), 0, out=starts[1:])
        gradient = functional.embedding_bag(
            owners[order],
            gradients[0].contiguous(),
            starts,
            mode="sum",
            per_sample_weights=weights[order],
            include_last_offset=True,
        )
        return gradient, None, None, None


class BagSums:
    """Sums each text's rows of a table, every feature weighted by how often it occurs.

    Args:
        saturation: see :func:`koe5_integrations.backends.bag.saturated`.
    """

    def __init__(self, saturation: float) -> None:
        self._weights = saturated(np.arange(MAX_COUNT + 1), saturation)

    def __call__(self, table: torch.Tensor, features: Features) -> torch.Tensor:
        """Return the sums, shape (len(features), columns); the table may require a gradient."""
        sums: torch.Tensor = _Sums.apply(  # type: ignore[no-untyped-call]  # torch leaves it so
            table,
            torch.from_numpy(features.ids),
            torch.from_numpy(features.offsets.astype(np.int32)),
            torch.from_numpy(self._weights[features.counts]),
        )
        return sums

    def vectors(self, table: Vectors, features: Features) -> Vectors:
        """Return the sums of many texts, a few at a time, shape (len(features), columns)."""
        weights = torch.from_numpy(table)
        out = np.zeros((len(features), table.shape[1]), dtype=np.float32)
        with torch.no_grad():
            for at in range(0, len(out), _TEXTS_AT_ONCE):
                rows = np.arange(at, min(at + _TEXTS_AT_ONCE, len(out)))
                out[rows] = self(weights, features.select(rows)).numpy()
        return out


def one_bit(rows: torch.Tensor) -> torch.Tensor:
    """Return each row as its signs, times the mean of its values without sign."""
    scales = rows.abs().mean(dim=1, keepdim=True)
    return torch.where(rows > 0, scales, -scales)
