"""Which examples an update sees: seed, epoch and place in it decide, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

__all__ = ["TaskOrder", "TurnsSampler"]


@dataclass(frozen=True)
class TaskOrder:
    """The batches of one task.

    Attributes:
        rows: examples it has.
        batches: how many of its batches an epoch has.
        draw: gives at least as many for an epoch (from 0), each a list of rows, always the same.
    """

    rows: int
    batches: int
    draw: Callable[[int], Iterator[list[int]]]


class TurnsSampler:
    """Batches of several tasks in turns, as this process's share of each.

    The rows of all tasks are numbered on. An epoch ends with the task that has the fewest batches.

    Args:
        tasks: at least one.
        process: this process's number.
        processes: among how many a batch is divided.
    """

    def __init__(self, tasks: Sequence[TaskOrder], *, process: int = 0, processes: int = 1) -> None:
        self.tasks = tasks
        self.process = process
        self.processes = processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is iterated next, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return min(task.batches for task in self.tasks) * len(self.tasks)

    def __iter__(self) -> Iterator[list[int]]:
        offsets = [sum(task.rows for task in self.tasks[:i]) for i in range(len(self.tasks))]
        drawn = [task.draw(self.epoch) for task in self.tasks]
        for batches in islice(zip(*drawn, strict=False), len(self) // len(self.tasks)):
            for offset, batch in zip(offsets, batches, strict=True):
                # Losses that gather the batch of all processes want equal parts of it. An epoch's
                # last may have fewer rows than there are processes, each of which must have one.
                whole = len(batch) - len(batch) % self.processes
                share = batch[:whole][self.process :: self.processes] or batch[:1]
                yield [offset + row for row in share]
