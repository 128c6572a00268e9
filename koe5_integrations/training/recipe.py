"""The seam between recipes, which know data and losses, and the run, which knows none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from koe5_integrations.training.config import TrainingConfig

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
    from torch.nn import Module

__all__ = ["DataFile", "Prepared", "Recipe", "Task"]

Config = TypeVar("Config", bound=TrainingConfig, contravariant=True)


@dataclass(frozen=True)
class DataFile:
    """A file that was read, for the record.

    Attributes:
        role: what it was read for: "train", "dev", "test".
        path: where it lay, or the data set's name on the hub with its revision.
        sha256: of its bytes, in hexadecimal.
        rows: examples it gave.
    """

    role: str
    path: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class Task:
    """One data set with its loss.

    Attributes:
        data: its columns in the loss's order; a column "label" or "score" last if there is one.
        loss: computes a batch's loss, Matryoshka's wrapper included.
        batch_size: examples of an update over all devices; None is the configuration's.
            A loss that caches gradients sees all of a device's at once, in mini-batches of its
            own; to others the run passes `mini_batch_size` at a time.
        no_duplicates: no text twice in a batch, where it would be its own negative.
        prompts: prefix by column; columns left out have none.
    """

    data: Dataset
    loss: Module
    batch_size: int | None = None
    no_duplicates: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A run made ready: data read and checked, losses built on the model.

    Attributes:
        tasks: by name. Several take turns, and an epoch ends with the shortest.
        evaluator: run on the dev set while training; its primary metric, higher is better,
            picks the best checkpoint. None trains without.
        test: measured once on the finished model: table name -> metric -> value.
        prompts: stored in the model by prompt name, what users of the model are to prefix:
            "query" and "passage" (stored as "document" too); empty for no prefixes.
        files: what was read.
        card: a paragraph of the model card on data and loss, Markdown.
    """

    tasks: Mapping[str, Task]
    evaluator: SentenceEvaluator | None = None
    test: Callable[[SentenceTransformer], Mapping[str, Mapping[str, float]]] | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    files: tuple[DataFile, ...] = ()
    card: str = ""


class Recipe(Protocol[Config]):
    """A recipe: how to get the model, and how to make a run of it ready.

    The module that defines its configuration has an instance, under the name ``RECIPE``; importing
    that module loads no model library.

    Attributes:
        name: as on the command line.
    """

    name: str

    def load(self, config: Config) -> SentenceTransformer:
        """Return the base model to train, in fp32."""
        ...

    def prepare(self, config: Config, model: SentenceTransformer) -> Prepared:
        """Read and check the data, and build losses and evaluators.

        Raises:
            DatasetError: the data can't be trained on; says where and why.
        """
        ...
