import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

# After the check above, which skips this file where the extra is not installed.
from koe5_integrations.training.mini.bag import BagSums, one_bit  # noqa: E402
from koe5_integrations.training.mini.features import Features  # noqa: E402

FEATURES = Features(
    np.array([3, 0, 3, 4], dtype=np.int32),
    np.array([1, 2, 7, 1], dtype=np.uint16),
    np.array([0, 1, 1, 4]),
)
# Texts by rows, with c * 3 / (c + 2) for a feature that occurs c times.
DENSE = np.array([[0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1.5, 0, 0, 7 / 3, 1]])


def test_sums_and_gradients_are_those_of_the_matrix():
    """Sums, and each row's gradient, are what the matrix of weights gives."""
    rng = np.random.default_rng(0)
    table = torch.from_numpy(rng.standard_normal((5, 6), dtype=np.float32)).requires_grad_()
    above = rng.standard_normal((3, 6), dtype=np.float32)
    sums = BagSums(2.0)(table, FEATURES)
    sums.backward(torch.from_numpy(above))
    np.testing.assert_allclose(sums.detach(), DENSE @ table.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(table.grad, DENSE.T @ above, atol=1e-6)


def test_many_texts_are_summed_in_slices():
    """Texts summed a few at a time give what each gives alone."""
    table = np.random.default_rng(0).standard_normal((5, 6), dtype=np.float32)
    rows = np.random.default_rng(1).integers(3, size=2500)
    sums = BagSums(2.0).vectors(table, FEATURES.select(rows))
    np.testing.assert_allclose(sums, (DENSE @ table)[rows], atol=1e-5)


def test_one_bit_rows_keep_signs_and_mean_size():
    """Every value becomes its row's mean size with its own sign; 0 counts as negative."""
    rows = one_bit(torch.tensor([[1.0, -2.0, 3.0], [0.0, 0.0, 0.3]]))
    np.testing.assert_allclose(rows, [[2, -2, 2], [-0.1, -0.1, 0.1]], atol=1e-6)
