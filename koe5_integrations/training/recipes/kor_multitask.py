"""The recipe `kor-multitask`: `kor-nli` and `kor-sts` in turns, as ko-sentence-transformers does.

Source: https://github.com/jhgan00/ko-sentence-transformers, training_multi-task.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from koe5_integrations.errors import ConfigError
from koe5_integrations.training.recipe import Prepared
from koe5_integrations.training.recipes.kor import (
    NliConfig,
    check_files,
    nli_task,
    prepare,
    sts_task,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["RECIPE", "KorMultitaskConfig"]


@dataclass(frozen=True, kw_only=True)
class KorMultitaskConfig(NliConfig):
    """The settings of `kor-multitask`; the defaults are the seed's.

    Attributes:
        batch_size: triplets of an update on KorNLI, over all devices and accumulation together.
        sts_batch_size: pairs of an update on KorSTS, likewise.

    Raises:
        ConfigError: a value is of another type, or impossible.
    """

    recipe: ClassVar[str] = "kor-multitask"

    epochs: float = 5
    sts_batch_size: int = 8

    def __post_init__(self) -> None:
        """Refuse what can't be trained with, before anything is read."""
        super().__post_init__()
        if self.sts_batch_size < 1:
            raise ConfigError(f"sts_batch_size={self.sts_batch_size!r} must be at least 1")


class _KorMultitask:
    name = KorMultitaskConfig.recipe

    def load(self, config: KorMultitaskConfig) -> SentenceTransformer:
        from koe5_integrations.training.recipes.base import load_base

        check_files(config, ("train", "dev", "test"))
        return load_base(config)

    def prepare(self, config: KorMultitaskConfig, model: SentenceTransformer) -> Prepared:
        nli, triplets = nli_task(config, model)
        sts, file = sts_task(config, model, config.sts_batch_size)
        card = (
            f"Trained in turns on {len(nli.data):,} triplets of a sentence, one it entails or that "
            "entails it, and one it contradicts (MultipleNegativesRankingLoss), and on the "
            f"{len(sts.data):,} sentence pairs of KorSTS's training set, whose cosine is to be "
            "their human score / 5 (CosineSimilarityLoss)."
        )
        return prepare(config, {"nli": nli, "sts": sts}, [*triplets.files, file], card)


RECIPE = _KorMultitask()
