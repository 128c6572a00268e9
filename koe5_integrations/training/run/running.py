"""A run from its beginning, or from where it was stopped, to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from koe5_integrations.errors import ConfigError, DatasetError, MissingExtraError
from koe5_integrations.ingestion.locking import FolderLock
from koe5_integrations.training.config import TrainingConfig
from koe5_integrations.training.recipe import Prepared, Recipe
from koe5_integrations.training.run.arguments import (
    Schedule,
    check_precision,
    training_arguments,
)
from koe5_integrations.training.run.batches import part_sizes
from koe5_integrations.training.run.environment import describe_environment
from koe5_integrations.training.run.finish import finish, stored_prompts
from koe5_integrations.training.run.folder import RunFolder
from koe5_integrations.training.run.metrics import KeepMetrics
from koe5_integrations.training.run.processes import Processes
from koe5_integrations.training.run.progress import ShowProgress
from koe5_integrations.training.run.trained import Trained
from koe5_integrations.training.run.trainer import TurnsTrainer

try:
    from transformers import set_seed
    from transformers.trainer_callback import PrinterCallback
    from transformers.utils import logging
except ImportError as error:
    raise MissingExtraError("koe5_integrations.training", "train") from error

__all__ = ["run"]


def run(
    config: TrainingConfig,
    recipe: Recipe[Any],
    *,
    resume: str,
    on_log: Callable[[Mapping[str, Any]], None] | None,
    show_progress: bool,
) -> Trained:
    """Do what :func:`koe5_integrations.training.train` says."""
    processes = Processes()
    folder = RunFolder(config.out, config.keep_checkpoints)
    with ExitStack() as held:
        if not show_progress:
            held.enter_context(_no_bars())
        processes.first_only(lambda: _hold(folder, held))
        processes.first_only(lambda: folder.open(config, fresh=resume == "never"))
        if folder.finished:
            return processes.first_only(folder.trained)
        check_precision(config)
        set_seed(config.seed)
        # The others then find what the first has downloaded or worked out.
        with processes.state.main_process_first():
            model: Any = recipe.load(config)
            prepared = recipe.prepare(config, model)
        _check(prepared)
        batch_sizes = {
            name: task.batch_size or config.batch_size for name, task in prepared.tasks.items()
        }
        parts = part_sizes(config, prepared.tasks, processes.count)
        schedule = Schedule.of(config, prepared, batch_sizes)
        model.prompts = stored_prompts(prepared.prompts)
        if config.gradient_checkpointing:
            _checkpoint_gradients(model)
        step = processes.first_only(lambda: _begin(folder, config, prepared, processes.count))
        trainer = TurnsTrainer(
            model,
            training_arguments(
                config, prepared, schedule, folder.checkpoints.staging, fresh=step is None
            ),
            prepared,
            batch_sizes=batch_sizes,
            part_sizes=parts,
            checkpoints=folder.checkpoints,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(KeepMetrics(folder.metrics, on_log))
        if show_progress:
            trainer.add_callback(ShowProgress())
        held.enter_context(_no_bars())  # one for every checkpoint
        if step is None or step < schedule.total:
            checkpoint = None if step is None else str(folder.checkpoints.path(step))
            trainer.train(resume_from_checkpoint=checkpoint)
        processes.first_only(lambda: finish(folder, config, prepared, trainer))
        return processes.first_only(folder.trained)


def _hold(folder: RunFolder, held: ExitStack) -> None:
    if folder.path.exists() and not folder.path.is_dir():
        raise ConfigError(f"out={str(folder.path)!r} is not a folder")
    held.enter_context(FolderLock(folder.path, "koe5 train"))


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers from drawing any."""
    bars: Any = logging
    drawn = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            bars.enable_progress_bar()


def _check(prepared: Prepared) -> None:
    if not prepared.tasks:
        raise DatasetError("there is nothing to train on: the recipe found no task")
    for name, task in prepared.tasks.items():
        if not len(task.data):
            raise DatasetError(f"there is nothing to train on: {name} has no example")


def _begin(
    folder: RunFolder, config: TrainingConfig, prepared: Prepared, processes: int
) -> int | None:
    """Return the update to go on after; None begins the run."""
    step = folder.checkpoints.latest()
    if step is None:
        folder.begin(config, prepared.files)
    else:
        folder.check_data(prepared.files)
        folder.checkpoints.clear_after(step)
    folder.add_session(describe_environment(after_step=step or 0, processes=processes))
    return step


def _checkpoint_gradients(model: Any) -> None:
    supporting = [
        module
        for module in model.modules()
        if getattr(module, "supports_gradient_checkpointing", False)
    ]
    if not supporting:
        raise ConfigError("gradient_checkpointing=True is for transformers, which the model is not")
    transformer = supporting[0]
    # Renamed in transformers 5.
    enable = getattr(transformer, "activation_checkpointing_enable", None)
    (enable or transformer.gradient_checkpointing_enable)({"use_reentrant": False})
