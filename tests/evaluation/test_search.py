import numpy as np

from koe5_integrations.evaluation.search import rank


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
