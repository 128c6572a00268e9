"""What a run came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Trained"]


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        out: the run folder.
        steps: updates that were made.
        best_step: the update after which the model was kept.
        metrics: of the kept model on the dev set, by the evaluator's names, and ``primary``, by
            which it was the best; empty without a dev set.
        before: the same of the base model, before the first update.
        results: of the kept model on test sets: table -> metric -> value.
    """

    out: Path
    steps: int
    best_step: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def model_dir(self) -> Path:
        """The model, as sentence-transformers, KoE5Encoder and ``koe5 export`` take it."""
        return self.out / "model"
