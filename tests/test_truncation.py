"""Tests of koe5_integrations.truncation."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from koe5_integrations.errors import TruncationError, TruncationWarning
from koe5_integrations.truncation import Truncation, account_for_truncation


def tokens(*lengths: int, limit: int = 8) -> tuple[np.ndarray, np.ndarray]:
    uncut = np.array(lengths, dtype=np.int64)
    return np.minimum(uncut, limit), uncut


def test_counts_texts_and_tokens() -> None:
    """Every text over the limit is counted, with the tokens beyond it."""
    cut = account_for_truncation(*tokens(3, 9, 8, 20), ["a", "b", "c", "d"], "ignore")
    assert cut == Truncation(texts=2, tokens=13)


@pytest.mark.parametrize("policy", ["warn", "error", "ignore"])
def test_says_nothing_when_nothing_is_cut(policy: str) -> None:
    """Texts up to the limit pass under every policy."""
    with warnings.catch_warnings(action="error"):
        counted = account_for_truncation(*tokens(1, 8), ["a", "b"], policy)
    assert counted == Truncation(0, 0)


def test_warns_with_positions_and_counts() -> None:
    """The warning says which texts, how many of their tokens, and the limit."""
    expected = r"2 of 4 texts \(positions 1, 3\) .* 8 tokens the model reads: 13 of 40 tokens"
    with pytest.warns(TruncationWarning, match=expected):
        counted = account_for_truncation(*tokens(3, 9, 8, 20), ["a", "b", "c", "d"], "warn")
    assert counted == Truncation(2, 13)


def test_refuses_the_first_cut_text_if_asked() -> None:
    """With ``error`` the first text over the limit is named, with its length and the limit."""
    with pytest.raises(TruncationError, match=r"has 9 tokens .* the model reads 8") as caught:
        account_for_truncation(*tokens(3, 9, 20), ["a", "b", "c"], "error")
    assert (caught.value.position, caught.value.value) == (1, "b")


def test_counts_add_up() -> None:
    """Two counts make one."""
    assert Truncation(1, 5) + Truncation(2, 7) == Truncation(3, 12)
