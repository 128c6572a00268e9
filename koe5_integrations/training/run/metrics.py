"""The rows of ``metrics.jsonl``, kept in step with the checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from koe5_integrations.ingestion.shards.durable import new_file
from koe5_integrations.training.run.trainer import PRIMARY

__all__ = ["KeepMetrics", "rows_of", "write_rows"]

_EVAL = "eval_"
_LOSS = "loss_"
_TIMINGS = ("runtime", "samples_per_second", "steps_per_second", "loss")


def rows_of(history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a trainer's log.

    Returns:
        In training ``step``, ``epoch``, ``loss`` (mean since the row before), ``losses`` by task,
        ``learning_rate`` and ``grad_norm``; in an evaluation ``step``, ``epoch``, ``primary`` and
        ``dev`` by the evaluator's names.
    """
    return [row for entry in history if (row := _row(entry)) is not None]


def _row(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    row = {"step": entry["step"], "epoch": round(entry.get("epoch") or 0, 6)}
    if "loss" in entry:
        losses = {k.removeprefix(_LOSS): v for k, v in entry.items() if k.startswith(_LOSS)}
        rest = {name: entry[name] for name in ("learning_rate", "grad_norm") if name in entry}
        return {**row, "loss": entry["loss"], "losses": losses, **rest}
    dev = {k.removeprefix(_EVAL): v for k, v in entry.items() if k.startswith(_EVAL)}
    if PRIMARY not in dev:
        return None
    primary = dev.pop(PRIMARY)
    return {
        **row,
        PRIMARY: primary,
        "dev": {name: value for name, value in dev.items() if name not in _TIMINGS},
    }


class KeepMetrics(TrainerCallback):
    """Writes the rows as they come; a resumed run begins with those of its checkpoint.

    Args:
        file: of the rows.
        on_log: told each row.
    """

    def __init__(self, file: Path, on_log: Callable[[Mapping[str, Any]], None] | None) -> None:
        self.file = file
        self._told = on_log

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the rows of the checkpoint, in place of those that came after it."""
        if state.is_world_process_zero:
            write_rows(rows_of(state.log_history), self.file)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See to it that a run ends with a row, an evaluation and a checkpoint."""
        if state.global_step >= state.max_steps:
            control.should_log = control.should_save = True
            control.should_evaluate = str(args.eval_strategy.value) != "no"

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Append the row, if it is one."""
        if not state.is_world_process_zero:
            return
        for row in rows_of(state.log_history[-1:]):
            with self.file.open("ab") as stream:
                stream.write(_line(row))
            if self._told is not None:
                self._told(row)


def write_rows(rows: Iterable[Mapping[str, Any]], file: Path) -> None:
    """Write rows in place of those that are in a file."""
    with new_file(file) as stream:
        stream.write(b"".join(map(_line, rows)))


def _line(row: Mapping[str, Any]) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()
