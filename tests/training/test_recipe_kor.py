"""Tests of kor-nli, kor-sts and kor-multitask, trained for real on a small model and data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe_data import triplet_rows, write_jsonl, write_kornli, write_kornlu
from tiny_models import make_xlm_roberta

from koe5_integrations.errors import ConfigError, DatasetError
from koe5_integrations.evaluation.datasets import read_korsts
from koe5_integrations.evaluation.sts import COLUMNS, evaluate_sts
from koe5_integrations.training import (
    KorMultitaskConfig,
    KorNliConfig,
    KorStsConfig,
    Trained,
    TrainingConfig,
    train,
)
from koe5_integrations.training.data import read_kor_nli
from koe5_integrations.training.recipe import Prepared
from koe5_integrations.training.recipes import kor_multitask, kor_nli, kor_sts

pytest.importorskip("sentence_transformers", reason="training needs sentence-transformers")
pytest.importorskip("datasets", reason="training needs datasets")

SMALL = {"max_seq_length": 32, "learning_rate": 3e-3, "eval_steps": 20}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model without normalisation, as those of ko-sentence-transformers are."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return make_xlm_roberta(folder, max_seq_length=32, normalize=False)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small KorNLUDatasets, laid out as published."""
    return write_kornlu(tmp_path_factory.mktemp("KorNLUDatasets"))


@pytest.fixture(
    scope="module",
    params=[
        (KorNliConfig, {"batch_size": 32, "epochs": 2}),
        (KorStsConfig, {"batch_size": 16, "epochs": 3, "matryoshka_dims": (32, 8)}),
        (KorMultitaskConfig, {"batch_size": 32, "sts_batch_size": 16, "epochs": 2}),
    ],
    ids=["kor-nli", "kor-sts", "kor-multitask"],
)
def run(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tiny: Path,
    corpora: Path,
) -> Trained:
    """A finished run of each recipe."""
    config, settings = request.param
    out = tmp_path_factory.mktemp("runs") / config.recipe
    return train(config(model=tiny, data_dir=corpora, out=out, **SMALL, **settings))


def test_losses_fall_and_unseen_pairs_are_ordered_better(run: Trained) -> None:
    """Each task's loss falls, and cosines follow the scores of pairs that were not trained on."""
    lines = (run.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    updates = [row["losses"] for row in map(json.loads, lines) if "losses" in row]
    for task in {name for losses in updates for name in losses}:
        values = [losses[task] for losses in updates if task in losses]
        assert np.mean(values[-3:]) < 0.8 * np.mean(values[:3]), task
    assert run.before["primary"] < 0.3
    assert run.metrics["primary"] > 0.5
    dims = {name.partition("_")[0] for name in run.metrics if name.startswith("sts-dev")}
    nested = "kor-sts" in str(run.out)
    assert dims == ({"sts-dev-32", "sts-dev-8"} if nested else {"sts-dev"})
    whole = "sts-dev-32" if nested else "sts-dev"
    assert run.metrics["primary"] == run.metrics[f"{whole}_spearman_cosine"]


def test_the_test_set_is_measured_in_the_seeds_table(run: Trained, corpora: Path) -> None:
    """The eight columns, at each size, are those of the evaluation of the model as it is loaded."""
    from koe5_integrations import KoE5Encoder

    nested = "kor-sts" in str(run.out)
    encoder = KoE5Encoder(run.model_dir, profile="jhgan/ko-sroberta-sts", max_seq_length=32)
    rows = evaluate_sts(
        encoder,
        read_korsts(corpora / "KorSTS" / "sts-test.tsv"),
        truncate_dims=(8,) if nested else (),
    )
    titles = ["KorSTS test, 32 dim", "KorSTS test, 8 dim"] if nested else ["KorSTS test"]
    assert list(run.results) == titles
    for title, row in zip(titles, rows, strict=True):
        assert tuple(run.results[title]) == COLUMNS
        assert run.results[title] == pytest.approx(row.values, abs=0.1)


def test_the_model_has_no_prefixes(run: Trained) -> None:
    """Both sentences are alike, and neither gets anything put before it."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(run.model_dir), device="cpu")
    bare = model.encode(["서울의 겨울은"])
    np.testing.assert_array_equal(model.encode_query(["서울의 겨울은"]), bare)
    np.testing.assert_array_equal(model.encode_document(["서울의 겨울은"]), bare)


def prepared(config: TrainingConfig) -> Prepared:
    recipes: dict[str, Any] = {
        module.RECIPE.name: module.RECIPE for module in (kor_multitask, kor_nli, kor_sts)
    }
    recipe = recipes[config.recipe]
    found: Prepared = recipe.prepare(config, recipe.load(config))
    return found


def test_the_tasks_are_the_seeds(tiny: Path, corpora: Path, tmp_path: Path) -> None:
    """Triplets without duplicates in a batch, and scores from 0 to 1, each in its own batches."""
    config = KorMultitaskConfig(model=tiny, data_dir=corpora, out=tmp_path, max_seq_length=32)
    made = prepared(config)
    nli, sts = made.tasks["nli"], made.tasks["sts"]
    assert (nli.batch_size or config.batch_size, sts.batch_size) == (64, 8)
    assert (nli.no_duplicates, sts.no_duplicates) == (True, False)
    assert nli.data.column_names == ["query", "positive", "negative"]
    assert sts.data.column_names == ["sentence1", "sentence2", "score"]
    pairs = read_korsts(corpora / "KorSTS" / "sts-train.tsv")
    assert sts.data["score"][:] == [score / 5 for score in pairs.scores]
    assert set(sts.data["score"]) == {0, 0.25, 0.5, 0.75, 1}
    assert not nli.prompts
    assert [file.role for file in made.files] == ["train", "train", "dev", "test"]


@pytest.mark.parametrize("config", [KorNliConfig, KorStsConfig, KorMultitaskConfig])
def test_the_defaults_are_the_seeds(config: type[Any]) -> None:
    """Without options the recipes are ko-sentence-transformers'."""
    found = config(out="run", data_dir="data")
    assert (found.model, found.max_seq_length, found.seed) == ("klue/roberta-base", 128, 777)
    assert (found.learning_rate, found.warmup_ratio, found.weight_decay) == (2e-5, 0.1, 0.01)
    sizes = {"kor-nli": (64, 1), "kor-sts": (8, 5), "kor-multitask": (64, 5)}
    assert (found.batch_size, found.epochs) == sizes[config.recipe]


def test_files_may_lie_in_one_folder(tiny: Path, tmp_path: Path) -> None:
    """Without the folders KorNLI and KorSTS the same files are found."""
    flat = write_kornlu(tmp_path / "flat", nested=False)
    made = prepared(
        KorMultitaskConfig(model=tiny, data_dir=flat, out=tmp_path / "run", max_seq_length=32)
    )
    assert {Path(file.path).parent for file in made.files} == {flat}


def test_other_inference_data_can_be_named(tiny: Path, corpora: Path, tmp_path: Path) -> None:
    """Another file in KorNLI's form, or triplets as koe5 reads them."""
    config = KorNliConfig(model=tiny, data_dir=corpora, out=tmp_path / "run", max_seq_length=32)
    tsv = write_kornli(tmp_path, 20)
    rows = prepared(replace(config, nli_data=(str(tsv),))).tasks["nli"].data.to_list()
    assert rows == read_kor_nli([tsv]).data.to_list()
    jsonl = write_jsonl(tmp_path / "klue.jsonl", triplet_rows(30))
    assert len(prepared(replace(config, nli_data=(str(jsonl),))).tasks["nli"].data) == 30


@pytest.mark.parametrize(
    ("config", "removed", "problem"),
    [
        (KorNliConfig, "KorNLI/small.train.ko.tsv", r"no \*train\.ko\.tsv, in itself or in KorNLI"),
        (KorNliConfig, "KorSTS/sts-dev.tsv", r"no sts-dev\.tsv, in itself or in KorSTS; clone htt"),
        (KorStsConfig, "KorSTS/sts-train.tsv", r"no sts-train\.tsv"),
        (KorMultitaskConfig, "KorSTS/sts-test.tsv", r"no sts-test\.tsv"),
    ],
)
def test_missing_files_are_named_before_a_model_is_fetched(
    tmp_path: Path, config: type[Any], removed: str, problem: str
) -> None:
    """What is missing, where it was looked for and where it is published."""
    folder = write_kornlu(tmp_path / "data")
    (folder / removed).unlink()
    with pytest.raises(DatasetError, match=problem):
        train(config(model="nobody/not-there", data_dir=folder, out=tmp_path / "run"))


def test_named_data_that_is_not_there_is_an_error(corpora: Path, tmp_path: Path) -> None:
    """A mistyped name is told before a model is fetched."""
    config = KorNliConfig(
        model="nobody/not-there", data_dir=corpora, out=tmp_path, nli_data="nope.tsv"
    )
    with pytest.raises(DatasetError, match=r"nli_data='nope\.tsv': there is no such file"):
        kor_nli.RECIPE.load(config)


@pytest.mark.parametrize(
    ("config", "setting", "problem"),
    [
        (KorNliConfig, {"batch_size": 1}, "batch_size=1: the negatives are the other rows"),
        (KorMultitaskConfig, {"sts_batch_size": 0}, "sts_batch_size=0 must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(
    config: type[Any], setting: dict[str, int], problem: str
) -> None:
    """Each names the value, before anything is read."""
    with pytest.raises(ConfigError, match=problem):
        config(out="run", data_dir="data", **setting)
