import zlib

import numpy as np
import pytest

from koe5_integrations.training.mini.compact import compact_table


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    lengths = rng.uniform(0.3, 3, size=(2000, 1))
    return (rng.standard_normal((2000, 64)) * lengths).astype(np.float32)


def mean_vectors(table):
    rows = np.random.default_rng(1).integers(len(table), size=(200, 20))
    vectors = np.asarray(table, dtype=np.float32)[rows].mean(axis=1)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("levels", "bits", "cosine"), [(3, 5.2, 0.94), (7, 6.2, 0.97)])
def test_rounded_table_deflates_well_and_keeps_directions(table, levels, bits, cosine):
    """A few levels take a few bits a value and hardly turn the means of tokens."""
    compact = compact_table(table, levels=levels)
    assert compact.dtype == np.float16
    assert 8 * len(zlib.compress(compact.tobytes(), 6)) / compact.size < bits
    assert np.sum(mean_vectors(table) * mean_vectors(compact), axis=1).min() > cosine


def test_zero_rows_stay_zero(table):
    """A row of zeros comes out as zeros, without a warning and without the sign of -0."""
    table[5] = 0
    assert not np.any(compact_table(table, levels=3)[5].view(np.uint16))


def test_impossible_arguments_are_refused(table):
    """No level, or a table that isn't finite, raises."""
    with pytest.raises(ValueError, match="at least 1, not 0"):
        compact_table(table, levels=0)
    table[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        compact_table(table, levels=3)
