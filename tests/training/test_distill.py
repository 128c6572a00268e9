"""Tests of the recipe distill, with a small teacher and real training."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recipe_data import other_words, texts, triplet_rows, write_jsonl
from tiny_models import make_static, make_xlm_roberta

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError, DatasetError, ModelLoadError, UnknownModelError
from koe5_integrations.training import DistillConfig, Trained, train
from koe5_integrations.training.distillation.projection import fit_projection
from koe5_integrations.training.recipes.distill import RECIPE

pytest.importorskip("sentence_transformers", reason="training needs sentence-transformers")
pytest.importorskip("datasets", reason="training needs datasets")

AGREEMENT = "dev_agreement_ndcg@10"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of KoE5's architecture with four layers, whose vectors have 32 dimensions."""
    import torch
    from sentence_transformers import SentenceTransformer

    folder = make_xlm_roberta(
        tmp_path_factory.mktemp("models") / "teacher", layers=4, max_seq_length=32
    )
    model: Any = SentenceTransformer(str(folder), device="cpu")
    with torch.no_grad():  # random weights are so small that a layer hardly changes anything
        for parameter in model[0].auto_model.encoder.parameters():
            if parameter.ndim == 2:
                parameter *= 6
    model.save(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("data") / "triplets.jsonl", triplet_rows(200))


def config(teacher: Path, data: Path, out: Path, **more: Any) -> DistillConfig:
    settings = {
        "model": "static",
        "vocab_size": 0,
        "batch_size": 32,
        "max_seq_length": 32,
        "dev_size": 60,
        "eval_steps": 20,
        "learning_rate": 1e-3,
        **more,
    }
    return DistillConfig(teacher=str(teacher), data=data, out=out, **settings)


@pytest.fixture(scope="module")
def static(
    teacher: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DistillConfig, Trained]:
    out = tmp_path_factory.mktemp("runs") / "static"
    run = config(teacher, data, out, dim=16, epochs=2, evaluate_on=("python_faq_ko",))
    return run, train(run)


def test_a_table_learns_to_agree_with_the_teacher(static: tuple[DistillConfig, Trained]) -> None:
    """Loss falls, and texts that were held out are found and placed as the teacher does."""
    run, trained = static
    rows = [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert trained.metrics[AGREEMENT] > trained.before[AGREEMENT] + 0.03
    assert trained.metrics["dev_mean_cosine"] > trained.before["dev_mean_cosine"]
    measured = trained.results
    assert set(measured) == {"python_faq_ko", "python_faq_ko, teacher"}
    assert all(0 <= table["ndcg@10"] <= 1 for table in measured.values())


def test_the_student_is_used_as_the_teacher_is(static: tuple[DistillConfig, Trained]) -> None:
    """It loads in both libraries, which give the same vectors with the teacher's prefixes."""
    from sentence_transformers import SentenceTransformer

    run, _ = static
    theirs = SentenceTransformer(str(run.out / "model"), device="cpu")
    ours = KoE5Encoder(run.out / "model")
    asked = ["파이썬 문자열 이유는", "서울의 겨울은"]
    assert ours.dim == 16
    assert ours.engine.backend == "static"
    np.testing.assert_allclose(ours.encode_queries(asked), theirs.encode_query(asked), atol=1e-6)
    found = theirs.encode_document(asked)
    np.testing.assert_allclose(ours.encode_passages(asked), found, atol=1e-6)
    assert not np.allclose(found, theirs.encode_query(asked), atol=1e-3)


def test_each_text_is_learnt_with_its_prefix(static: tuple[DistillConfig, Trained]) -> None:
    """A label is the teacher's vector of the prefixed text, along the principal directions."""
    run, _ = static
    prepared = RECIPE.prepare(run, RECIPE.load(run))
    (task,) = prepared.tasks.values()
    teacher = KoE5Encoder(run.teacher)
    projection = np.load(next((run.out / "teacher").glob("projection-*.npy")))
    roles = {
        "query: ": teacher.encode_queries,
        "passage: ": teacher.encode_passages,
    }
    seen = 0
    for prefix, encode in roles.items():
        rows = [row for row in task.data if row["text"].startswith(prefix)]
        bare = [row["text"].removeprefix(prefix) for row in rows]
        labels = np.array([row["label"] for row in rows])
        np.testing.assert_allclose(labels, encode(bare) @ projection, atol=1e-5)
        seen += len(rows)
    rows_of_data = triplet_rows(200)
    different = sum(len({row[name] for row in rows_of_data}) for name in ("query",))
    different += len({row[name] for row in rows_of_data for name in ("positive", "negative")})
    assert seen == len(task.data) == different - 60
    assert prepared.prompts == {"query": "query: ", "passage": "passage: "}
    assert "16 dimensions" in prepared.card


def test_some_of_the_layers_learn_what_all_know(teacher: Path, data: Path, tmp_path: Path) -> None:
    """Layers are the teacher's first to last; trained, they come closer to it than they were."""
    run = config(teacher, data, tmp_path / "run", model="layers", layers=2)
    student: Any = RECIPE.load(run)
    whole: Any = RECIPE.load(config(teacher, data, tmp_path / "all", model="layers", layers=4))
    kept = student[0].auto_model.encoder.layer
    assert len(kept) == student[0].auto_model.config.num_hidden_layers == 2
    for layer, of_teacher in zip(kept, (0, 3), strict=True):
        its = whole[0].auto_model.encoder.layer[of_teacher].state_dict()
        assert all((value == its[name]).all() for name, value in layer.state_dict().items())
    trained = train(run)
    assert trained.metrics["dev_mean_cosine"] > trained.before["dev_mean_cosine"]
    assert trained.metrics[AGREEMENT] > trained.before[AGREEMENT]
    encoder = KoE5Encoder(trained.model_dir, backend="torch")
    assert encoder.dim == 32
    assert encoder.max_seq_length == 32


def test_all_layers_shortened_agree_from_the_start(
    teacher: Path, data: Path, tmp_path: Path
) -> None:
    """Before any training, a layer shortens its vectors as the teacher's were shortened."""
    dims = {"dim": 24, "matryoshka_dims": (24, 8)}
    run = config(teacher, data, tmp_path / "run", model="layers", layers=4, **dims)
    student = RECIPE.load(run)
    evaluator = RECIPE.prepare(run, student).evaluator
    assert evaluator is not None
    found = evaluator(student)
    assert isinstance(found, dict)
    assert found["dev-24_mean_cosine"] == pytest.approx(1, abs=1e-5)
    assert found["dev-8_mean_cosine"] == pytest.approx(1, abs=1e-5)
    assert found["dev-24_agreement_ndcg@10"] > found["dev-8_agreement_ndcg@10"] > 0.2
    assert evaluator.primary_metric is not None


def test_a_base_of_ones_own_is_a_student(data: Path, teacher: Path, tmp_path: Path) -> None:
    """It learns as it is, with unit vectors, from single texts with roles."""
    base = make_xlm_roberta(tmp_path / "base", dim=16, max_seq_length=32, normalize=False, seed=1)
    rows = [{"text": text, "role": "query"} for text in texts(60)]
    rows += [{"text": other_words(text)} for text in texts(60)]
    run = config(
        teacher, write_jsonl(tmp_path / "texts.jsonl", rows), tmp_path / "run", model=str(base)
    )
    trained = train(run)
    assert trained.metrics["dev_mean_cosine"] > trained.before["dev_mean_cosine"]
    vectors = KoE5Encoder(trained.model_dir).encode_passages(["겨울은 춥고"])
    assert vectors.shape == (1, 16)
    modules = json.loads((trained.model_dir / "modules.json").read_text())
    assert modules[-1]["type"].endswith("Normalize")


def test_a_stopped_run_goes_on_with_what_it_had(
    static: tuple[DistillConfig, Trained], tmp_path: Path
) -> None:
    """Stopped between checkpoints and run again, it gives the very weights of a run unstopped."""
    whole, _ = static

    class StopError(Exception):
        pass

    def stop(row: Any) -> None:
        if row["step"] == 25:
            raise StopError

    run = DistillConfig(**{**_fields(whole), "out": tmp_path / "run"})
    with pytest.raises(StopError):
        train(run, on_log=stop)
    steps: list[int] = []
    train(run, on_log=lambda row: steps.append(row["step"]))
    assert min(steps) == 21
    weights = [r.out / "model/0_StaticEmbedding/model.safetensors" for r in (whole, run)]
    weights = [w if w.is_file() else w.parents[1] / "model.safetensors" for w in weights]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def _fields(run: DistillConfig) -> dict[str, Any]:
    return {k: v for k, v in run.to_dict().items() if k != "recipe"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
def test_no_text_is_embedded_twice_by_a_run_that_is_killed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the teacher works, a run goes on with the texts it hadn't come to."""
    from koe5_integrations.training.distillation import teacher as module

    run = config(make_static(tmp_path / "teacher"), data, tmp_path / "run", dim=8)
    monkeypatch.setattr(module, "_SLICE", 20)
    asked: list[int] = []
    embed = module.Teacher.vectors

    def vectors(self: module.Teacher, some: Any, role: Any) -> Any:
        if len(asked) == 4 and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        before = self.encoder.computed
        found = embed(self, some, role)
        asked.append(self.encoder.computed - before)
        return found

    monkeypatch.setattr(module.Teacher, "vectors", vectors)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            RECIPE.prepare(run, RECIPE.load(run))
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    prepared = RECIPE.prepare(run, RECIPE.load(run))
    (task,) = prepared.tasks.values()
    assert asked[:5] == [0, 0, 0, 0, 20]
    tokens = asked[-3]  # of the table's beginning; then come the texts kept to measure on
    assert sum(asked) == len(task.data) + 60 - 80 + tokens
    asked.clear()
    RECIPE.prepare(run, RECIPE.load(run))
    assert sum(asked) == 0


def test_a_teacher_on_a_server_gives_the_same_lessons(
    static: tuple[DistillConfig, Trained], tmp_path: Path
) -> None:
    """Its vectors come over the network; tokenizer and configuration are read here."""
    pytest.importorskip("httpx")
    from embedding_server import Serving, serving

    here, _ = static
    with serving(Serving(Path(here.teacher), reads=32)) as url:
        run = DistillConfig(
            **{**_fields(here), "out": tmp_path, "teacher_base_url": url, "evaluate_on": ()}
        )
        data = [RECIPE.prepare(each, RECIPE.load(each)).tasks["texts"].data for each in (here, run)]
    assert data[0]["text"] == data[1]["text"]
    both = [np.array(each["label"]) for each in data]
    # Each projection has been fitted to its own, and differs in the last digits.
    products = [each[:50] @ each[:50].T for each in both]
    np.testing.assert_allclose(products[0], products[1], atol=1e-4)


def test_a_tokenizer_learnt_from_the_texts_is_kept(
    teacher: Path, data: Path, tmp_path: Path
) -> None:
    """Learnt once, it gives the same tokens to the next session; another size is learnt anew."""
    runs = [config(teacher, data, tmp_path, vocab_size=size) for size in (60, 60, 80)]
    first, again, other = (RECIPE.load(run)[0].tokenizer.to_str() for run in runs)
    assert first == again
    assert first != other
    assert len(json.loads(first)["model"]["vocab"]) <= 60
    tokens = [token["content"] for token in json.loads(first)["added_tokens"]]
    assert tokens[1:] == ["query: ", "passage: "]


def test_the_projection_keeps_inner_products_best() -> None:
    """Of as many dimensions as the vectors have, it changes none; of fewer, as little as can be."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 8)) @ np.diag([9, 5, 3, 1, 0.1, 0.1, 0.1, 0.1]) + 1
    vectors = vectors.astype(np.float32)
    whole = vectors @ fit_projection(vectors, 8)
    np.testing.assert_allclose(whole @ whole.T, vectors @ vectors.T, rtol=1e-3, atol=1e-2)
    some = vectors @ fit_projection(vectors, 4)
    values = np.linalg.svd(vectors, compute_uv=False)
    lost = np.linalg.norm(some @ some.T - vectors @ vectors.T)
    assert lost == pytest.approx(np.sqrt(np.sum(values[4:] ** 4)), rel=0.05)
    assert fit_projection(-vectors, 4) == pytest.approx(fit_projection(vectors, 4), abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data": ()}, "names nothing to train on"),
        ({"layers": 0}, "layers=0 must be at least 1"),
        ({"dim": 0}, "dim=0 must be at least 1"),
        ({"max_texts": 0}, "max_texts=0 must be at least 1"),
        ({"vocab_size": -1}, "vocab_size=-1 must be a number of tokens"),
        ({"dev_size": 1.5}, r"dev_size=1\.5 must be a number of texts"),
        ({"teacher_backend": "gpu"}, "teacher_backend='gpu' must be one of"),
    ],
)
def test_impossible_settings_are_refused(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    """The error names the value."""
    with pytest.raises(ConfigError, match=said):
        DistillConfig(**{"data": "pairs.parquet", "out": tmp_path, **settings})


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"teacher": "no/such"}, UnknownModelError, "no/such"),
        ({"teacher_backend": "remote"}, ConfigError, "needs base_url="),
        ({"data": "nowhere.parquet"}, DatasetError, r"nowhere\.parquet"),
        ({"evaluate_on": "no-such-set"}, DatasetError, "no-such-set"),
        ({"dev_size": 10_000.0}, DatasetError, "leaves none of"),
        ({"vocab_size": 20}, ConfigError, "vocab_size=20 doesn't suit the texts"),
        ({"dim": 33}, ConfigError, "dim=33 is more than the 32 of the teacher"),
        ({"model": "layers", "layers": 5}, ConfigError, "layers=5: .* has 4"),
        ({"model": "layers", "layers": 4, "max_seq_length": 64}, ConfigError, "reads 32 tokens"),
        ({"dim": 16, "matryoshka_dims": (32, 16)}, ConfigError, "must begin with the student's 16"),
        ({"model": "no/such-base"}, ModelLoadError, "no/such-base"),
    ],
)
def test_what_cannot_be_trained_is_said_before_the_teacher_is_asked(
    teacher: Path,
    data: Path,
    tmp_path: Path,
    settings: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    """The error names the value, and no vector was computed."""
    run = config(teacher, data, tmp_path / "run")
    with pytest.raises(error, match=said):
        RECIPE.load(DistillConfig(**{**_fields(run), **settings}))
    assert not (tmp_path / "run/teacher/vectors").exists()


def test_a_static_teacher_has_no_layers_to_give(data: Path, tmp_path: Path) -> None:
    """It is refused as a source of layers, and its own table can't be shortened."""
    table = make_static(tmp_path / "table")
    run = config(table, data, tmp_path / "run", model="layers")
    with pytest.raises(ConfigError, match="is static and has no layers"):
        RECIPE.load(run)
    shorter = DistillConfig(**{**_fields(run), "model": str(table), "dim": 8})
    with pytest.raises(ConfigError, match="have 16 dimensions, which a static base keeps"):
        RECIPE.load(shorter)
