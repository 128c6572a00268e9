"""The recipe `koe5`: questions, passages that answer them and hard negatives, as KoE5 was trained.

Source: https://github.com/nlpai-lab/KoE5 (loss, batch size, learning rate, epochs, prefixes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from koe5_integrations.errors import ConfigError, DatasetError
from koe5_integrations.training.config import TrainingConfig
from koe5_integrations.training.recipe import Prepared, Task

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from torch.nn import Module

    from koe5_integrations.evaluation.datasets import RetrievalDataset
    from koe5_integrations.training.data import Triplets

__all__ = ["RECIPE", "KoE5Config"]

# How many rows are looked at to see whether texts come with a prefix.
_LOOKED_AT = 1000


@dataclass(frozen=True, kw_only=True)
class KoE5Config(TrainingConfig):
    """The settings of `koe5`, beside those all recipes share; the defaults are KoE5's.

    Attributes:
        data: pairs or triplets: Parquet, JSONL, JSON, CSV or TSV files, folders of them, or a data
            set on the hub.
        data_revision: commit of a data set on the hub; None is the newest, of ko-triplet-v1.0 a
            pinned one.
        query_column: of the questions; None is query, question, anchor, sentence1 or
            질문.
        positive_column: of the passages that answer them; None is positive, passage, document,
            answer, pos or 답변.
        negative_column: of the passages that don't; None is negative, hard_negative or neg, also
            numbered.
        num_negatives: of each question, 0 for pairs; rows with fewer are left out; None is what
            most rows have.
        max_pairs: rows drawn at most; None is all.
        skip_bad_rows: leave out rows with a missing or blank text instead of stopping.
        keep_test_overlap: train also on rows that the shipped test sets or evaluate_on hold.
        query_prompt: prefix of the questions.
        passage_prompt: prefix of the passages that answer them, and of all once it is trained.
        negative_prompt: prefix of the passages that don't; "document: " is KoE5's, "passage: " is
            what they have when they are searched.
        temperature: of the softmax over similarities; smaller looks at the nearest passages only.
        mini_batch_size: texts that go through the model at a time: changes memory and speed, not
            the result; None is 32.
        dev_size: rows kept from training to measure on: a number, below 1 a share, 0 for none; None
            is a tenth, at most 1,000.
        dev_passages: passages searched on the dev set: its own, filled up with those of other rows;
            None is five for each of its rows.
        evaluate_on: test sets measured before and after: names that `koe5 evaluate` knows, or
            folders.
        data_dir: folder that holds the named test sets; None is where they are fetched to.

    Raises:
        ConfigError: a value is of another type, or impossible.
    """

    recipe: ClassVar[str] = "koe5"

    model: str = "intfloat/multilingual-e5-large"
    data: tuple[str, ...] = ("nlpai-lab/ko-triplet-v1.0",)
    data_revision: str | None = None
    query_column: str | None = None
    positive_column: str | None = None
    negative_column: str | None = None
    num_negatives: int | None = None
    max_pairs: int | None = None
    skip_bad_rows: bool = False
    keep_test_overlap: bool = False
    query_prompt: str = "query: "
    passage_prompt: str = "passage: "
    negative_prompt: str = "document: "
    temperature: float = 0.05
    dev_size: float | None = None
    dev_passages: int | None = None
    evaluate_on: tuple[str, ...] = ()
    data_dir: Path | None = None
    batch_size: int = 512
    learning_rate: float = 1e-5
    max_seq_length: int = 512

    def __post_init__(self) -> None:
        """Refuse what can't be trained with, before anything is read."""
        super().__post_init__()
        if not self.data:
            raise ConfigError("data=() names nothing to train on; give a file, folder or data set")
        if self.num_negatives is not None and self.num_negatives < 0:
            raise ConfigError(f"num_negatives={self.num_negatives!r} must be 0 or more")
        for name in ("max_pairs", "dev_passages"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value!r} must be at least 1")
        if self.batch_size < 2:
            raise ConfigError(
                f"batch_size={self.batch_size!r}: the negatives are the other rows of a batch, so "
                "it must be at least 2"
            )
        if not 0 < self.temperature <= 1:
            raise ConfigError(
                f"temperature={self.temperature!r} must be above 0 and at most 1; 0.01 to 0.1 are "
                "usual"
            )
        size = self.dev_size
        if size is not None and (size < 0 or (size >= 1 and not size.is_integer())):
            raise ConfigError(
                f"dev_size={size!r} must be a number of rows, a share below 1, or 0 for none"
            )


class _KoE5:
    name = KoE5Config.recipe

    def load(self, config: KoE5Config) -> SentenceTransformer:
        from koe5_integrations.training.data import find_files
        from koe5_integrations.training.recipes.base import load_base

        # What can be seen to be missing is said before a model is fetched.
        _test_sets(config)
        for data in config.data:
            find_files(data, revision=config.data_revision)
        return load_base(config)

    def prepare(self, config: KoE5Config, model: SentenceTransformer) -> Prepared:
        from koe5_integrations.training.recipes.base import load_base
        from koe5_integrations.training.recipes.matryoshka import at_each_dim, with_matryoshka
        from koe5_integrations.training.recipes.retrieval import (
            dev_evaluator,
            dev_passages,
            measure,
            split_dev,
        )

        test_sets = _test_sets(config)
        triplets = _read(config, test_sets)
        train, dev = split_dev(triplets.data, config.dev_size, config.seed)
        prompts = {"query": config.query_prompt, "passage": config.passage_prompt}
        by_column = {"query": config.query_prompt, "positive": config.passage_prompt} | {
            name: config.negative_prompt
            for name in train.column_names
            if name.startswith("negative")
        }

        def test(trained: SentenceTransformer) -> Mapping[str, Mapping[str, float]]:
            base = load_base(config).to(trained.device)
            before = measure(base, test_sets, config, prompts)
            del base
            after = measure(trained, test_sets, config, prompts)
            return {
                title: values
                for name in after
                for title, values in ((f"{name}, before", before[name]), (name, after[name]))
            }

        evaluator = None
        if dev is not None:
            passages = dev_passages(dev, train, config.dev_passages, config.seed)
            evaluator = at_each_dim(partial(dev_evaluator, dev, passages, config, prompts), config)
        return Prepared(
            tasks={
                "triplets": Task(
                    data=train,
                    loss=with_matryoshka(_loss(config, model), config, model),
                    no_duplicates=True,
                    prompts=by_column,
                )
            },
            evaluator=evaluator,
            test=test if test_sets else None,
            prompts=prompts,
            files=triplets.files,
            card=_card(config, triplets, train, dev),
        )


RECIPE = _KoE5()


def _test_sets(config: KoE5Config) -> list[RetrievalDataset]:
    from koe5_integrations.evaluation.datasets import load_dataset

    return [load_dataset(name, data_dir=config.data_dir) for name in config.evaluate_on]


def _read(config: KoE5Config, test_sets: list[RetrievalDataset]) -> Triplets:
    from koe5_integrations.training.data import read_triplets
    from koe5_integrations.training.testsets import protected_texts

    protected: set[str] = set()
    if not config.keep_test_overlap:
        protected = protected_texts(None)
        for dataset in test_sets:
            # Documents of one's own are what one trains on; the questions must be new.
            protected.update(dataset.queries.values())
    triplets = read_triplets(
        config.data,
        revision=config.data_revision,
        query_column=config.query_column,
        positive_column=config.positive_column,
        negative_column=config.negative_column,
        num_negatives=config.num_negatives,
        max_pairs=config.max_pairs,
        seed=config.seed,
        protected=protected,
        skip_bad_rows=config.skip_bad_rows,
    )
    first = triplets.data.select(range(min(_LOOKED_AT, len(triplets.data))))
    for column in first.column_names:
        for prompt in filter(
            str.strip, (config.query_prompt, config.passage_prompt, config.negative_prompt)
        ):
            having = sum(text.startswith(prompt) for text in first[column])
            if having > len(first) / 2:
                raise DatasetError(
                    f"{', '.join(config.data)}: texts of the column {column!r} already start with "
                    f"{prompt!r}, and a prefix is added to each; remove it from the texts"
                )
    return triplets


def _loss(config: KoE5Config, model: SentenceTransformer) -> Module:
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    from koe5_integrations.training.recipes.base import is_distributed

    scale = 1 / config.temperature
    gather = is_distributed()
    if isinstance(model[0], StaticEmbedding):
        # Its inputs can't be split, and take so little memory that they need not be.
        return MultipleNegativesRankingLoss(model, scale=scale, gather_across_devices=gather)
    return CachedMultipleNegativesRankingLoss(
        model,
        scale=scale,
        mini_batch_size=config.mini_batch_size or 32,
        gather_across_devices=gather,
    )


def _card(config: KoE5Config, triplets: Triplets, train: Dataset, dev: Dataset | None) -> str:
    negatives = {0: "no hard negative", 1: "one hard negative"}.get(
        triplets.num_negatives, f"{triplets.num_negatives} hard negatives"
    )
    left_out = "".join(
        f" {number:,} rows were left out: {reason}." for reason, number in triplets.left_out.items()
    )
    kept = (
        f" {len(dev):,} rows were kept to measure on, and no query of theirs was trained on."
        if dev is not None
        else ""
    )
    prefixes = f"`{config.query_prompt}` before queries, `{config.passage_prompt}` before positives"
    if triplets.num_negatives:
        prefixes += f", `{config.negative_prompt}` before hard negatives"
    return (
        f"Trained on {len(train):,} rows of a query and a passage that answers it, with "
        f"{negatives} each; the passages of a batch's other rows are negatives too "
        f"(MultipleNegativesRankingLoss, temperature {config.temperature:g}). Prefixes while "
        f"training: {prefixes}.{left_out}{kept}"
    )
