"""How an update's examples are divided: among devices, and into what one takes at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from koe5_integrations.errors import ConfigError
from koe5_integrations.training.config import TrainingConfig
from koe5_integrations.training.recipe import Task

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["batches_per_epoch", "part_sizes"]


def batches_per_epoch(task: Task, batch_size: int) -> int:
    """Return how many batches of a task an epoch has.

    Where others in the batch are the negatives, an incomplete last one is left out, as
    sentence-transformers' NoDuplicatesDataLoader did; there is always one.
    """
    rows = len(task.data)
    return max(1, rows // batch_size) if task.no_duplicates else math.ceil(rows / batch_size)


def _caches_gradients(loss: Module) -> bool:
    """Whether a loss takes a batch apart itself, as sentence-transformers' Cached… losses do."""
    return any(hasattr(module, "mini_batch_size") for module in loss.modules())


def part_sizes(config: TrainingConfig, tasks: Mapping[str, Task], devices: int) -> dict[str, int]:
    """Return how many examples of each task a device takes at a time.

    Raises:
        ConfigError: a batch can't be divided evenly; names the nearest size that can.
    """
    sizes = {}
    for name, task in tasks.items():
        batch_size = task.batch_size or config.batch_size
        share, left = divmod(batch_size, devices)
        if left or not share:
            raise ConfigError(
                f"batch_size={batch_size} of {name} can't be divided among {devices} devices: "
                f"choose {_nearest(batch_size, devices)}"
            )
        sizes[name] = share
        if _caches_gradients(task.loss) or config.mini_batch_size is None:
            continue
        if config.mini_batch_size < share:
            sizes[name] = config.mini_batch_size
            if share % config.mini_batch_size:
                step = devices * config.mini_batch_size
                raise ConfigError(
                    f"batch_size={batch_size} of {name} can't be divided into mini-batches of "
                    f"{config.mini_batch_size} on {devices} device{'s' * (devices > 1)}: choose "
                    f"batch_size {_nearest(batch_size, step)}, or another mini_batch_size"
                )
    return sizes


def _nearest(size: int, step: int) -> str:
    below = size - size % step
    return f"{below} or {below + step}" if below else str(step)
