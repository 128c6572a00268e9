"""Linear layers of KoE5's sizes on this processor: ``python tests/benchmarks/layers.py``.

Prints GFLOP/s of torch's own layers and of those that the torch backend puts in their place, for
the tokens of one question, of a few and of a full pass: what the packing of weights gains, and what
bf16 and int8 could gain at most. Medians of runs in turn.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from koe5_integrations.backends.torch_linear import Int8Linear, PackedLinear

SIZES = ((1024, 1024), (1024, 4096), (4096, 1024))
TOKENS = (16, 512, 2048)
ROUNDS = 15


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    for tokens in TOKENS:
        for inputs, outputs in SIZES:
            linear = torch.nn.Linear(inputs, outputs)
            half = torch.nn.Linear(inputs, outputs).bfloat16()
            x = torch.randn(tokens, inputs)
            layers = {
                "torch fp32": (linear, x),
                "packed fp32": (PackedLinear(linear), x),
                "torch bf16": (half, x.bfloat16()),
                "packed bf16": (PackedLinear(half), x.bfloat16()),
                "int8": (Int8Linear(linear, 127), x),
            }
            seconds: dict[str, list[float]] = {name: [] for name in layers}
            for _ in range(ROUNDS):
                for name, (layer, given) in layers.items():
                    began = time.perf_counter()
                    layer(given)
                    seconds[name].append(time.perf_counter() - began)
            rates = {
                name: 2e-9 * tokens * inputs * outputs / statistics.median(each)
                for name, each in seconds.items()
            }
            told = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
            sys.stdout.write(f"{tokens:5} x {inputs} x {outputs}: {told} GFLOP/s\n")


if __name__ == "__main__":
    main()
