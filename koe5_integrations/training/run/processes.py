"""The processes of a run: one, or as many as a launcher started."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from koe5_integrations.errors import MissingExtraError

try:
    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list
except ImportError as error:
    raise MissingExtraError("koe5_integrations.training", "train") from error

__all__ = ["Processes", "on_cpu"]

Value = TypeVar("Value")

# For which the others wait while the first measures on test sets, say.
_PATIENCE = timedelta(days=7)


def on_cpu() -> bool:
    """Whether only the CPU is there to train on, or `accelerate launch --cpu` asks for it."""
    devices: Any = getattr(torch, "accelerator", torch.cuda)
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return asked or not devices.is_available()


class Processes:
    """This process among those of the run."""

    def __init__(self) -> None:
        self.state = PartialState(cpu=on_cpu(), timeout=_PATIENCE)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return bool(self.state.is_main_process)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.state.num_processes)

    def first_only(self, work: Callable[[], Value]) -> Value:
        """Have the first process do something; all return its value, or raise its error."""
        if self.count == 1:
            return work()
        outcome: list[Any] = [None, None]
        if self.first:
            try:
                outcome[0] = work()
            except Exception as error:  # raised below, in every process
                outcome[1] = error
        value, failure = broadcast_object_list(outcome)
        if failure is not None:
            raise failure
        result: Value = value
        return result
