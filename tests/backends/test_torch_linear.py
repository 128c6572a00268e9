"""Tests of koe5_integrations.backends.torch_linear."""

from __future__ import annotations

import gc
import weakref

import pytest

from koe5_integrations.errors import ConfigError

torch = pytest.importorskip("torch")
linears = pytest.importorskip("koe5_integrations.backends.torch_linear")

SHAPES = [(1, 1), (13, 7), (7, 13), (33, 64), (64, 48)]
LEADING = [(3,), (2, 5), (2, 1, 4), (0,), ()]


@pytest.fixture(autouse=True)
def onednn() -> None:
    """Both kinds of layer run on oneDNN, which some builds of torch lack."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no oneDNN")


def make_linear(n_in: int, n_out: int, *, bias: bool = True) -> torch.nn.Linear:
    torch.manual_seed(n_in * 1000 + n_out)
    return torch.nn.Linear(n_in, n_out, bias=bias).requires_grad_(False)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n_in", "n_out"), SHAPES)
def test_a_packed_layer_gives_the_same(n_in: int, n_out: int, bias: bool) -> None:
    """Any size, any leading dimensions, with and without bias."""
    linear = make_linear(n_in, n_out, bias=bias)
    packed = linears.PackedLinear(linear)
    for leading in LEADING:
        x = torch.randn(*leading, n_in)
        torch.testing.assert_close(packed(x), linear(x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["packed", "int8"])
def test_inputs_need_not_be_contiguous(kind: str) -> None:
    """A transposed or strided view gives what its copy gives."""
    linear = make_linear(12, 5)
    layer = linears.PackedLinear(linear) if kind == "packed" else linears.Int8Linear(linear, 127)
    for view in (torch.randn(4, 3, 12).transpose(0, 1), torch.randn(6, 24)[:, ::2]):
        torch.testing.assert_close(layer(view), layer(view.contiguous()))


def test_bf16_is_packed_too() -> None:
    """The product stays in bf16 and is that of the original layer up to its rounding."""
    linear = make_linear(40, 24).bfloat16()
    x = torch.randn(9, 40, dtype=torch.bfloat16)
    try:
        packed = linears.PackedLinear(linear)
    except RuntimeError as error:
        pytest.skip(f"this processor has no bf16: {error}")
    assert packed(x).dtype == torch.bfloat16
    torch.testing.assert_close(packed(x), linear(x), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("levels", [127, 63])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n_in", "n_out"), SHAPES)
def test_an_8_bit_layer_is_close(n_in: int, n_out: int, bias: bool, levels: int) -> None:
    """Each value is off by no more than the rounding of weights and activations allows."""
    linear = make_linear(n_in, n_out, bias=bias)
    quantized = linears.Int8Linear(linear, levels)
    weight_step = linear.weight.abs().max() / 127 / 2
    for leading in LEADING:
        x = torch.randn(*leading, n_in)
        step = x.abs().amax(-1, keepdim=True) / levels / 2
        bound = x.abs().sum(-1, keepdim=True) * weight_step
        bound = bound + step * (linear.weight.abs().sum(1) + n_in * weight_step)
        error = (quantized(x) - linear(x)).abs()
        assert error.shape == (*leading, n_out)
        assert (error <= bound * 1.01 + 1e-6).all()


def test_an_8_bit_row_does_not_depend_on_the_others() -> None:
    """A row gives bit for bit the same beside rows a thousand times as large."""
    layer = linears.Int8Linear(make_linear(48, 20), 127)
    row = torch.randn(1, 48)
    together = layer(torch.cat([row * 1000, row, torch.zeros(1, 48)]))
    assert torch.equal(together[1:2], layer(row))
    assert torch.equal(together[2], layer.bias)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_8_bit_layer_hides_no_nan(value: float) -> None:
    """What is not finite stays so, and in its own row."""
    x = torch.randn(2, 16)
    x[0, 3] = value
    product = linears.Int8Linear(make_linear(16, 4), 127)(x)
    assert not product[0].isfinite().any()
    assert product[1].isfinite().all()


class Scaled(torch.nn.Linear):
    """A linear layer that does more than multiply."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Tied(torch.nn.Module):
    """One layer in two places, a weight that is an embedding's too, and a subclass."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(11, 6)
        self.first = self.second = torch.nn.Linear(6, 6)
        self.layers = torch.nn.ModuleList([self.first, torch.nn.Linear(6, 6, bias=False)])
        self.scaled = Scaled(6, 6)
        self.head = torch.nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.second(self.first(self.embedding(ids)))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.scaled(x))


@pytest.mark.parametrize("kind", ["packed", "int8"])
def test_replaces_each_layer_wherever_it_is_used(kind: str) -> None:
    """A shared layer stays shared, a tied weight serves its embedding, a subclass stays."""
    torch.manual_seed(0)
    model = Tied().requires_grad_(False)
    ids = torch.arange(11)
    expected = model(ids)
    if kind == "packed":
        linears.pack_linears(model)
        torch.testing.assert_close(model(ids), expected, atol=1e-6, rtol=1e-5)
    else:
        linears.quantize_linears(model)
        torch.testing.assert_close(model(ids), expected, atol=0.05, rtol=0.05)
    assert type(model.first) is not torch.nn.Linear
    assert model.first is model.second
    assert model.first is model.layers[0]
    assert type(model.scaled) is Scaled
    assert type(model.head) is not torch.nn.Linear


@pytest.mark.parametrize("replace", [linears.pack_linears, linears.quantize_linears])
def test_frees_the_original_weights(replace: object) -> None:
    """Nothing keeps a replaced layer's weights, which would double the memory."""
    model = torch.nn.Sequential(make_linear(8, 8), make_linear(8, 8))
    weights = [weakref.ref(layer.weight) for layer in model]
    replace(model)  # type: ignore[operator]  # one of two functions
    gc.collect()
    assert [weight() for weight in weights] == [None, None]


def test_packing_is_timed_once_for_all_replicas() -> None:
    """The answer for a size is kept, so that copies of a model in one process agree."""
    model = torch.nn.Sequential(make_linear(96, 64))
    answers = {linears.packing_pays(model) for _ in range(20)}
    assert len(answers) == 1


@pytest.mark.parametrize(
    "model",
    [torch.nn.Sequential(torch.nn.LayerNorm(4)), torch.nn.Linear(4, 4).double()],
    ids=["no linear layer", "a dtype oneDNN lacks"],
)
def test_nothing_is_packed_where_it_cannot_be(model: torch.nn.Module) -> None:
    """Without anything to pack, or a product for it, the model stays as it is."""
    assert not linears.packing_pays(model)


def test_a_model_without_linear_layers_has_no_8_bits() -> None:
    """It would be the fp32 model under another name."""
    with pytest.raises(ConfigError, match=r"int8.*no linear layers.*precision='fp32'"):
        linears.quantize_linears(torch.nn.Sequential(torch.nn.LayerNorm(4)))
