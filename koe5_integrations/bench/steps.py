"""What is measured in one round, and how the answers of several rounds become figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from koe5_integrations.bench.configurations import Configuration
from koe5_integrations.bench.results import (
    Callers,
    Fidelity,
    Measured,
    Memory,
    Throughput,
    Waits,
)
from koe5_integrations.bench.workload import Workload

__all__ = ["Gathered", "Plan", "Step", "reference_of"]


@dataclass(frozen=True)
class Step:
    """One measurement: a method of :class:`~koe5_integrations.bench.measuring.Measuring`."""

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Plan:
    """What every configuration goes through.

    Attributes:
        lengths: tokens of a passage, ascending.
        batch_tokens: most tokens in a pass, besides the backend's own choice.
        callers: how many ask at once.
        seconds: of one measurement, about.
        rounds: how often each is made.
    """

    lengths: tuple[int, ...]
    batch_tokens: tuple[int, ...]
    callers: tuple[int, ...]
    seconds: float
    rounds: int

    @property
    def steps(self) -> list[Step]:
        """The measurements of a round, in order."""
        return [
            *(
                Step("throughput", (("length", length), ("batch_tokens", batch)))
                for length in self.lengths
                for batch in (None, *self.batch_tokens)
            ),
            Step("query"),
            Step("query_during_bulk"),
            *(Step("callers", (("callers", callers),)) for callers in self.callers),
        ]


@dataclass
class Gathered:
    """What a configuration's process has answered so far."""

    configuration: Configuration
    vectors: Path
    loaded: dict[str, Any] = field(default_factory=dict)
    first_query: float = 0.0
    answers: dict[Step, list[dict[str, Any]]] = field(default_factory=dict)
    finished: dict[str, Any] = field(default_factory=dict)

    def add(self, step: Step, answer: dict[str, Any]) -> None:
        """Keep the answer of one round."""
        if "skipped" not in answer:
            self.answers.setdefault(step, []).append(answer)

    def figures(self, workload: Workload, reference: Gathered | None) -> Measured:
        """Return the figures; `reference` has the fp32 vectors to hold these against."""
        tokens = {each.length: each.tokens for each in workload.passages}
        throughput, callers = [], []
        waits: dict[str, Waits] = {}
        for step, rounds in self.answers.items():
            asked = dict(step.arguments)
            if step.name == "throughput":
                rates = tuple(each["rate"] for each in rounds)
                length = asked["length"]
                found = Throughput(
                    length, asked["batch_tokens"], tokens[length], rounds[0]["texts"], rates
                )
                throughput.append(found)
            elif step.name == "callers":
                columns = [tuple(each[key] for each in rounds) for key in ("rate", "p50", "p95")]
                callers.append(Callers(asked["callers"], *columns))
            else:
                waits[step.name] = Waits(tuple(tuple(each["waits"]) for each in rounds))
        return Measured(
            configuration=self.configuration,
            device=self.loaded["device"],
            batch_tokens=self.loaded["batch_tokens"],
            load_seconds=self.loaded["seconds"],
            first_query_seconds=self.first_query,
            memory=Memory(
                self.loaded["resident"], self.finished["peak"], self.finished["device_peak"]
            ),
            throughput=tuple(throughput),
            query=waits["query"],
            query_during_bulk=waits["query_during_bulk"],
            callers=tuple(callers),
            fidelity=None if reference is None else self._fidelity(reference),
        )

    def _fidelity(self, reference: Gathered) -> Fidelity:
        ours, exact = np.load(self.vectors), np.load(reference.vectors)
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(exact, axis=1)
        cosines = np.einsum("ij,ij->i", ours, exact, dtype=np.float64) / lengths
        return Fidelity(
            mean=min(1.0, float(cosines.mean())),
            min=min(1.0, float(cosines.min())),
            texts=len(cosines),
            reference=reference.configuration.name,
        )


def reference_of(gathered: Sequence[Gathered]) -> Gathered | None:
    """Return whose vectors the others' are held against: torch in fp32, or else another fp32."""
    exact = [each for each in gathered if each.configuration.precision == "fp32"]
    order = ["torch", "static", "onnx", "openvino", "auto"]
    return min(exact, key=lambda each: order.index(each.configuration.backend), default=None)
