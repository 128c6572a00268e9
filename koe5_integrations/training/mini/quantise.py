"""The trained table as it is kept: a bit a value and a scale a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koe5_integrations.errors import TrainingError
from koe5_integrations.types import Vectors

__all__ = ["OneBitTable", "quantise"]

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class OneBitTable:
    """A table of rows of one value with signs.

    Attributes:
        bits: eight columns a byte, the last columns filled up with 0; uint8.
        scales: of each row, float16, about 1 on average.
        width: columns.
    """

    bits: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float16]
    width: int

    def values(self) -> Vectors:
        """Return the table that it stands for, shape (rows, width), float32."""
        out = np.empty((len(self.bits), self.width), dtype=np.float32)
        for at in range(0, len(out), _ROWS_AT_ONCE):
            some = slice(at, at + _ROWS_AT_ONCE)
            out[some] = np.unpackbits(self.bits[some], axis=1)[:, : self.width]
            out[some] = (2 * out[some] - 1) * self.scales[some, None].astype(np.float32)
        return out


def quantise(table: Vectors) -> OneBitTable:
    """Keep each value's sign, and of each row the mean of its values without sign.

    Raises:
        TrainingError: the table holds NaN or infinity.
    """
    scales = np.abs(table).mean(axis=1)
    if not np.isfinite(scales).all():
        raise TrainingError("the table holds NaN or infinity; lower learning_rate")
    scales = np.minimum(scales / scales.mean(), np.finfo(np.float16).max)
    return OneBitTable(
        np.packbits(table > 0, axis=1), scales.astype(np.float16), width=table.shape[1]
    )
