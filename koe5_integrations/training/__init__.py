"""Train embedding models for Korean retrieval; importing this loads neither torch nor pyarrow.

::

    from koe5_integrations.training import KoE5Config, train

    trained = train(KoE5Config(data="triplets.parquet", out="run"))

A recipe (``recipes``) knows data and loss; a run (``run``) trains with them, and goes on exactly
where it was stopped, by whatever.

`python -m koe5_integrations.training.mini` makes the bundled model, and
`python -m koe5_integrations.training.score` measures it or any other model folder.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from koe5_integrations.training.config import TrainingConfig, read_config
    from koe5_integrations.training.mining import mine_negatives
    from koe5_integrations.training.recipe import DataFile, Prepared, Recipe, Task
    from koe5_integrations.training.recipes.distill import DistillConfig
    from koe5_integrations.training.recipes.koe5 import KoE5Config
    from koe5_integrations.training.recipes.kor_multitask import KorMultitaskConfig
    from koe5_integrations.training.recipes.kor_nli import KorNliConfig
    from koe5_integrations.training.recipes.kor_sts import KorStsConfig
    from koe5_integrations.training.run import Trained, train

__all__ = [
    "DataFile",
    "DistillConfig",
    "KoE5Config",
    "KorMultitaskConfig",
    "KorNliConfig",
    "KorStsConfig",
    "Prepared",
    "Recipe",
    "Task",
    "Trained",
    "TrainingConfig",
    "mine_negatives",
    "read_config",
    "train",
]

_HOME = {
    "DataFile": "recipe",
    "DistillConfig": "recipes.distill",
    "KoE5Config": "recipes.koe5",
    "KorMultitaskConfig": "recipes.kor_multitask",
    "KorNliConfig": "recipes.kor_nli",
    "KorStsConfig": "recipes.kor_sts",
    "Prepared": "recipe",
    "Recipe": "recipe",
    "Task": "recipe",
    "Trained": "run",
    "TrainingConfig": "config",
    "mine_negatives": "mining",
    "read_config": "config",
    "train": "run",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
