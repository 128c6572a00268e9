"""sentence-transformers' trainer, with tasks in turns and checkpoints that are whole or absent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from copy import copy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koe5_integrations.errors import MissingExtraError, TrainingError
from koe5_integrations.training.recipe import Prepared
from koe5_integrations.training.run.batches import batches_per_epoch
from koe5_integrations.training.run.checkpoints import Checkpoints
from koe5_integrations.training.run.order import TaskOrder, TurnsSampler

try:
    import torch
    from datasets import DatasetDict
    from safetensors.torch import load_file, save_file
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, RandomSampler
    from transformers.trainer import TRAINER_STATE_NAME
except ImportError as error:
    raise MissingExtraError("koe5_integrations.training", "train") from error

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

__all__ = ["PRIMARY", "TurnsTrainer"]

PRIMARY = "primary"
"""Name that an evaluator's primary metric has in a run."""

_LOSSES = "losses.safetensors"


class TurnsTrainer(SentenceTransformerTrainer):
    """Trains on tasks in turns, one batch of one task an update.

    An update's batch goes through the model in parts, for which the trainer's own accumulation is
    too coarse: it counts batches, whatever task they are of.

    Args:
        model: to train.
        args: of the trainer.
        prepared: tasks and evaluator.
        batch_sizes: examples of an update over all devices, by task.
        part_sizes: examples a device takes at a time, by task.
        checkpoints: where they are kept.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        args: SentenceTransformerTrainingArguments,
        prepared: Prepared,
        *,
        batch_sizes: Mapping[str, int],
        part_sizes: Mapping[str, int],
        checkpoints: Checkpoints,
    ) -> None:
        self.tasks = prepared.tasks
        self.batch_sizes = batch_sizes
        self.part_sizes = part_sizes
        self.checkpoints = checkpoints
        self._task_losses: dict[str, list[torch.Tensor]] = {name: [] for name in self.tasks}
        super().__init__(
            model=model,
            args=args,
            # Copies, because the trainer has each row say which task it is of.
            train_dataset=DatasetDict({name: copy(task.data) for name, task in self.tasks.items()}),
            loss={name: task.loss for name, task in self.tasks.items()},
            evaluator=prepared.evaluator,
        )
        if prepared.evaluator is not None:
            measure: Any = partial(_evaluate, prepared.evaluator)
            self.evaluator = measure

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add none: the run writes a card of its own, and this one would ask the hub."""

    def floating_point_ops(self, inputs: Any) -> int:
        """Count none."""
        return 0

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return this process's share of the batches, each in parts."""
        by_task: Any = self.train_dataset
        orders = [
            TaskOrder(len(data), self._batches(name), partial(self._draw, number, name, data))
            for number, (name, data) in enumerate(by_task.items())
        ]
        sampler = TurnsSampler(
            orders, process=self.args.process_index, processes=self.args.world_size
        )
        return _Loader(
            ConcatDataset(by_task.values()),
            batch_sampler=sampler,
            collate_fn=self._collate,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
        )

    def _batches(self, name: str) -> int:
        return batches_per_epoch(self.tasks[name], self.batch_sizes[name])

    def _draw(self, number: int, name: str, data: Any, epoch: int) -> Iterator[list[int]]:
        # Tasks of the same length are not shuffled alike.
        seed = self.args.seed + 1_000_003 * number + epoch
        generator = torch.Generator().manual_seed(seed)
        size = self.batch_sizes[name]
        if not self.tasks[name].no_duplicates:
            rows = RandomSampler(data, generator=generator)
            return iter(BatchSampler(rows, batch_size=size, drop_last=False))
        sampler: Any = self.get_batch_sampler(
            data,
            batch_size=size,
            # Small ones at the end are better than fewer than were counted on.
            drop_last=False,
            valid_label_columns=self.data_collator.valid_label_columns,
            generator=generator,
            seed=seed,
        )
        return iter(sampler)

    def _collate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        size = self.part_sizes[rows[0]["dataset_name"]]
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return {"parts": [{**self.data_collator(p), "share": len(p) / len(rows)} for p in parts]}

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Add up the gradients of a batch's parts; return its loss."""
        parts = inputs["parts"]
        task = parts[0]["dataset_name"]
        losses = []
        for number, part in enumerate(parts, 1):
            last = number == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part))
        loss = torch.stack(losses).sum()
        self._task_losses[task].append(loss)
        return loss

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return a part's loss, as far as it counts for the batch."""
        share = inputs.pop("share")
        return super().compute_loss(model, inputs, *args, **kwargs) * share

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log each task's loss beside that of all."""
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise TrainingError(
                    f"the loss is {logs['loss']} after update {self.state.global_step}: lower "
                    "learning_rate, or choose precision='fp32'"
                )
            for name, losses in self._task_losses.items():
                if losses:
                    mean = self.accelerator.reduce(torch.stack(losses).mean(), "mean")
                    logs[f"loss_{name}"] = mean.item()
                    losses.clear()
        super().log(logs, start_time)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best: bool = super()._determine_best_metric(metrics, trial)
        if best:
            self.control.should_save = True
        return best

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Without the trainer's card and its pickled arguments, of which resuming needs neither.
        assert output_dir is not None
        self.model.save_pretrained(output_dir, create_model_card=False)
        if learnt := self._loss_parameters():
            tensors = {name: value.detach().contiguous() for name, value in learnt.items()}
            save_file(tensors, Path(output_dir, _LOSSES))

    def _load_from_checkpoint(  # type: ignore[override]  # as sentence-transformers has it
        self, checkpoint_path: str
    ) -> None:
        super()._load_from_checkpoint(checkpoint_path)
        file = Path(checkpoint_path, _LOSSES)
        if file.is_file():
            saved = load_file(file)
            with torch.no_grad():
                for name, parameter in self._loss_parameters().items():
                    parameter.copy_(saved[name])

    def _loss_parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return what losses learn beside the model, which checkpoints otherwise lack."""
        of_model = {id(parameter) for parameter in self.model.parameters()}
        return {
            f"{task}.{name}": parameter
            for task, loss in self.loss.items()
            for name, parameter in loss.named_parameters()
            if id(parameter) not in of_model
        }

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            written = self.checkpoints.written(self.state.global_step)
            # It names the folder the best was written in, which is no more.
            self.state.best_model_checkpoint = None
            self.state.save_to_json(str(written / TRAINER_STATE_NAME))
            self.checkpoints.complete(self.state.global_step)
        self.accelerator.wait_for_everyone()


class _Loader(DataLoader[Any]):
    """Passes the epoch on; the trainer looks for this method."""

    def set_epoch(self, epoch: int) -> None:
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)


def _evaluate(
    evaluator: SentenceEvaluator,
    model: SentenceTransformer,
    *,
    output_path: str | None,
    epoch: Any,
    steps: int,
) -> dict[str, float]:
    # No files of its own, to which a resumed run would add rows that are there already.
    found = evaluator(model, output_path=None, epoch=epoch, steps=steps)
    if not isinstance(found, dict):
        return {PRIMARY: float(found)}
    values = {name: float(value) for name, value in found.items()}
    return {**values, PRIMARY: values[str(evaluator.primary_metric)]}
