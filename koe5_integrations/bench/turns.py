"""Runs configurations in turns, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from koe5_integrations.bench.configurations import Configuration
from koe5_integrations.bench.machine import available_memory
from koe5_integrations.bench.processes import WorkerError, WorkerProcess
from koe5_integrations.bench.results import Failed
from koe5_integrations.bench.steps import Gathered, Plan, Step

__all__ = ["WORKLOAD", "Turns"]

WORKLOAD = "workload.json"
"""The file in the scratch folder that every process reads."""

# What a process takes besides the weights: libraries, and the activations of a batch.
_ENGINE_BYTES = 700 * 2**20
_GB = 10**9


@dataclass
class _Candidate:
    """A configuration's process, and what it has answered."""

    process: WorkerProcess
    gathered: Gathered

    def load(self, encoder: Mapping[str, Any], workload: Path) -> None:
        """Load the model and run everything once."""
        self.gathered.loaded = self.process.ask("load", encoder=encoder)
        prepared = self.process.ask("prepare", workload=str(workload))
        self.gathered.first_query = prepared["first_query"]

    def measure(self, step: Step, seconds: float) -> None:
        """Make one measurement."""
        arguments = {**dict(step.arguments), "seconds": seconds}
        answer = self.process.ask("measure", name=step.name, **arguments)
        self.gathered.add(step, answer)

    def finish(self) -> None:
        """Fetch the vectors and the memory that was needed, and end the process."""
        self.process.ask("vectors", path=str(self.gathered.vectors))
        self.gathered.finished = self.process.ask("finish")
        self.process.end()


@dataclass
class Turns:
    """Measures configurations of one model.

    Args:
        arguments: of the encoder, as JSON types; backend and precision are added.
        plan: what each goes through.
        scratch: folder with the :data:`WORKLOAD`; vectors are written into it.
        progress: draw a progress bar on stderr.

    Attributes:
        failed: what could not be measured, and why.
        notes: what a reader of the figures should know.
    """

    arguments: Mapping[str, Any]
    plan: Plan
    scratch: Path
    progress: bool = False
    failed: list[Failed] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)

    def run(self, sizes: Mapping[Configuration, int]) -> list[Gathered]:
        """Measure configurations, given with the bytes of their weights.

        They are all loaded at once and take turns, or are run one after another where memory is
        short.
        """
        done: list[Gathered] = []
        # Besides the measurements, each loads and finishes.
        work = (self.plan.rounds * len(self.plan.steps) + 2) * len(sizes)
        with tqdm(total=work, desc="measuring", unit="step", disable=not self.progress) as bar:
            for group in self._groups(sizes):
                done += self._run_group(group, sizes, bar)
        order = list(sizes)
        return sorted(done, key=lambda each: order.index(each.configuration))

    def compute_vectors(self, configuration: Configuration) -> Gathered | None:
        """Run one for its vectors alone; None, and a note, if it can't."""
        with WorkerProcess() as process:
            candidate = self._candidate(process, configuration)
            try:
                candidate.load(self._encoder(configuration), self._workload)
                candidate.finish()
            except WorkerError as error:
                self.notes[f"fidelity is not known: {configuration.name} failed: {error}"] = None
                return None
        return candidate.gathered

    def _groups(self, sizes: Mapping[Configuration, int]) -> list[list[Configuration]]:
        # One loads at a time, and holds its file and its tensors while it does.
        needed = sum(size + _ENGINE_BYTES for size in sizes.values()) + max(sizes.values())
        available = available_memory()
        if len(sizes) == 1 or needed <= available:
            return [list(sizes)]
        self.notes[
            f"run one after another, not in turns, because all at once need about "
            f"{needed / _GB:.1f} GB of memory and {available / _GB:.1f} GB are free: small "
            "differences may come from what else the machine did"
        ] = None
        return [[each] for each in sizes]

    def _run_group(
        self, group: Sequence[Configuration], sizes: Mapping[Configuration, int], bar: tqdm[Any]
    ) -> list[Gathered]:
        alive: list[_Candidate] = []
        with ExitStack() as stack:
            for configuration in group:
                free = available_memory()
                if sizes[configuration] > free:
                    reason = (
                        f"its weights alone are {sizes[configuration] / _GB:.1f} GB, and "
                        f"{free / _GB:.1f} GB of memory are free"
                    )
                    self.failed.append(Failed(configuration, reason))
                    continue
                process = stack.enter_context(WorkerProcess())
                load = partial(
                    _Candidate.load, encoder=self._encoder(configuration), workload=self._workload
                )
                alive += self._surviving([self._candidate(process, configuration)], load, bar)
            for _ in range(self.plan.rounds):
                for step in self.plan.steps:
                    measure = partial(_Candidate.measure, step=step, seconds=self.plan.seconds)
                    alive = self._surviving(alive, measure, bar)
                # Nobody is always the first after another kind of work.
                alive = alive[1:] + alive[:1]
            alive = self._surviving(alive, _Candidate.finish, bar)
        return [each.gathered for each in alive]

    def _surviving(
        self, candidates: Sequence[_Candidate], work: Callable[[_Candidate], None], bar: tqdm[Any]
    ) -> list[_Candidate]:
        """Do something with each, one after another, and return those that did not fail."""
        kept = []
        for candidate in candidates:
            bar.set_postfix_str(candidate.gathered.configuration.name)
            try:
                work(candidate)
                kept.append(candidate)
            except WorkerError as error:
                self.failed.append(Failed(candidate.gathered.configuration, str(error)))
                candidate.process.end()
            bar.update()
        return kept

    def _candidate(self, process: WorkerProcess, configuration: Configuration) -> _Candidate:
        name = f"{configuration.backend}-{configuration.precision}.npy"
        return _Candidate(process, Gathered(configuration, self.scratch / name))

    def _encoder(self, configuration: Configuration) -> dict[str, Any]:
        return {
            **self.arguments,
            "backend": configuration.backend,
            "precision": configuration.precision,
            "on_truncation": "ignore",
            # The files are here by now, and a download would be part of the time of loading.
            "local_files_only": True,
        }

    @property
    def _workload(self) -> Path:
        return self.scratch / WORKLOAD
