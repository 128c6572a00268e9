from itertools import islice

import numpy as np
import pytest

from koe5_integrations.errors import DatasetError
from koe5_integrations.training.mini.batches import draw_batches, members


def drawn(sources, size, power, count=400):
    rng = np.random.default_rng(0)
    return list(islice(draw_batches(sources, size, power, rng), count))


def test_sources_of_one_pair_are_left_out():
    """Members are the rows by source, without rows not asked for and sources of one pair."""
    found = members(np.array([0, 1, 0, 2, 1, 1]), np.array([0, 2, 3, 4, 5]))
    assert [rows.tolist() for rows in found] == [[0, 2], [4, 5]]
    with pytest.raises(DatasetError, match="at least 2 pairs"):
        members(np.array([0, 1]), np.array([0, 1]))


def test_batches_are_of_one_source_without_repeats():
    """A batch has one source, no pair twice, and at most half of a small source."""
    sources = [np.arange(100), np.arange(100, 110)]
    for batch in drawn(sources, 20, 0.5):
        assert len(set(batch.tolist())) == len(batch)
        assert len(batch) == (20 if batch[0] < 100 else 5)
        assert len(set(batch >= 100)) == 1


def test_every_pair_comes_before_any_returns():
    """A source's pairs all come once before one comes again."""
    batches = drawn([np.arange(100)], 20, 1, count=10)
    for half in (batches[:5], batches[5:]):
        assert sorted(np.concatenate(half).tolist()) == list(range(100))
    assert np.concatenate(batches[:5]).tolist() != np.concatenate(batches[5:]).tolist()


@pytest.mark.parametrize(("power", "share"), [(1.0, 0.9), (0.5, 0.75), (0.0, 0.5)])
def test_the_power_decides_how_much_size_counts(power, share):
    """Sources of sizes 9 and 1 are drawn in the proportion 9 ** power to 1."""
    batches = drawn([np.arange(900), np.arange(900, 1000)], 2, power, count=3000)
    assert np.mean([batch[0] < 900 for batch in batches]) == pytest.approx(share, abs=0.03)
