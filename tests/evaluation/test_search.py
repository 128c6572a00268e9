from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation import search
from koe5_integrations.evaluation.search import exact_search, rank


def test_ranks_by_inner_product_and_keeps_order_on_ties():
    """The best inner product comes first and equal ones keep the order of the ids."""
    passages = np.array([[0, 1], [1, 0], [1, 0]], dtype=np.float32)
    queries = np.array([[1, 0]], dtype=np.float32)
    assert rank(queries, passages, ["q"], ["a", "b", "c"], top_k=2) == {"q": ["b", "c"]}


def test_fewer_documents_than_asked_for():
    """A corpus smaller than top_k is returned whole."""
    vectors = np.eye(2, dtype=np.float32)
    assert rank(vectors, vectors, ["p", "q"], ["a", "b"], top_k=5) == {
        "p": ["a", "b"],
        "q": ["b", "a"],
    }


@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(0, 12),
    passages=st.integers(0, 40),
    top_k=st.integers(1, 20),
)
@settings(max_examples=200, deadline=None)
def test_blocks_change_nothing(seed, queries, passages, top_k):
    """Whatever the blocks, the answer is that of sorting all the products, ties included."""
    random = np.random.default_rng(seed)
    # Few distinct whole numbers: their products are exact, and many are equal.
    q = random.integers(-1, 2, (queries, 3)).astype(np.float32)
    d = random.integers(-1, 2, (passages, 3)).astype(np.float32)
    expected = np.argsort(-(q @ d.T), axis=1, kind="stable")[:, :top_k]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_BLOCK_QUERIES", 5)
        patch.setattr(search, "_BLOCK_PASSAGES", 7)
        rows, scores = exact_search(q, d, top_k)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, np.take_along_axis(q @ d.T, expected, axis=1))
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32)


def test_a_hundred_queries_among_a_hundred_thousand_passages():
    """Every query finds itself, in memory that does not grow with the corpus."""
    random = np.random.default_rng(0)
    passages = random.standard_normal((100_000, 256), dtype=np.float32)
    queries = passages[:100]
    tracemalloc.start()
    try:
        rows, _ = exact_search(queries, passages, 100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows[:, 0].tolist() == list(range(100))
    assert peak < 32 * 2**20  # all the products would be 40 MB


def test_equal_passages_keep_their_order_whatever_the_rounding():
    """Copies of a passage, wherever they stand, come in order, for any top_k and company."""
    random = np.random.default_rng(1)
    distinct = random.standard_normal((50, 301), dtype=np.float32)
    passages = distinct[np.arange(1003) % 50]
    queries = random.standard_normal((37, 301), dtype=np.float32)
    many, _ = exact_search(queries, passages, 30)
    for row, query in enumerate(queries):
        (alone,), _ = exact_search(query[None], passages, 3)
        np.testing.assert_array_equal(alone, many[row, :3])
        first = many[row, 0]
        assert many[row, :20].tolist() == [first + 50 * copy for copy in range(20)]


@pytest.mark.parametrize(
    ("queries", "passages", "top_k", "named"),
    [
        ((1, 2), (1, 3), 1, r"\(1, 2\).*\(1, 3\)"),
        ((2,), (1, 2), 1, r"\(2,\)"),
        ((1, 2), (1, 2), 0, "top_k=0"),
    ],
)
def test_impossible_arguments(queries, passages, top_k, named):
    """Shapes that don't fit and a top_k below 1 are refused."""
    with pytest.raises(ConfigError, match=named):
        exact_search(np.ones(queries, np.float32), np.ones(passages, np.float32), top_k)
