import numpy as np
import pytest

from koe5_integrations.errors import TrainingError
from koe5_integrations.training.mini.quantise import quantise


def test_signs_and_relative_scales_are_kept():
    """Each value keeps its sign, each row its mean size in proportion to the others'."""
    table = np.random.default_rng(0).standard_normal((50, 23), dtype=np.float32)
    table[7] *= 5
    kept = quantise(table)
    assert kept.bits.shape == (50, 3)
    assert not np.any(kept.bits[:, 2] & 1)  # the 24th column, which is none of the table's
    values = kept.values()
    assert np.array_equal(values > 0, table > 0)
    sizes = np.abs(table).mean(axis=1)
    np.testing.assert_allclose(np.abs(values).max(axis=1), sizes / sizes.mean(), rtol=1e-3)


def test_a_table_that_is_not_finite_is_refused():
    """NaN raises with what to change."""
    table = np.ones((3, 7), dtype=np.float32)
    table[1, 2] = np.nan
    with pytest.raises(TrainingError, match="lower learning_rate"):
        quantise(table)
