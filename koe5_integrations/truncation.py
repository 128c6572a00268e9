"""Accounts for what a model's maximum length cuts off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koe5_integrations.errors import TruncationError, TruncationWarning
from koe5_integrations.options import OnTruncation
from koe5_integrations.text import describe_positions
from koe5_integrations.warn import warn

__all__ = ["Truncation", "account_for_truncation"]


@dataclass(frozen=True, slots=True)
class Truncation:
    """What has been cut.

    Attributes:
        texts: how many were longer than the model reads.
        tokens: how many of their tokens were not embedded.
    """

    texts: int = 0
    tokens: int = 0

    def __add__(self, other: Truncation) -> Truncation:
        """Sum both counts."""
        return Truncation(self.texts + other.texts, self.tokens + other.tokens)


def account_for_truncation(
    read: npt.NDArray[np.int64],
    uncut: npt.NDArray[np.int64],
    texts: Sequence[str],
    on_truncation: OnTruncation,
) -> Truncation:
    """Count what was cut from these texts, and ``warn``, raise an ``error`` or ``ignore`` it.

    Args:
        read: tokens of each text that the model reads, shape (n,).
        uncut: tokens of each whole text, shape (n,).
        texts: as the caller gave them; equal ones are counted each.
        on_truncation: what to do.

    Raises:
        TruncationError: naming the first text that was cut.
    """
    cut = np.flatnonzero(uncut > read).tolist()
    if not cut:
        return Truncation()
    limit = read[cut[0]]
    if on_truncation == "error":
        raise TruncationError(
            f"has {uncut[cut[0]]} tokens with its prefix, and the model reads {limit}: "
            "split it into shorter passages (or choose on_truncation='warn')",
            position=cut[0],
            value=texts[cut[0]],
        )
    counted = Truncation(len(cut), int((uncut - read).sum()))
    if on_truncation == "warn":
        warn(
            TruncationWarning(
                f"{counted.texts} of {len(texts)} texts (positions {describe_positions(cut)}) are "
                f"longer than the {limit} tokens the model reads: {counted.tokens} of "
                f"{uncut.sum()} tokens are not embedded. Split them into shorter passages, or "
                "choose on_truncation='error' or 'ignore'"
            )
        )
    return counted
