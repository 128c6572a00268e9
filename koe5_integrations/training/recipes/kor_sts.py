"""The recipe `kor-sts`: cosines like human scores, as ko-sentence-transformers does.

Source: https://github.com/jhgan00/ko-sentence-transformers, training_sts.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from koe5_integrations.training.recipe import Prepared
from koe5_integrations.training.recipes.kor import KorConfig, check_files, prepare, sts_task

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["RECIPE", "KorStsConfig"]


@dataclass(frozen=True, kw_only=True)
class KorStsConfig(KorConfig):
    """The settings of `kor-sts`; the defaults are the seed's.

    Raises:
        ConfigError: a value is of another type, or impossible.
    """

    recipe: ClassVar[str] = "kor-sts"

    batch_size: int = 8
    epochs: float = 5


class _KorSts:
    name = KorStsConfig.recipe

    def load(self, config: KorStsConfig) -> SentenceTransformer:
        from koe5_integrations.training.recipes.base import load_base

        check_files(config, ("train", "dev", "test"))
        return load_base(config)

    def prepare(self, config: KorStsConfig, model: SentenceTransformer) -> Prepared:
        task, file = sts_task(config, model, config.batch_size)
        card = (
            f"Trained on the {len(task.data):,} sentence pairs of KorSTS's training set: the "
            "cosine of a pair's vectors is to be its human score / 5 (CosineSimilarityLoss)."
        )
        return prepare(config, {"sts": task}, [file], card)


RECIPE = _KorSts()
