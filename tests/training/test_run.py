"""Tests of koe5_integrations.training.run: what a run gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("accelerate")
pytest.importorskip("datasets")

import yaml
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer
from small_recipes import RECIPE, PairsConfig, PairsRecipe, small_config
from tiny_models import make_static

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError, TrainingError
from koe5_integrations.training import Prepared, Trained, TrainingConfig, read_config, train
from koe5_integrations.training.data.finding import sha256_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def config(folder: Path) -> PairsConfig:
    return small_config(folder, out=folder / "run", max_steps=30, eval_steps=10, save_steps=10)


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    return []


@pytest.fixture(scope="module")
def trained(config: PairsConfig, told: list[dict[str, Any]]) -> Trained:
    return train(config, recipe=RECIPE, on_log=lambda row: told.append(dict(row)))


@pytest.fixture(scope="module")
def rows(trained: Trained) -> list[dict[str, Any]]:
    lines = (trained.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


class Only(PairsRecipe):
    """Changes what is prepared."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def prepare(self, config: PairsConfig, model: SentenceTransformer) -> Prepared:
        prepared = super().prepare(config, model)
        tasks = self.changes.pop("only", tuple(prepared.tasks))
        kept = {name: prepared.tasks[name] for name in tasks}
        return replace(prepared, tasks=kept, **self.changes)


def test_the_loss_falls_and_the_dev_metric_rises(
    trained: Trained, rows: list[dict[str, Any]]
) -> None:
    """Each task's loss is lower at the end, and the kept model better than the base."""
    for task in ("pairs", "scored"):
        losses = [row["losses"][task] for row in rows if task in row.get("losses", ())]
        assert np.mean(losses[-4:]) < np.mean(losses[:4])
    assert trained.metrics["primary"] > trained.before["primary"]


def test_tasks_take_turns_and_every_update_has_its_row(
    rows: list[dict[str, Any]], told: list[dict[str, Any]]
) -> None:
    """One row an update with its task's loss, rate and gradient; one an evaluation."""
    updates = [row for row in rows if "loss" in row]
    assert [row["step"] for row in updates] == list(range(1, 31))
    assert [next(iter(row["losses"])) for row in updates] == ["pairs", "scored"] * 15
    assert all(row["grad_norm"] > 0 for row in updates)
    assert max(row["learning_rate"] for row in updates) == pytest.approx(3e-3)
    assert [row["step"] for row in rows if "dev" in row] == [0, 10, 20, 30]
    assert told == rows


def test_the_best_model_is_kept(trained: Trained, rows: list[dict[str, Any]]) -> None:
    """The model is that of the checkpoint whose primary metric was highest."""
    dev = {row["step"]: row["primary"] for row in rows if "dev" in row and row["step"]}
    assert trained.metrics["primary"] == max(dev.values()) == dev[trained.best_step]
    best = trained.out / "checkpoints" / f"checkpoint-{trained.best_step}" / "model.safetensors"
    assert best.read_bytes() == (trained.model_dir / "model.safetensors").read_bytes()


def test_checkpoints_are_the_latest_and_their_best(
    trained: Trained, rows: list[dict[str, Any]]
) -> None:
    """`keep_checkpoints` of the latest stay, with each the best until then, and nothing else."""
    dev = {row["step"]: row["primary"] for row in rows if "dev" in row and row["step"]}
    best_until = {max((s for s in dev if s <= step), key=dev.__getitem__) for step in (20, 30)}
    left = {path.name for path in (trained.out / "checkpoints").iterdir()}
    assert left == {f"checkpoint-{step}" for step in {20, 30} | best_until}


def test_the_run_folder_says_what_the_model_was_made_from(
    trained: Trained, config: PairsConfig
) -> None:
    """Configuration, data with digests, versions, results and curves are all there."""
    assert read_config(trained.out / "config.yaml", PairsConfig) == config
    (row,) = json.loads((trained.out / "data.json").read_text(encoding="utf-8"))
    assert row["sha256"] == sha256_of(config.data)
    assert (row["role"], row["rows"]) == ("train", 25)
    (session,) = json.loads((trained.out / "environment.json").read_text())["sessions"]
    assert session["after_step"] == 0
    assert {"python", "torch", "sentence-transformers"} <= set(session["versions"])
    assert trained.results == {"held out": {"dim": 16.0}}
    assert (trained.out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_card_says_it_too(trained: Trained, config: PairsConfig) -> None:
    """Its head is YAML; data, figures, settings and the recipe's own words are in it."""
    card = (trained.model_dir / "README.md").read_text(encoding="utf-8")
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["language"] == "ko"
    assert "Questions and answers about **nothing** in particular." in body
    assert f"| train | `pairs.tsv` | 25 | `{sha256_of(config.data)}` |" in body
    assert f"| {trained.metrics['dev_cosine_ndcg@10']:.4f} |" in body
    assert "| held out | 16.0000 |" in body
    assert "| `learning_rate` | 0.003 |" in body
    assert "(curves.png)" in body
    assert (trained.model_dir / "curves.png").is_file()


def test_the_model_carries_its_prefixes(trained: Trained) -> None:
    """sentence-transformers and KoE5Encoder embed questions and passages with the right ones."""
    model = SentenceTransformer(str(trained.model_dir), device="cpu")
    texts = ["파이썬 문자열", "서울의 겨울"]
    encoder = KoE5Encoder(trained.model_dir)
    for prefix, theirs, ours in (
        ("query: ", model.encode_query, encoder.encode_queries),
        ("passage: ", model.encode_document, encoder.encode_passages),
    ):
        expected = model.encode([prefix + text for text in texts], prompt="")
        np.testing.assert_array_equal(theirs(texts), expected)
        np.testing.assert_allclose(ours(texts), expected, atol=1e-6)


def test_a_finished_run_is_returned_at_once(trained: Trained, config: PairsConfig) -> None:
    """Calling again neither loads a model nor reads data."""

    class Untouched:
        name = "pairs"

        def load(self, config: Any) -> Any:
            raise AssertionError("the run is finished")

        prepare = load

    assert train(config, recipe=Untouched()) == trained


@pytest.fixture(scope="module")
def in_one_go(folder: Path) -> dict[str, np.ndarray]:
    return _weights(folder, "in-one-go")


@pytest.mark.parametrize("memory", [{"mini_batch_size": 3}, {"gradient_checkpointing": True}])
def test_what_saves_memory_changes_no_gradient(
    folder: Path, in_one_go: dict[str, np.ndarray], memory: dict[str, Any]
) -> None:
    """With a loss that is a mean over examples, weights differ by rounding only."""
    found = _weights(folder, next(iter(memory)), **memory)
    before = load_file(folder / "base/model.safetensors")
    for name, expected in in_one_go.items():
        np.testing.assert_allclose(found[name], expected, atol=1e-5)
    assert max(np.abs(found[name] - before[name]).max() for name in before) > 1e-3


def _weights(folder: Path, name: str, **values: Any) -> dict[str, np.ndarray]:
    config = small_config(
        folder,
        out=folder / name,
        ranked=False,
        dropout=0,
        batch_size=6,
        max_steps=4,
        **values,
    )
    done = train(config, recipe=Only(evaluator=None, test=None))
    found: dict[str, np.ndarray] = load_file(done.model_dir / "model.safetensors")
    return found


def test_without_a_dev_set_the_last_model_is_kept(folder: Path) -> None:
    """Nothing is measured, nothing is missing: the card and the curves do without."""
    done = train(
        small_config(folder, out=folder / "no-dev", max_steps=2),
        recipe=Only(evaluator=None, test=None, files=(), prompts={}, card=""),
    )
    assert (done.steps, done.best_step) == (2, 2)
    assert (done.metrics, done.before, done.results) == ({}, {}, {})
    assert "None were measured." in (done.model_dir / "README.md").read_text(encoding="utf-8")
    model = SentenceTransformer(str(done.model_dir), device="cpu")
    assert model.prompts == {"query": "", "passage": "", "document": ""}


def test_a_batch_has_no_text_twice_and_its_prefixes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duplicates are kept apart where they would be negatives, and each column has its prefix."""
    from koe5_integrations.training.run.trainer import TurnsTrainer

    data = folder / "twice.tsv"
    data.write_text("".join(f"질문 {i % 6}\t답 {i}\n" for i in range(24)), encoding="utf-8")
    rows: list[list[dict[str, Any]]] = []
    batches: list[dict[str, Any]] = []
    collate = TurnsTrainer._collate

    def spy(self: TurnsTrainer, drawn: list[dict[str, Any]]) -> dict[str, Any]:
        rows.append(drawn)
        batches.append(collate(self, drawn))
        return batches[-1]

    monkeypatch.setattr(TurnsTrainer, "_collate", spy)
    config = small_config(
        folder, out=folder / "twice", data=data, scored=False, batch_size=6, max_steps=8
    )
    done = train(config, recipe=Only(evaluator=None, test=None))
    tokenizer = SentenceTransformer(str(done.model_dir), device="cpu").tokenizer
    for drawn, batch in zip(rows, batches, strict=True):
        assert len({row["query"] for row in drawn}) == len(drawn) == 6
        (part,) = batch["parts"]
        for column, prefix in (("query", "query: "), ("positive", "passage: ")):
            expected = tokenizer([prefix + row[column] for row in drawn])["input_ids"]
            got = [
                ids[: int(mask.sum())].tolist()
                for ids, mask in zip(
                    part[f"{column}_input_ids"], part[f"{column}_attention_mask"], strict=True
                )
            ]
            assert got == expected


def test_a_static_model_is_trained_in_parts_too(tmp_path: Path, folder: Path) -> None:
    """A table of token vectors, whose batches are no rectangle, learns like any other model."""
    base = make_static(tmp_path / "static")
    config = small_config(
        folder,
        out=tmp_path / "run",
        model=str(base),
        mini_batch_size=4,
        max_steps=12,
        scored=False,
        learning_rate=0.05,
    )
    done = train(config, recipe=RECIPE)
    assert done.metrics["primary"] > done.before["primary"]
    assert KoE5Encoder(done.model_dir).encode_queries(["서울"]).shape == (1, 16)


def test_a_loss_that_is_no_number_ends_the_run(folder: Path, tmp_path: Path) -> None:
    """It is said after which update, and what may help."""
    config = small_config(folder, out=tmp_path / "run", learning_rate=1e38, warmup_ratio=0)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) after update \d+: lower"):
        train(config, recipe=RECIPE)


def test_what_can_not_be_trained_is_said_before(folder: Path, tmp_path: Path) -> None:
    """A configuration without a recipe, an unknown `resume`, fp16 without a GPU, a file as out."""
    import torch

    with pytest.raises(ConfigError, match="TrainingConfig has no recipe"):
        train(TrainingConfig(out=tmp_path / "run", model="base"))
    with pytest.raises(ConfigError, match="resume='yes' must be one of 'auto', 'never'"):
        train(small_config(folder, out=tmp_path / "run"), resume="yes")
    with pytest.raises(ConfigError, match="is not a folder"):
        train(small_config(folder, out=folder / "pairs.tsv"))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="needs a GPU"):
            train(small_config(folder, out=tmp_path / "run", precision="fp16"))
    base = make_static(tmp_path / "static")
    config = small_config(
        folder, out=tmp_path / "run", model=str(base), gradient_checkpointing=True
    )
    with pytest.raises(ConfigError, match="is for transformers"):
        train(config)


@pytest.fixture(autouse=True)
def bars_as_before() -> Iterator[None]:
    """A run leaves the progress bars of transformers as it found them."""
    from transformers.utils import logging

    shown: Any = logging.is_progress_bar_enabled()
    yield
    assert logging.is_progress_bar_enabled() == shown
