"""A bar on stderr while a run trains."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from koe5_integrations.training.run.metrics import rows_of
from koe5_integrations.training.run.trainer import PRIMARY

__all__ = ["ShowProgress"]


class ShowProgress(TrainerCallback):
    """Draws updates made, with the last loss and dev metric."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._shown: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar where the run begins."""
        if state.is_local_process_zero:
            self._bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="training", unit="update"
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count an update."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the last figures."""
        for row in rows_of(state.log_history[-1:]):
            self._shown |= {
                shown: f"{row[name]:.4f}"
                for name, shown in (("loss", "loss"), (PRIMARY, "dev"))
                if name in row
            }
            if self._bar is not None:
                self._bar.set_postfix(self._shown)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
