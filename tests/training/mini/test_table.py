from itertools import islice

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from koe5_integrations.training.mini.bags import Bags
from koe5_integrations.training.mini.table import Recipe, draw_batches, initial_table, train_table


def bags(*texts):
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    return Bags(np.concatenate(texts).astype(np.int32), offsets.astype(np.int64))


def test_rare_tokens_start_longer():
    """A token of one text starts with a longer row than a token of all."""
    texts = bags(*([0, number] for number in range(1, 50)))
    lengths = np.linalg.norm(initial_table(texts, 50, Recipe(dim=64)), axis=1)
    assert lengths[0] < 0.1 * lengths[1:].min()


def test_batches_of_one_source_hold_one_source():
    """With one_source=1 no batch mixes sources, and a source lends at most half of itself."""
    sources = np.array([0] * 10 + [1] * 100)
    for rows in islice(draw_batches(sources, Recipe(batch_size=32, one_source=1)), 50):
        assert len(set(sources[rows])) == 1
        assert len(rows) == (5 if sources[rows[0]] == 0 else 32)


def test_mixed_batches_deal_every_pair_before_repeating():
    """With one_source=0 a pass over a single source deals each pair once."""
    batches = islice(draw_batches(np.zeros(30), Recipe(batch_size=10, one_source=0)), 3)
    assert sorted(np.concatenate(list(batches))) == list(range(30))


def test_more_rows_than_a_source_has_come_round_again():
    """A batch larger than what is left of a source continues with a new shuffle."""
    batches = draw_batches(np.zeros(7), Recipe(batch_size=5, one_source=0))
    rows = np.concatenate(list(islice(batches, 7)))
    assert np.bincount(rows).tolist() == [5] * 7


def test_same_seed_same_table():
    """Training twice from one seed gives the same bytes, from another seed other ones."""
    queries = bags(*([number] for number in range(20)))
    passages = bags(*([20 + number] for number in range(20)))
    sources = np.zeros(20, dtype=np.int64)

    def trained(seed):
        recipe = Recipe(dim=8, steps=5, batch_size=8, seed=seed)
        start = initial_table(passages, 40, recipe)
        return train_table(start, queries, passages, sources, recipe)

    np.testing.assert_array_equal(trained(1), trained(1))
    assert not np.array_equal(trained(1), trained(2))


def test_equal_passages_are_not_each_others_negatives():
    """A batch in which every passage is the same has nothing to tell apart: its loss is 0."""
    queries = bags(*([number] for number in range(8)))
    passages = bags(*([9] for _ in range(8)))
    recipe = Recipe(dim=8, steps=1, batch_size=8, one_source=0)
    losses = []
    train_table(
        initial_table(passages, 10, recipe),
        queries,
        passages,
        np.zeros(8, dtype=np.int64),
        recipe,
        report=lambda _, loss: losses.append(loss),
    )
    assert losses == [0]


def test_one_pair_is_too_few():
    """A single pair has no negatives, which is an error."""
    with pytest.raises(ValueError, match="at least 2 pairs, not 1"):
        train_table(np.zeros((2, 4), np.float32), bags([0]), bags([1]), np.zeros(1), Recipe())
