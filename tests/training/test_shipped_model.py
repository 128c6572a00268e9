"""The bundled model is as good as its card says, and small enough for the wheel."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import koe5_integrations
from koe5_integrations.backends.folder import BAG, ModelFolder
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
    """Return the figure the card's table states for a set, in koe5-mini's column."""
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^\| set \| koe5-mini \|.*\n\|[-|]+\n((?:\|.*\n)+)", card, re.MULTILINE)
    assert table, "the card has no table of figures"
    row = re.search(rf"^\| {name} \| (\d+\.\d+) \|", table[1], re.MULTILINE)
    assert row, f"the card's table has no row for {name}"
    return float(row[1])


@pytest.mark.parametrize(("name", "floor"), [("python_faq_ko", 0.62), ("belebele_ko", 0.80)])
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
    assert score >= 0.80


@needs_shared
def test_reaches_the_stated_korsts():
    """Spearman on KorSTS test, without prefix, is what the card says."""
    pairs = korsts_test(SHARED)
    assert pairs is not None
    measured = evaluate_sts(KoE5Encoder(MODEL), pairs)[0].values["cosine_spearman"]
    assert measured == pytest.approx(stated("KorSTS test"), abs=0.06)
    assert measured >= 70


def test_deflated_size_leaves_room_in_the_wheel():
    """The folder deflates to at most 11 MB."""
    files = [file for file in MODEL.rglob("*") if file.is_file()]
    assert sum(len(zlib.compress(file.read_bytes(), 6)) for file in files) <= 11_000_000


def test_holds_what_runs_and_what_tells_where_it_is_from():
    """The folder is the runtime's files, the card, the licence and the record of the training."""
    runtime = {
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "tokenizer.json",
    }
    said = {"LICENSE", "README.md", "training.json"}
    assert {file.name for file in MODEL.iterdir()} == runtime | said
    found = ModelFolder.read(MODEL)
    assert (found.kind, found.modules, found.dim) == ("static", (BAG,), 1024)
    assert found.max_seq_length is None
    weights = load_file(MODEL / "model.safetensors")
    kinds = {name: (array.dtype.name, array.shape[1:]) for name, array in weights.items()}
    assert kinds == {"bits": ("uint8", (128,)), "scales": ("float16", ()), "bigrams": ("int64", ())}


def test_names_the_prefixes():
    """The model's settings hold both prefixes, also under sentence-transformers' own name."""
    config = json.loads((MODEL / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    assert config["prompts"] == {
        "query": "query: ",
        "passage": "passage: ",
        "document": "passage: ",
    }
