"""Dense search as a system: exactly, and through Chroma."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_models import KOREAN

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError, MissingExtraError
from koe5_integrations.evaluation.datasets import DatasetError
from koe5_integrations.evaluation.systems.chroma import ChromaSystem
from koe5_integrations.evaluation.systems.dense import DenseSystem

CORPUS = {f"문서 {i}/{j}": text[j:] for j in range(12) for i, text in enumerate(KOREAN[:5])}
QUERIES = {f"q{i}": text[3:-3] for i, text in enumerate(KOREAN[:5])}


@pytest.fixture
def encoder(static_model):
    return KoE5Encoder(static_model)


@pytest.fixture(params=[DenseSystem, ChromaSystem])
def kind(request):
    if request.param is ChromaSystem:
        pytest.importorskip("chromadb")
    return request.param


def test_ranks_by_cosine(kind, encoder):
    """The answer is that of comparing all vectors, scores included."""
    system = kind(encoder)
    stats = system.index(CORPUS)
    run = system.search(QUERIES, 7)
    ids = list(CORPUS)
    products = encoder.encode_queries(QUERIES.values()) @ encoder.encode_passages(CORPUS.values()).T
    for query_id, row in zip(QUERIES, products, strict=True):
        best = np.argsort(-row, kind="stable")[:7]
        assert [hit.doc_id for hit in run[query_id]] == [ids[i] for i in best]
        assert [hit.score for hit in run[query_id]] == pytest.approx(row[best], abs=1e-5)
    assert stats.embedded == len(CORPUS)
    assert stats.bytes >= len(CORPUS) * encoder.dim * 4


def test_equal_documents_keep_their_order(kind, encoder):
    """Documents of equal text come in the order of the corpus, whatever their ids."""
    system = kind(encoder)
    system.index({"z": KOREAN[0], "a": KOREAN[0], "m": KOREAN[0]})
    assert [hit.doc_id for hit in system.search({"q": KOREAN[0]}, 3)["q"]] == ["z", "a", "m"]


def test_fewer_documents_than_asked_for(kind, encoder):
    """A small corpus is returned whole, an empty one as nothing."""
    system = kind(encoder)
    system.index({"a": KOREAN[0]})
    assert len(system.search({"q": KOREAN[1]}, 10)["q"]) == 1
    system.index({})
    assert list(system.search({"q": KOREAN[1]}, 10)["q"]) == []
    assert dict(system.search({}, 10)) == {}


def test_blank_texts_are_left_out_and_said(kind, encoder):
    """A blank document is never found, a blank query answered by nothing, and both are named."""
    system = kind(encoder)
    system.index({"empty": "", "blank": " \u3164", "full": KOREAN[0]})
    run = system.search({"nothing": " ", "something": KOREAN[1]}, 5)
    assert [hit.doc_id for hit in run["something"]] == ["full"]
    assert list(run["nothing"]) == []
    documents, queries = system.warnings
    assert documents.startswith("2 documents")
    assert "'empty', 'blank'" in documents
    assert queries.startswith("1 query with nothing")
    assert "'nothing'" in queries


@pytest.mark.parametrize(("text", "problem"), [("\ud800", "surrogate"), (7, "must be a str")])
def test_texts_that_are_none_are_named_by_id(kind, encoder, text, problem):
    """A text that can't be embedded is named by its id, before anything is embedded."""
    system = kind(encoder)
    with pytest.raises(DatasetError, match=f"document 'bad'.*{problem}"):
        system.index({"good": KOREAN[0], "bad": text})
    system.index({"good": KOREAN[0]})
    with pytest.raises(DatasetError, match=f"query 'bad'.*{problem}"):
        system.search({"bad": text}, 1)


def test_what_is_cut_is_said(kind, static_model):
    """Documents longer than the model reads are counted in a warning."""
    system = kind(KoE5Encoder(static_model, max_seq_length=8, on_truncation="ignore"))
    system.index({"a": KOREAN[0] * 5, "b": KOREAN[1] * 5})
    (sentence,) = system.warnings
    assert sentence.startswith("2 of the 2 documents")
    assert "8 tokens" in sentence


def test_a_second_run_takes_vectors_from_the_cache(kind, encoder, tmp_path):
    """With a cache a new system embeds nothing anew, and gives the same run."""
    first = kind(encoder, cache=tmp_path)
    first.index(CORPUS)
    run = first.search(QUERIES, 5)
    assert not first.used_cache
    second = kind(encoder, cache=tmp_path)
    assert second.index(CORPUS).embedded == 0
    assert not second.used_cache
    assert second.search(QUERIES, 5) == run
    assert second.used_cache


def test_one_query_alone_is_not_taken_from_the_cache(encoder, tmp_path):
    """Timing a single query times its embedding too."""
    system = DenseSystem(encoder, cache=tmp_path)
    system.index(CORPUS)
    for _ in range(2):
        system.search({"q0": QUERIES["q0"]}, 5)
    assert not system.used_cache


def test_an_encoders_own_cache_is_noticed_too(encoder):
    """Queries answered by the encoder's own cache are not timed either; one alone is embedded."""
    system = DenseSystem(encoder.with_cache(embedding_cache_size=100))
    system.index(CORPUS)
    run = system.search(QUERIES, 5)
    assert not system.used_cache
    assert system.search(QUERIES, 5) == run
    assert system.used_cache


def test_facts_reproduce_the_vectors(kind, encoder):
    """The facts are JSON and hold the model and its fingerprint."""
    system = kind(encoder)
    system.index({"a": KOREAN[0]})
    facts = json.loads(json.dumps(system.facts()))
    assert facts["fingerprint"] == encoder.fingerprint.digest
    assert facts["fingerprint_fields"]["query_prompt"] == "query: "
    assert facts["dim"] == encoder.dim
    assert system.spec == f"{facts['kind']}:{encoder.model}"


def test_searching_before_indexing(kind, encoder):
    """Without an index there is nothing to search, and no documents can't be asked for."""
    system = kind(encoder)
    with pytest.raises(ConfigError, match=r"index\(\)"):
        system.search(QUERIES, 1)
    system.index({"a": KOREAN[0]})
    with pytest.raises(ConfigError, match="top_k=0"):
        system.search(QUERIES, 0)


def test_chroma_leaves_nothing_behind(encoder, tmp_path, monkeypatch):
    """The collection's folder goes with the system."""
    pytest.importorskip("chromadb")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    system = ChromaSystem(encoder)
    system.index({"a": KOREAN[0]})
    system.index({"b": KOREAN[0]})
    assert len(list(Path(tmp_path).iterdir())) == 1
    assert system.facts()["hnsw"]["space"] == "cosine"
    del system
    gc.collect()
    assert list(Path(tmp_path).iterdir()) == []


def test_chroma_missing_names_the_extra(encoder, monkeypatch):
    """Without chromadb the error says which extra brings it, before anything is embedded."""
    import sys

    monkeypatch.delitem(sys.modules, "koe5_integrations.chroma", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "chromadb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "chromadb", None)
    with pytest.raises(MissingExtraError, match=r"\[chroma\]"):
        ChromaSystem(encoder)
