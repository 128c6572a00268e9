"""Tests of koe5_integrations.vectors."""

from __future__ import annotations

import numpy as np
import pytest

from koe5_integrations.errors import EncodingError
from koe5_integrations.vectors import finish_vectors


def rows(*values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_scales_to_unit_length() -> None:
    """Each row is divided by its own length."""
    done = finish_vectors(rows([3, 4], [0, -2]), truncate_dim=None, normalize=True)
    np.testing.assert_allclose(done, [[0.6, 0.8], [0, -1]], atol=1e-7)
    assert done.dtype == np.float32


def test_keeps_lengths_if_asked() -> None:
    """Without normalisation values are left alone, a zero vector included."""
    done = finish_vectors(rows([3, 4], [0, 0]), truncate_dim=None, normalize=False)
    np.testing.assert_array_equal(done, [[3, 4], [0, 0]])


@pytest.mark.parametrize("normalize", [True, False])
def test_cuts_before_it_scales(normalize: bool) -> None:
    """A cut vector has unit length in the dimensions that are left, in memory of its own."""
    done = finish_vectors(rows([3, 4, 100], [6, 8, -1]), truncate_dim=2, normalize=normalize)
    expected = [[0.6, 0.8], [0.6, 0.8]] if normalize else [[3, 4], [6, 8]]
    np.testing.assert_allclose(done, expected, atol=1e-7)
    assert done.flags.c_contiguous
    assert done.base is None


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_names_the_first_row_that_is_not_finite(bad: float, normalize: bool) -> None:
    """NaN or infinity is never returned, but reported with the text's position."""
    vectors = rows([1, 0], [0, 1], [bad, 1], [bad, bad])
    with pytest.raises(EncodingError, match=r"NaN or infinity for texts\[2\]"):
        finish_vectors(vectors, truncate_dim=None, normalize=normalize)


def test_names_the_callers_position() -> None:
    """Rows of another order, as of a job in parts, are reported where the caller has them."""
    vectors = rows([1, 0], [np.nan, 1], [0, 0], [0, 1])
    with pytest.raises(EncodingError, match=r"a zero vector for texts\[3\]"):
        finish_vectors(vectors, truncate_dim=None, normalize=True, positions=np.array([0, 9, 3, 1]))


def test_refuses_a_zero_vector_that_should_have_a_direction() -> None:
    """A zero vector can't be scaled to unit length."""
    with pytest.raises(EncodingError, match=r"a zero vector for texts\[1\]"):
        finish_vectors(rows([1, 0], [0, 0]), truncate_dim=None, normalize=True)


def test_takes_no_rows() -> None:
    """No vectors are no mistake."""
    done = finish_vectors(np.empty((0, 4), np.float32), truncate_dim=2, normalize=True)
    assert done.shape == (0, 2)
