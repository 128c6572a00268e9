"""The recipe `kor-nli`: entailments near, contradictions far, as ko-sentence-transformers does.

Source: https://github.com/jhgan00/ko-sentence-transformers, training_nli.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from koe5_integrations.training.recipe import Prepared
from koe5_integrations.training.recipes.kor import NliConfig, check_files, nli_task, prepare

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["RECIPE", "KorNliConfig"]


@dataclass(frozen=True, kw_only=True)
class KorNliConfig(NliConfig):
    """The settings of `kor-nli`; the defaults are the seed's.

    Raises:
        ConfigError: a value is of another type, or impossible.
    """

    recipe: ClassVar[str] = "kor-nli"


class _KorNli:
    name = KorNliConfig.recipe

    def load(self, config: KorNliConfig) -> SentenceTransformer:
        from koe5_integrations.training.recipes.base import load_base

        check_files(config, ("dev", "test"))
        return load_base(config)

    def prepare(self, config: KorNliConfig, model: SentenceTransformer) -> Prepared:
        task, triplets = nli_task(config, model)
        card = (
            f"Trained on {len(task.data):,} triplets of a sentence, one it entails or that entails "
            "it, and one it contradicts; those of a batch's other rows are negatives too "
            "(MultipleNegativesRankingLoss)."
        )
        return prepare(config, {"nli": task}, triplets.files, card)


RECIPE = _KorNli()
