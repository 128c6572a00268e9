"""The bundled model is as good, as small and as fast to load as its card says."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

import koe5_integrations
from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.evaluation.datasets import load_dataset
from koe5_integrations.evaluation.sts import evaluate_sts
from koe5_integrations.training.score import score_retrieval
from koe5_integrations.training.testsets import korsts_test, retrieval_sets

MODEL = Path(koe5_integrations.__file__).parent / "models" / "koe5-mini"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not (SHARED / "autorag_ko").is_dir(), reason="the test sets that can't ship are not here"
)


def stated(name):
    """Return the figure the card's table states for a set."""
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| {name} \| (\d+\.\d+) ", card, re.MULTILINE)
    assert row, f"the card has no row for {name}"
    return float(row[1])


@pytest.mark.parametrize(("name", "floor"), [("python_faq_ko", 0.55), ("belebele_ko", 0.70)])
def test_reaches_the_stated_figures_on_the_shipped_sets(name, floor):
    """The shipped sets' nDCG@10 is what the card says, and at least the floor."""
    score = score_retrieval(KoE5Encoder(MODEL), load_dataset(name)).ndcg_at_10
    assert score == pytest.approx(stated(name), abs=0.0006)
    assert score >= floor


@needs_shared
def test_reaches_the_stated_figure_elsewhere():
    """The nDCG@10 of the set that doesn't ship is what the card says, and at least the floor."""
    dataset = next(found for found in retrieval_sets(SHARED) if found.name == "autorag_ko")
    score = score_retrieval(KoE5Encoder(MODEL), dataset).ndcg_at_10
    assert score == pytest.approx(stated("autorag_ko"), abs=0.0006)
    assert score >= 0.74


@needs_shared
def test_reaches_the_stated_korsts():
    """Spearman on KorSTS test, without prefix, is what the card says."""
    pairs = korsts_test(SHARED)
    assert pairs is not None
    measured = evaluate_sts(KoE5Encoder(MODEL), pairs)[0].values["cosine_spearman"]
    assert measured == pytest.approx(stated("KorSTS test"), abs=0.06)


def test_deflated_size_leaves_room_in_the_wheel():
    """The folder deflates to at most 18.5 MB."""
    files = [file for file in MODEL.rglob("*") if file.is_file()]
    assert sum(len(zlib.compress(file.read_bytes(), 6)) for file in files) <= 18_500_000


def test_sentence_transformers_gives_the_same_vectors():
    """SentenceTransformer loads the folder and embeds prefixed text as our encoder does."""
    pytest.importorskip("torch", reason="sentence-transformers needs torch")
    models = pytest.importorskip("sentence_transformers", reason="the model's other loader")
    theirs = models.SentenceTransformer(str(MODEL), device="cpu")
    dataset = load_dataset("python_faq_ko")
    questions, answers = list(dataset.queries.values()), list(dataset.corpus.values())
    ours = KoE5Encoder(MODEL)
    # The table is float16, in which torch also sums.
    np.testing.assert_allclose(
        theirs.encode([f"query: {text}" for text in questions]),
        ours.encode_queries(questions),
        atol=2e-3,
    )
    np.testing.assert_allclose(
        theirs.encode_document(answers), ours.encode_passages(answers), atol=2e-3
    )


def test_names_the_prefixes():
    """The model's settings hold both prefixes, also under sentence-transformers' own name."""
    config = json.loads((MODEL / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    assert config["prompts"] == {
        "query": "query: ",
        "passage": "passage: ",
        "document": "passage: ",
    }
