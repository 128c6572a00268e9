"""What the recipes of ko-sentence-transformers share: KorNLUDatasets' files, tasks and table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from koe5_integrations.errors import ConfigError, DatasetError
from koe5_integrations.training.config import TrainingConfig
from koe5_integrations.training.recipe import DataFile, Prepared, Task

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

    from koe5_integrations.evaluation.datasets import StsDataset
    from koe5_integrations.training.data import Triplets

__all__ = ["KorConfig", "NliConfig", "check_files", "nli_task", "prepare", "sts_task"]

_SOURCE = "https://github.com/kakaobrain/KorNLUDatasets"
_FULL_MARKS = 5.0


@dataclass(frozen=True, kw_only=True)
class KorConfig(TrainingConfig):
    """The settings these recipes share; the defaults are the seed's.

    Attributes:
        data_dir: folder of KorNLUDatasets: KorSTS's sts-*.tsv and KorNLI's *train.ko.tsv lie in it
            or in its folders KorSTS and KorNLI.
    """

    data_dir: Path
    model: str = "klue/roberta-base"


@dataclass(frozen=True, kw_only=True)
class NliConfig(KorConfig):
    """The settings of those that train on KorNLI.

    Attributes:
        nli_data: files to train on instead: others in KorNLI's form (.tsv), or triplets as `koe5`
            reads them; none is all of *train.ko.tsv.
    """

    nli_data: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what can't be trained with, before anything is read."""
        super().__post_init__()
        if self.batch_size < 2:
            raise ConfigError(
                f"batch_size={self.batch_size!r}: the negatives are the other rows of a batch, so "
                "it must be at least 2"
            )


def check_files(config: KorConfig, splits: Sequence[str]) -> None:
    """Raise DatasetError unless KorSTS's splits, and KorNLI's files if wanted, are there."""
    for split in splits:
        _sts_file(config, split)
    if isinstance(config, NliConfig):
        _nli_files(config)


def nli_task(config: NliConfig, model: SentenceTransformer) -> tuple[Task, Triplets]:
    """Return the task of telling entailments from contradictions, and what was read for it.

    Raises:
        DatasetError: the files are missing or malformed.
    """
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from koe5_integrations.training.data import read_kor_nli, read_triplets
    from koe5_integrations.training.recipes.base import is_distributed
    from koe5_integrations.training.recipes.matryoshka import with_matryoshka

    files = _nli_files(config)
    if all(Path(file).suffix.lower() == ".tsv" for file in files):
        triplets = read_kor_nli(files, seed=config.seed)
    else:
        triplets = read_triplets(files, num_negatives=1)
    loss = MultipleNegativesRankingLoss(model, gather_across_devices=is_distributed())
    task = Task(data=triplets.data, loss=with_matryoshka(loss, config, model), no_duplicates=True)
    return task, triplets


def sts_task(
    config: KorConfig, model: SentenceTransformer, batch_size: int
) -> tuple[Task, DataFile]:
    """Return the task of giving two sentences the cosine of their score / 5, and its file.

    Raises:
        DatasetError: the file is missing or malformed.
    """
    from datasets import Dataset
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    from koe5_integrations.training.recipes.matryoshka import with_matryoshka

    pairs, file = _read_sts(config, "train")
    data = Dataset.from_dict(
        {
            "sentence1": list(pairs.first),
            "sentence2": list(pairs.second),
            "score": [score / _FULL_MARKS for score in pairs.scores],
        }
    )
    loss = with_matryoshka(CosineSimilarityLoss(model), config, model)
    return Task(data=data, loss=loss, batch_size=batch_size), file


def prepare(
    config: KorConfig, tasks: Mapping[str, Task], files: Sequence[DataFile], card: str
) -> Prepared:
    """Return the run: measured on KorSTS's dev set while training, and in the seed's table after.

    Raises:
        DatasetError: KorSTS's files are missing or malformed.
    """
    from sentence_transformers.sentence_transformer.evaluation import (
        EmbeddingSimilarityEvaluator,
    )

    from koe5_integrations.evaluation.sts import evaluate_sts
    from koe5_integrations.training.recipes.matryoshka import at_each_dim

    dev, dev_file = _read_sts(config, "dev")
    pairs, test_file = _read_sts(config, "test")

    def evaluator(dim: int | None, suffix: str) -> SentenceEvaluator:
        return EmbeddingSimilarityEvaluator(
            list(dev.first),
            list(dev.second),
            [score / _FULL_MARKS for score in dev.scores],
            main_similarity="cosine",
            name=f"sts-dev{suffix}",
            write_csv=False,
            truncate_dim=dim,
        )

    def test(model: SentenceTransformer) -> Mapping[str, Mapping[str, float]]:
        rows = evaluate_sts(
            lambda sentences: model.encode(sentences, prompt="", show_progress_bar=False),
            pairs,
            truncate_dims=config.matryoshka_dims[1:],
        )
        return {
            f"KorSTS test, {row.dim} dim" if config.matryoshka_dims else "KorSTS test": row.values
            for row in rows
        }

    return Prepared(
        tasks=tasks,
        evaluator=at_each_dim(evaluator, config),
        test=test,
        files=(*files, dev_file, test_file),
        card=f"{card} The best checkpoint was picked by the cosine Spearman on KorSTS's "
        f"{len(dev.scores):,} dev pairs. Both sentences are embedded without a prefix.",
    )


def _read_sts(config: KorConfig, split: str) -> tuple[StsDataset, DataFile]:
    from koe5_integrations.evaluation.datasets import read_korsts
    from koe5_integrations.training.data.finding import sha256_of

    file = _sts_file(config, split)
    pairs = read_korsts(file)
    return pairs, DataFile(split, str(file), sha256_of(file), len(pairs.scores))


def _sts_file(config: KorConfig, split: str) -> Path:
    name = f"sts-{split}.tsv"
    for folder in (config.data_dir / "KorSTS", config.data_dir):
        if (folder / name).is_file():
            return folder / name
    raise _missing(config, name, "KorSTS")


def _nli_files(config: NliConfig) -> list[str | Path]:
    if config.nli_data:
        for file in config.nli_data:
            if not Path(file).exists():
                raise DatasetError(f"nli_data={file!r}: there is no such file or folder")
        return list(config.nli_data)
    for folder in (config.data_dir / "KorNLI", config.data_dir):
        if files := sorted(folder.glob("*train.ko.tsv")):
            return list(files)
    raise _missing(config, "*train.ko.tsv", "KorNLI")


def _missing(config: KorConfig, name: str, folder: str) -> DatasetError:
    return DatasetError(
        f"data_dir={str(config.data_dir)!r} has no {name}, in itself or in {folder}; clone "
        f"{_SOURCE} and name its folder"
    )
