"""Tests of what the recipe koe5 makes ready, and refuses, before anything is trained."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recipe_data import triplet_rows, write_jsonl
from tiny_models import make_xlm_roberta

from koe5_integrations.errors import ConfigError, DatasetError, ModelLoadError
from koe5_integrations.evaluation.datasets import load_dataset
from koe5_integrations.training import KoE5Config, train
from koe5_integrations.training.recipes.koe5 import RECIPE
from koe5_integrations.training.recipes.retrieval import dev_passages, split_dev

pytest.importorskip("sentence_transformers", reason="training needs sentence-transformers")
datasets = pytest.importorskip("datasets", reason="training needs datasets")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of KoE5's architecture."""
    return make_xlm_roberta(tmp_path_factory.mktemp("models") / "tiny", max_seq_length=32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few triplets."""
    return write_jsonl(tmp_path_factory.mktemp("data") / "t.jsonl", triplet_rows(30))


def config(tiny: Path, data: Path, out: Path, **more: Any) -> KoE5Config:
    return KoE5Config(
        model=tiny, data=data, out=out, **{"max_seq_length": 32, "batch_size": 8, **more}
    )


def test_rows_of_test_sets_are_not_trained_on(tmp_path: Path, tiny: Path) -> None:
    """Shipped sets are kept away from training unless that is asked for."""
    dataset = load_dataset("python_faq_ko")
    leak = {"query": next(iter(dataset.queries.values())), "positive": "답", "negative": "오답"}
    file = write_jsonl(tmp_path / "t.jsonl", [*triplet_rows(20), leak])
    kept_away = config(tiny, file, tmp_path / "run", dev_size=0, batch_size=2)
    for settings, rows in ((kept_away, 20), (replace(kept_away, keep_test_overlap=True), 21)):
        prepared = RECIPE.prepare(settings, RECIPE.load(settings))
        assert len(prepared.tasks["triplets"].data) == rows
        assert prepared.evaluator is None
        assert ("1 rows were left out: in a test set" in prepared.card) == (rows == 20)


def test_dev_rows_share_no_query_with_what_is_trained_on() -> None:
    """A tenth is drawn by default, and rows with the same queries go."""
    data = datasets.Dataset.from_dict(
        {
            "query": [f"질문 {n // 2}" for n in range(100)],
            "positive": [f"답 {n}" for n in range(100)],
        }
    )
    rest, dev = split_dev(data, None, seed=1)
    assert dev is not None
    assert len(dev) == 10
    assert not set(rest["query"]) & set(dev["query"])
    assert len(rest) == 100 - 2 * len(set(dev["query"]))
    assert split_dev(data, None, seed=1)[1]["positive"][:] == dev["positive"][:]
    assert len(split_dev(data, 0.25, seed=1)[1] or ()) == 25
    assert split_dev(data, 0, seed=1) == (data, None)
    with pytest.raises(ConfigError, match=r"dev_size=100 leaves none of the 100 rows"):
        split_dev(data, 100, seed=1)


def test_the_dev_set_is_searched_among_other_passages() -> None:
    """Its own positives and negatives, filled up with those of rows that are trained on."""
    rows = [
        {"query": f"질문 {n}", "positive": f"답 {n}", "negative": f"오답 {n}"} for n in range(20)
    ]
    dev, train = (datasets.Dataset.from_list(part) for part in (rows[:2], rows[1:]))
    own = {"답 0", "답 1", "오답 0", "오답 1"}
    found = dev_passages(dev, train, None, seed=1)
    assert len(found) == len(set(found)) == 10
    assert own < set(found) <= own | {row["positive"] for row in rows}
    assert dev_passages(dev, train, None, seed=1) == found
    assert set(dev_passages(dev, train, 3, seed=1)) == own
    assert len(dev_passages(dev, train, 1000, seed=1)) == 22


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"data": ()}, r"data=\(\) names nothing"),
        ({"num_negatives": -1}, "num_negatives=-1 must be"),
        ({"max_pairs": 0}, "max_pairs=0 must be"),
        ({"dev_passages": 0}, "dev_passages=0 must be"),
        ({"batch_size": 1}, "batch_size=1: the negatives are the other rows"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"dev_size": -1}, "dev_size=-1.0 must be a number of rows"),
        ({"dev_size": 1.5}, "dev_size=1.5 must be a number of rows"),
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, Any], problem: str) -> None:
    """Each names the value, before anything is read."""
    with pytest.raises(ConfigError, match=problem):
        KoE5Config(out="run", **setting)


def test_the_defaults_are_the_seeds() -> None:
    """Without options the recipe is KoE5's."""
    found = KoE5Config(out="run")
    assert (found.model, found.data) == (
        "intfloat/multilingual-e5-large",
        ("nlpai-lab/ko-triplet-v1.0",),
    )
    assert (found.batch_size, found.learning_rate, found.epochs) == (512, 1e-5, 1)
    assert (found.query_prompt, found.passage_prompt, found.negative_prompt) == (
        "query: ",
        "passage: ",
        "document: ",
    )


def test_recipes_are_imported_without_a_model_library() -> None:
    """The command line reads their settings for its help, which is to come at once."""
    code = """
import sys
from koe5_integrations.training import (
    KoE5Config, KorMultitaskConfig, KorNliConfig, KorStsConfig, data
)
print(*{name.partition(".")[0] for name in sys.modules})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "sentence_transformers", "datasets", "pyarrow", "accelerate"}
    assert not heavy & set(done.stdout.split())


def test_data_and_test_sets_are_looked_for_before_a_model(tmp_path: Path, tiny: Path) -> None:
    """A mistyped name does not cost the download of two gigabytes first."""
    settings = config(tiny, tmp_path / "none.jsonl", tmp_path / "run")
    with pytest.raises(DatasetError, match="there is no training data at"):
        RECIPE.load(replace(settings, model="nobody/not-there"))
    with pytest.raises(DatasetError, match="no data set or folder is called 'nowhere'"):
        RECIPE.load(replace(settings, model="nobody/not-there", evaluate_on=("nowhere",)))


def test_texts_that_come_with_prefixes_are_refused(tmp_path: Path, tiny: Path) -> None:
    """They would get theirs twice."""
    rows = [{**row, "query": f"query: {row['query']}"} for row in triplet_rows(20)]
    settings = config(tiny, write_jsonl(tmp_path / "t.jsonl", rows), tmp_path / "run")
    with pytest.raises(DatasetError, match=r"column 'query' already start with 'query: '"):
        RECIPE.prepare(settings, RECIPE.load(settings))


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"max_seq_length": 512}, r"max_seq_length=512: .* reads 32 tokens at most"),
        ({"matryoshka_dims": (16, 8)}, r"must begin with the 32 dimensions"),
    ],
)
def test_what_the_base_model_cannot_do_is_refused(
    tmp_path: Path, tiny: Path, data: Path, setting: dict[str, Any], problem: str
) -> None:
    """Its own limits are told from its files."""
    with pytest.raises(ConfigError, match=problem):
        RECIPE.load(config(tiny, data, tmp_path / "run", **setting))


def test_the_base_is_loaded_whole_and_without_a_default_prompt(
    tmp_path: Path, tiny: Path, data: Path
) -> None:
    """Weights stored in half precision are trained in full, and no prefix comes by itself."""
    import torch

    model = make_xlm_roberta(tmp_path / "half", default_prompt_name="query", prompts={"query": "q"})
    from sentence_transformers import SentenceTransformer

    half = SentenceTransformer(str(model), device="cpu").half()
    half.save(str(tmp_path / "saved"), create_model_card=False)
    loaded = RECIPE.load(config(tmp_path / "saved", data, tmp_path / "run"))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert loaded.max_seq_length == 32
    assert loaded.default_prompt_name is None


def test_a_model_that_cannot_be_had_is_one_error(tmp_path: Path, data: Path) -> None:
    """A base that is not cached names the ways on, and nothing is trained instead."""
    settings = KoE5Config(model="nobody/not-there", data=data, out=tmp_path / "run")
    with pytest.raises(ModelLoadError, match="Three ways on"):
        train(settings)
