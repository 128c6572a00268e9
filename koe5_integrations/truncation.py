"""Accounts for what a model's maximum length cuts off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from koe5_integrations.backends import Tokens
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
    tokens: Sequence[Tokens], texts: Sequence[str], on_truncation: OnTruncation
) -> Truncation:
    """Count what was cut from these texts, and ``warn``, raise an ``error`` or ``ignore`` it.

    Raises:
        TruncationError: naming the first text that was cut.
    """
    cut = [i for i, t in enumerate(tokens) if t.uncut > len(t.ids)]
    if not cut:
        return Truncation()
    limit = len(tokens[cut[0]].ids)
    if on_truncation == "error":
        raise TruncationError(
            f"has {tokens[cut[0]].uncut} tokens with its prefix, and the model reads {limit}: "
            "split it into shorter passages (or choose on_truncation='warn')",
            position=cut[0],
            value=texts[cut[0]],
        )
    counted = Truncation(len(cut), sum(tokens[i].uncut - len(tokens[i].ids) for i in cut))
    if on_truncation == "warn":
        warn(
            TruncationWarning(
                f"{counted.texts} of {len(tokens)} texts (positions {describe_positions(cut)}) are "
                f"longer than the {limit} tokens the model reads: {counted.tokens} of "
                f"{sum(t.uncut for t in tokens)} tokens are not embedded. Split them into shorter "
                "passages, or choose on_truncation='error' or 'ignore'"
            )
        )
    return counted
