"""What this machine does with this model: speed, waits, memory, fidelity, and what to choose.

::

    from koe5_integrations.bench import run_bench

    result = run_bench("koe5-mini", quick=True)
    print(result.recommendation.text)

Importing this package loads no model library; names are resolved when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from koe5_integrations.bench.configurations import Configuration
    from koe5_integrations.bench.files import write_bench
    from koe5_integrations.bench.recommendation import recommend
    from koe5_integrations.bench.results import (
        BenchResult,
        Callers,
        Choice,
        Failed,
        Fidelity,
        Measured,
        Memory,
        Recommendation,
        Throughput,
        Waits,
    )
    from koe5_integrations.bench.running import run_bench

_HOME = {
    "BenchResult": "results",
    "Callers": "results",
    "Choice": "results",
    "Configuration": "configurations",
    "Failed": "results",
    "Fidelity": "results",
    "Measured": "results",
    "Memory": "results",
    "Recommendation": "results",
    "Throughput": "results",
    "Waits": "results",
    "recommend": "recommendation",
    "run_bench": "running",
    "write_bench": "files",
}

__all__ = [
    "BenchResult",
    "Callers",
    "Choice",
    "Configuration",
    "Failed",
    "Fidelity",
    "Measured",
    "Memory",
    "Recommendation",
    "Throughput",
    "Waits",
    "recommend",
    "run_bench",
    "write_bench",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
