"""What a training run can be told; every recipe adds its own and sets its seed's defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["TrainingConfig"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The settings all recipes share.

    Attributes:
        out: the run folder: configuration, checkpoints, metrics, curves, card and the model.
        model: the base, a name of the hub or a folder.
        revision: of a base on the hub.
        epochs: passes over the data.
        max_steps: updates to stop after, whatever `epochs` says.
        batch_size: examples of an update, over all devices and accumulation together.
        mini_batch_size: examples that go through the model at a time; None is all of a device's.
        learning_rate: AdamW's highest.
        warmup_ratio: share of the updates in which the rate rises to `learning_rate`, 0 to 1.
        scheduler: how it falls then.
        weight_decay: AdamW's.
        max_grad_norm: gradients longer than this are shortened to it.
        max_seq_length: tokens read of a text, special tokens and prefix included.
        matryoshka_dims: sizes to which vectors will be cut, the largest first; empty for none.
        matryoshka_weights: what the loss of each size counts; empty for 1 each.
        precision: of the arithmetic; "auto" is bf16 on a GPU that has it, else fp32.
        gradient_checkpointing: less memory against about a third more time.
        eval_steps: updates between two evaluations on the dev set; None is 1,000, or a tenth of
            a shorter run.
        save_steps: updates between two checkpoints; None is as `eval_steps`.
        keep_checkpoints: how many of the latest are kept beside the best.
        seed: of all that is drawn.
    """

    out: Path
    model: str
    revision: str | None = None
    epochs: float = 1
    max_steps: int | None = None
    batch_size: int = 64
    mini_batch_size: int | None = None
    learning_rate: float = 2e-5
    warmup_ratio: float = 0.1
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    max_seq_length: int = 128
    matryoshka_dims: tuple[int, ...] = ()
    matryoshka_weights: tuple[float, ...] = ()
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    gradient_checkpointing: bool = False
    eval_steps: int | None = None
    save_steps: int | None = None
    keep_checkpoints: int = 2
    seed: int = 777
