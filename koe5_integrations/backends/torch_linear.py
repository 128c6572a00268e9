"""Linear layers of a model on the CPU, on oneDNN's own layout of the weights or in 8 bits."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import nn
from torch.nn import functional

from koe5_integrations.backends.hardware import this_machine
from koe5_integrations.errors import ConfigError

__all__ = ["Int8Linear", "PackedLinear", "pack_linears", "packing_pays", "quantize_linears"]

# Rows of the products that are timed: enough to keep every core busy, over in milliseconds.
_ROWS = 64
_REPEATS = 7
# Packed layers must save this share of the time: less is noise, and not worth a second code path.
_WORTH = 0.9


class PackedLinear(nn.Module):
    """A linear layer that gives what the original gives, from weights laid out by oneDNN.

    torch's own layer calls MKL, which takes slow paths on processors that are not Intel's, and in
    bf16 lays the weights out anew in every call.

    Args:
        linear: the layer to replace; its weights are copied.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # No parameter: it is opaque to everything but the product below. Models that look at their
        # layers' weight.dtype find it all the same.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the product, shape (..., out_features), in the dtype of ``x``."""
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.weight, self.bias, "none", [], ""
        )
        return product


class Int8Linear(nn.Module):
    """A linear layer in 8 bits: weights scaled per output, activations per token.

    No token's result depends on what else is in the batch, unlike with torch's own dynamic
    quantisation, which scales a batch as a whole.

    Args:
        linear: the fp32 layer to replace; its weights are copied.
        levels: largest absolute value an activation is rounded to, 127 for 8 bits.
    """

    def __init__(self, linear: nn.Linear, levels: int) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scales = _divisor(weight, 127)
        self.weight = torch.ops.onednn.qlinear_prepack(
            (weight / scales).round_().to(torch.int8), None
        )
        self.bias = linear.bias
        self._levels = levels
        self._scales = scales.flatten()
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the product, shape (..., out_features), float32."""
        scales = _divisor(x, self._levels)
        # Unsigned with an offset, because only that has a fast product on x86.
        offset = self._levels + 1
        rounded = torch.mul(x, scales.reciprocal()).add_(offset + 0.5).to(torch.uint8)
        product: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, offset, self.weight, self._scales, self._zeros, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return product.mul_(scales) if self.bias is None else product.mul_(scales).add_(self.bias)


def _divisor(x: torch.Tensor, levels: int) -> torch.Tensor:
    """Return what to divide each row by for its values to lie within ±levels."""
    # Two reductions that are vectorised, unlike torch's for the absolute maximum.
    largest = torch.maximum(x.amax(-1, keepdim=True), x.amin(-1, keepdim=True).neg_())
    return largest.clamp_(min=1e-30).mul_(1 / levels)


def pack_linears(model: nn.Module) -> None:
    """Replace each linear layer of a model by a :class:`PackedLinear`, one after the other."""
    _replace(model, PackedLinear)


def quantize_linears(model: nn.Module) -> None:
    """Replace each linear layer of an fp32 model by an :class:`Int8Linear`, one after the other.

    Raises:
        ConfigError: torch has no fast product of 8-bit integers for this processor, or the model
            has no linear layers.
    """
    # Without VNNI, oneDNN adds pairs of products in 16 bits, which 8-bit activations overflow.
    levels = 127 if this_machine(ask_for_gpu=False).int8 else 63
    if not _has_int8_product(levels):
        raise ConfigError(
            "precision='int8': PyTorch has no fast product of 8-bit integers for this processor; "
            "use backend='onnx' (after `koe5 export --to onnx --int8`) or precision='fp32'"
        )
    if not _replace(model, lambda linear: Int8Linear(linear, levels)):
        raise ConfigError(
            "precision='int8': this model has no linear layers that torch can run in 8 bits; use "
            "precision='fp32'"
        )


def _replace(model: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> int:
    """Return how many layers there were to replace."""
    places: dict[nn.Linear, list[str]] = {}  # several, where a layer is used more than once
    for name, module in model.named_modules(remove_duplicate=False):
        if type(module) is nn.Linear:  # a subclass may do more than multiply
            places.setdefault(module, []).append(name)
    count = len(places)
    while places:
        linear, names = places.popitem()
        replacement = make(linear)
        for name in names:
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, replacement)
        # Its weights are freed here, before the next layer is copied.
    return count


def packing_pays(model: nn.Module) -> bool:
    """Whether packed layers give a model's vectors sooner on this processor, found by timing."""
    linears = [module for module in model.modules() if type(module) is nn.Linear]
    if not linears:
        return False
    weight = max((linear.weight for linear in linears), key=torch.Tensor.numel)
    return _packing_pays(weight.shape[0], weight.shape[1], weight.dtype)


# Kept, so that replicas of a model in one process decide alike.
@cache
def _packing_pays(out_features: int, in_features: int, dtype: torch.dtype) -> bool:
    linear = nn.Linear(in_features, out_features, dtype=dtype).requires_grad_(False)
    x = torch.rand(_ROWS, in_features, dtype=dtype)
    try:
        packed = PackedLinear(linear)
        packed(x)
    except (AttributeError, RuntimeError):  # no oneDNN in this build, or not for this dtype
        return False
    seconds = _time(lambda: linear(x), lambda: packed(x))
    return seconds[1] < _WORTH * seconds[0]


@cache
def _has_int8_product(levels: int) -> bool:
    """Whether 8-bit layers exist, compute the right thing, and aren't a slow reference version."""
    linear = nn.Linear(512, 512).requires_grad_(False)
    x = torch.rand(_ROWS, 512)
    try:
        quantized = Int8Linear(linear, levels)
        similarity = functional.cosine_similarity(quantized(x), linear(x)).min().item()
    except (AttributeError, RuntimeError):  # no oneDNN in this build
        return False
    seconds = _time(lambda: linear(x), lambda: quantized(x))
    # The reference version takes a hundred times as long; a busy machine at most a few times.
    return similarity > 0.99 and seconds[1] < 10 * seconds[0]


def _time(*works: Callable[[], object]) -> list[float]:
    """Return the least seconds each takes, run in turn, so that a busy machine hits all alike."""
    seconds = [float("inf")] * len(works)
    for _ in range(_REPEATS):
        for i, work in enumerate(works):
            start = time.perf_counter()
            work()
            seconds[i] = min(seconds[i], time.perf_counter() - start)
    return seconds
