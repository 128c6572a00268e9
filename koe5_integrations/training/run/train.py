"""The door to a run: finds the recipe, and loads a model library only then."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from koe5_integrations.errors import ConfigError
from koe5_integrations.training.config import TrainingConfig
from koe5_integrations.training.recipe import Recipe
from koe5_integrations.training.run.trained import Trained

__all__ = ["Resume", "train"]

Resume = Literal["auto", "never"]


def train(
    config: TrainingConfig,
    *,
    recipe: Recipe[Any] | None = None,
    resume: Resume = "auto",
    on_log: Callable[[Mapping[str, Any]], None] | None = None,
    show_progress: bool = False,
) -> Trained:
    """Train a model, or go on with a run that was stopped, by whatever, from its last checkpoint.

    On a CPU the result is the same, bit for bit, as of a run that nothing stopped. Under
    ``accelerate launch`` or ``torchrun`` a batch is divided among the processes, and the first of
    them writes.

    Args:
        config: a recipe's configuration; ``config.out`` is the run folder.
        recipe: what gets model and data; None is that of the configuration's type.
        resume: ``auto`` goes on with the run in the folder if it is the same, and returns at once
            if it is finished; ``never`` begins anew in place of one that is not finished.
        on_log: told each row of ``metrics.jsonl`` as it is written.
        show_progress: draw a bar on stderr.

    Raises:
        ConfigError: the configuration has no recipe, or can't be trained with on this machine.
        DatasetError: the data can't be trained on.
        LockedError: another process trains in the folder.
        TrainingError: the folder holds another run or other things, or the loss is no number.
        ModelLoadError: the base can't be had or loaded.
        MissingExtraError: what trains is not installed.
    """
    if resume not in get_args(Resume):
        listed = ", ".join(map(repr, get_args(Resume)))
        raise ConfigError(f"resume={resume!r} must be one of {listed}")
    if recipe is None:
        recipe = getattr(sys.modules[type(config).__module__], "RECIPE", None)
    if recipe is None:
        raise ConfigError(
            f"{type(config).__name__} has no recipe: use the configuration of one, such as "
            "KoE5Config, or give recipe="
        )
    from koe5_integrations.training.run.folder import RunFolder

    folder = RunFolder(config.out, config.keep_checkpoints)
    if folder.finished and resume == "auto":
        folder.open(config, fresh=False)
        return folder.trained()
    from koe5_integrations.training.run.running import run

    return run(config, recipe, resume=resume, on_log=on_log, show_progress=show_progress)
