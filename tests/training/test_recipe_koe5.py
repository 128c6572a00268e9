"""Tests of the recipe koe5, trained for real on a small model and small Korean data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe_data import triplet_rows, write_jsonl
from tiny_models import make_static, make_xlm_roberta

from koe5_integrations.evaluation.datasets import load_dataset
from koe5_integrations.training import KoE5Config, Trained, train
from koe5_integrations.training.recipes import base
from koe5_integrations.training.recipes.koe5 import RECIPE

pytest.importorskip("sentence_transformers", reason="training needs sentence-transformers")
pytest.importorskip("datasets", reason="training needs datasets")

DIMS = (32, 4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of KoE5's architecture."""
    return make_xlm_roberta(tmp_path_factory.mktemp("models") / "tiny", max_seq_length=32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 triplets; each positive answers two queries, and each query has two positives."""
    rows = triplet_rows(600)
    twins = [{**row, "query": " ".join(reversed(row["query"].split()))} for row in rows[:40]]
    others = [{**row, "positive": row["positive"] + " 이유는"} for row in rows[:40]]
    folder = tmp_path_factory.mktemp("data")
    return write_jsonl(folder / "triplets.jsonl", [*rows, *twins, *others])


def config(tiny: Path, data: Path, out: Path, **more: Any) -> KoE5Config:
    settings = {
        "batch_size": 32,
        "mini_batch_size": 16,
        "learning_rate": 3e-3,
        "max_seq_length": 32,
        "dev_size": 50,
        "dev_passages": 150,
        "eval_steps": 1000,
        "epochs": 3,
        **more,
    }
    return KoE5Config(model=tiny, data=data, out=out, **settings)


class Spy:
    """Holds the texts of each pass through a model, as their tokens spell them."""

    def __init__(self) -> None:
        self.passes: list[list[str]] = []
        self.measured: list[list[str]] = []

    def watch(self, model: Any) -> Any:
        def note(module: Any, arguments: Any) -> None:
            passes = self.passes if module.training else self.measured
            ids = arguments[0]["input_ids"].tolist()
            passes.append([self._text(model.tokenizer, row) for row in ids])

        model[0].register_forward_pre_hook(note)
        return model

    @staticmethod
    def _text(tokenizer: Any, ids: list[int]) -> str:
        tokens = tokenizer.convert_ids_to_tokens(ids)
        special = set(tokenizer.all_special_tokens)
        return "".join(t for t in tokens if t not in special).replace("▁", " ").strip()


@pytest.fixture(scope="module")
def spy() -> Spy:
    """What was seen of the plain run."""
    return Spy()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, tiny: Path, data: Path, spy: Spy) -> Trained:
    """A run without Matryoshka, measured on a shipped test set."""
    out = tmp_path_factory.mktemp("runs") / "plain"
    real = base.load_base
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "load_base", lambda config: spy.watch(real(config)))
        return train(config(tiny, data, out, evaluate_on=("python_faq_ko",)))


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory, tiny: Path, data: Path) -> Trained:
    """The same run with Matryoshka."""
    out = tmp_path_factory.mktemp("runs") / "nested"
    return train(config(tiny, data, out, matryoshka_dims=DIMS, mini_batch_size=32))


def losses(run: Trained) -> list[float]:
    lines = (run.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


def test_loss_falls_and_held_out_questions_find_their_passages(plain: Trained) -> None:
    """Training on some rows makes the model find the passages of others."""
    found = losses(plain)
    assert np.mean(found[-3:]) < np.mean(found[:3]) / 2
    assert plain.before["dev_cosine_ndcg@10"] < 0.2
    assert plain.metrics["dev_cosine_ndcg@10"] > 0.6
    assert plain.metrics["primary"] == plain.metrics["dev_cosine_ndcg@10"]


def test_every_column_reaches_the_model_with_its_prefix(plain: Trained, spy: Spy) -> None:
    """Queries, positives and negatives each have theirs, once, and nothing goes without."""
    prefixes = {text.partition(": ")[0] for texts in spy.passes for text in texts}
    assert prefixes == {"query", "passage", "document"}
    assert all(text.count(": ") == 1 for texts in spy.passes for text in texts)
    rows = {tuple(row.values()) for row in triplet_rows(600)}
    negatives = {negative for _, _, negative in rows}
    seen = {t.removeprefix("document: ") for ts in spy.passes for t in ts if t[0] == "d"}
    assert seen <= negatives


def test_what_is_measured_has_the_prefixes_of_a_search(plain: Trained, spy: Spy) -> None:
    """On dev and test sets a passage is a passage, also one that was a negative in training."""
    found = [text for texts in spy.measured for text in texts]
    assert {text.partition(": ")[0] for text in found} == {"query", "passage"}
    assert any(f"passage: {row['negative']}" in found for row in triplet_rows(600))


def test_a_batch_goes_through_in_parts(plain: Trained, spy: Spy) -> None:
    """The cached loss takes mini-batches, so that 512 rows need the memory of a few."""
    assert max(map(len, spy.passes)) == 16


def test_no_text_stands_twice_in_a_batch(plain: Trained, spy: Spy) -> None:
    """A passage that answers two questions would be a negative of one of them."""
    # Each update makes the same passes twice, to cache gradients and to use them: two parts each
    # of queries, positives and negatives.
    assert len(spy.passes) % 12 == 0
    for start in range(0, len(spy.passes), 12):
        texts = [text for part in spy.passes[start : start + 6] for text in part]
        bare = [text.partition(": ")[2] for text in texts]
        assert len(bare) == 96
        assert len(set(bare)) == len(bare)


def test_the_model_says_its_prefixes(plain: Trained) -> None:
    """What is searched gets the passages' prefix afterwards, never the negatives'."""
    file = plain.model_dir / "config_sentence_transformers.json"
    prompts = json.loads(file.read_text(encoding="utf-8"))["prompts"]
    assert prompts == {"query": "query: ", "passage": "passage: ", "document": "passage: "}


def test_test_sets_are_measured_before_and_after(plain: Trained, tiny: Path) -> None:
    """The table shows what training gained, in the harness's own numbers."""
    from koe5_integrations import KoE5Encoder
    from koe5_integrations.training.score import score_retrieval

    for title, folder in (("python_faq_ko, before", tiny), ("python_faq_ko", plain.model_dir)):
        encoder = KoE5Encoder(folder, max_seq_length=32, on_truncation="ignore")
        expected = score_retrieval(encoder, load_dataset("python_faq_ko"))
        assert plain.results[title]["ndcg@10"] == pytest.approx(expected.ndcg_at_10, abs=0.01)
        assert plain.results[title]["recall@10"] == pytest.approx(expected.recall_at_10, abs=0.02)


def test_the_card_says_what_was_trained_on(plain: Trained) -> None:
    """Rows, loss and prefixes of training stand in the model card."""
    card = (plain.model_dir / "README.md").read_text(encoding="utf-8")
    assert "rows of a query and a passage that answers it, with one hard negative each" in card
    assert "`document: ` before hard negatives" in card


def test_matryoshka_keeps_more_in_short_vectors(
    plain: Trained, nested: Trained, tmp_path: Path, tiny: Path, data: Path
) -> None:
    """Vectors cut to four dimensions find more if the loss was taken of them too."""
    from sentence_transformers import SentenceTransformer

    settings = config(tiny, data, tmp_path / "unused", matryoshka_dims=DIMS)
    evaluator = RECIPE.prepare(settings, RECIPE.load(settings)).evaluator
    assert evaluator is not None
    without, with_it = (
        evaluator(SentenceTransformer(str(run.model_dir), device="cpu")) for run in (plain, nested)
    )
    assert with_it["dev-4_cosine_ndcg@10"] > without["dev-4_cosine_ndcg@10"] + 0.1
    assert nested.metrics["primary"] == nested.metrics["dev-32_cosine_ndcg@10"]
    assert nested.metrics["dev-4_cosine_ndcg@10"] == pytest.approx(with_it["dev-4_cosine_ndcg@10"])


def test_a_static_model_is_trained_too(tmp_path: Path, data: Path) -> None:
    """A table of token vectors, as the bundled model is, learns without the cached loss."""
    model = make_static(tmp_path / "static", dim=32)
    run = train(config(model, data, tmp_path / "run", mini_batch_size=None, learning_rate=0.05))
    assert run.metrics["primary"] > run.before["primary"] + 0.2
