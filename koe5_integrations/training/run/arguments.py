"""A configuration as the trainer's arguments, and what it comes to in updates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from koe5_integrations.errors import ConfigError, MissingExtraError
from koe5_integrations.training.config import TrainingConfig
from koe5_integrations.training.recipe import Prepared
from koe5_integrations.training.run.batches import batches_per_epoch
from koe5_integrations.training.run.processes import on_cpu

try:
    import torch
    from sentence_transformers import SentenceTransformerTrainingArguments
except ImportError as error:
    raise MissingExtraError("koe5_integrations.training", "train") from error

__all__ = ["Schedule", "check_precision", "training_arguments"]

_EVAL_STEPS = 1000
# Rows of metrics of a long run, about.
_ROWS = 1000


@dataclass(frozen=True)
class Schedule:
    """How many updates a run has, and after which of them something is done.

    Attributes:
        per_epoch: updates of an epoch.
        total: updates of the run.
        warmup: updates in which the learning rate rises.
        evaluate: updates from one evaluation to the next.
        save: updates from one checkpoint to the next.
        log: updates a row of metrics is the mean of; divides the two above, so that no row begins
            before a checkpoint and ends after it.
    """

    per_epoch: int
    total: int
    warmup: int
    evaluate: int
    save: int
    log: int

    @classmethod
    def of(
        cls, config: TrainingConfig, prepared: Prepared, batch_sizes: Mapping[str, int]
    ) -> Schedule:
        """Work out the schedule of a run."""
        per_epoch = len(prepared.tasks) * min(
            batches_per_epoch(task, batch_sizes[name]) for name, task in prepared.tasks.items()
        )
        total = config.max_steps or math.ceil(config.epochs * per_epoch)
        evaluate = config.eval_steps or min(_EVAL_STEPS, math.ceil(total / 10))
        save = config.save_steps or evaluate
        both = math.gcd(evaluate, save)
        most = max(1, min(both, total // _ROWS))
        log = next(steps for steps in range(most, 0, -1) if both % steps == 0)
        return cls(per_epoch, total, math.ceil(total * config.warmup_ratio), evaluate, save, log)


def check_precision(config: TrainingConfig) -> None:
    """Raise ConfigError if this machine can't compute in the precision asked for."""
    if config.precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("precision='fp16' needs a GPU: choose 'bf16', 'fp32' or 'auto'")
    old = torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False)
    if config.precision == "bf16" and old:
        raise ConfigError("precision='bf16' needs a newer GPU: choose 'fp16', 'fp32' or 'auto'")


def training_arguments(
    config: TrainingConfig, prepared: Prepared, schedule: Schedule, folder: Path, *, fresh: bool
) -> SentenceTransformerTrainingArguments:
    """Return the trainer's arguments.

    Args:
        config: of the run.
        prepared: its tasks.
        schedule: of the run.
        folder: where the trainer may write.
        fresh: the run begins, and does not go on from a checkpoint.
    """
    gpu = torch.cuda.is_available() and not on_cpu()
    can_bf16 = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        max_steps=schedule.total,
        # The batches are divided by the run itself.
        per_device_train_batch_size=1,
        learning_rate=config.learning_rate,
        warmup_steps=schedule.warmup,
        lr_scheduler_type={
            "linear": "linear",
            "cosine": "cosine",
            "constant": "constant_with_warmup",
        }[config.scheduler],
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=config.precision == "bf16" or (config.precision == "auto" and can_bf16),
        fp16=config.precision == "fp16",
        seed=config.seed,
        batch_sampler="no_duplicates",
        prompts={name: dict(task.prompts) for name, task in prepared.tasks.items()},
        eval_strategy="no" if prepared.evaluator is None else "steps",
        eval_steps=schedule.evaluate,
        eval_on_start=fresh and prepared.evaluator is not None,
        metric_for_best_model=None if prepared.evaluator is None else "eval_primary",
        greater_is_better=True,
        save_strategy="steps",
        save_steps=schedule.save,
        logging_steps=schedule.log,
        # A loss that is no number is to be seen.
        logging_nan_inf_filter=False,
        # Of no effect, for the run has batches of its own; sentence-transformers asks for it.
        dataloader_drop_last=True,
        disable_tqdm=True,
        use_cpu=on_cpu(),
        report_to="none",
        ddp_timeout=24 * 3600,
    )
    # Several GPUs without a launcher would be DataParallel, which divides batches by itself.
    if gpu and arguments.world_size == 1:
        arguments._n_gpu = 1
    return arguments
