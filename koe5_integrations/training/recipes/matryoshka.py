"""Losses and evaluations at several sizes of vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
    from torch.nn import Module

    from koe5_integrations.training.config import TrainingConfig

__all__ = ["at_each_dim", "with_matryoshka"]


def with_matryoshka(loss: Module, config: TrainingConfig, model: SentenceTransformer) -> Module:
    """Return the loss summed over ``config.matryoshka_dims``, or as it is where there are none."""
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss

    if not config.matryoshka_dims:
        return loss
    weights = list(config.matryoshka_weights) or None
    return MatryoshkaLoss(model, loss, list(config.matryoshka_dims), weights)


def at_each_dim(
    evaluator: Callable[[int | None, str], SentenceEvaluator], config: TrainingConfig
) -> SentenceEvaluator:
    """Return one evaluator for all sizes of vectors, whose primary metric is the first's.

    Args:
        evaluator: makes one for vectors cut to a size (None is not at all), with that in its name
            ("" or "-256").
        config: with the sizes.
    """
    from sentence_transformers.sentence_transformer.evaluation import SequentialEvaluator

    if not config.matryoshka_dims:
        return evaluator(None, "")
    return SequentialEvaluator(
        [evaluator(dim, f"-{dim}") for dim in config.matryoshka_dims],
        main_score_function=lambda scores: scores[0],
    )
