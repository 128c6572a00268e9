"""Systems by their names."""

from __future__ import annotations

import shutil
import sys

import pytest

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError, UnknownModelError
from koe5_integrations.evaluation.systems.bm25 import BM25System
from koe5_integrations.evaluation.systems.chroma import ChromaSystem
from koe5_integrations.evaluation.systems.dense import DenseSystem
from koe5_integrations.evaluation.systems.hybrid import HybridSystem
from koe5_integrations.evaluation.systems.retrievers import RetrieverSystem
from koe5_integrations.evaluation.systems.specs import as_system, parse_spec

pytest.importorskip("bm25s")

RETRIEVER = """
from langchain_core.retrievers import BaseRetriever
from langchain_core.documents import Document
import neighbour

class Mine(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager):
        return [Document(id="d1", page_content=query)]

class group:
    retriever = Mine()

def make(corpus):
    return Mine()

number = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current directory with a user's module in it."""
    pytest.importorskip("langchain_core")
    (tmp_path / "my_search.py").write_text(RETRIEVER)
    (tmp_path / "neighbour.py").write_text("")
    (tmp_path / "broken.py").write_text("raise RuntimeError('no key')")
    (tmp_path / "needy.py").write_text("import not_installed_anywhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("my_search", "neighbour", "broken", "needy"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("tokenizer", ["bigram", "whitespace", "char", "kiwi"])
def test_bm25(tokenizer):
    """Each tokenizer has its name."""
    if tokenizer == "kiwi":
        pytest.importorskip("kiwipiepy")
    system = parse_spec(f"bm25:{tokenizer}")
    assert isinstance(system, BM25System)
    assert system.spec == f"bm25:{tokenizer}"
    assert system.facts()["tokenizer"] == tokenizer


def test_dense_and_chroma_take_the_encoders_options(static_model, tmp_path):
    """Options go to the encoder, and the cache to the system."""
    pytest.importorskip("chromadb")
    for kind, expected in (("dense", DenseSystem), ("chroma", ChromaSystem)):
        system = parse_spec(f"{kind}:{static_model}", cache_dir=tmp_path / "c", query_prompt="Q ")
        assert isinstance(system, expected)
        assert system.spec == f"{kind}:{static_model}"
        assert system.encoder.config()["query_prompt"] == "Q "
        assert system.encoder.config()["on_truncation"] == "ignore"
        system.index({"a": "문서", "b": "글"})
        assert len(list((tmp_path / "c").glob("*.sqlite3"))) == 1


def test_hybrid_of_any(static_model, tmp_path):
    """A plus joins systems, but one inside a folder's name does not."""
    folder = shutil.copytree(static_model, tmp_path / "a+b")
    spec = f"hybrid:bm25:bigram+dense:{folder} + bm25:char"
    system = parse_spec(spec)
    assert isinstance(system, HybridSystem)
    assert system.spec == spec
    assert [part.spec for part in system.systems] == ["bm25:bigram", f"dense:{folder}", "bm25:char"]


@pytest.mark.parametrize("attribute", ["group.retriever", "make"])
def test_a_users_retriever(here, attribute):
    """A retriever, or a function that makes one, is loaded from the current directory."""
    system = parse_spec(f"python:my_search:{attribute}", doc_id="page", concurrency=2)
    assert isinstance(system, RetrieverSystem)
    assert system.spec == f"python:my_search:{attribute}"
    facts = system.facts()
    assert (facts["doc_id"], facts["concurrency"]) == ("page", 2)
    system = parse_spec(f"python:my_search:{attribute}")
    system.index({"d1": "글"})
    assert system.search({"q": "?"}, 1)["q"][0].doc_id == "d1"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("python:my_search", "python:module:attribute"),
        ("python::make", "python:module:attribute"),
        ("python:no_such_module:x", "there is no module 'no_such_module'"),
        ("python:needy:x", "needs the module 'not_installed_anywhere'"),
        ("python:broken:x", "RuntimeError: no key"),
        ("python:my_search:maker", "no attribute 'maker'; it has .*make"),
        ("python:my_search:number", r"builtins\.int is no retriever"),
    ],
)
def test_what_is_wrong_with_a_users_module(here, spec, said):
    """Each way to miss a retriever has its own message."""
    with pytest.raises(ConfigError, match=said):
        parse_spec(spec)


@pytest.mark.parametrize(
    "spec", ["", "bm25", "bm25:", "bm25:trigram", "sparse:x", "dense:", "bigram", "hybrid:"]
)
def test_other_forms_are_answered_with_the_list(spec):
    """What is no spec is answered with the forms there are."""
    with pytest.raises(ConfigError) as caught:
        parse_spec(spec)
    for form in ("bm25:bigram|whitespace|char|kiwi", "dense:MODEL", "hybrid:SPEC+SPEC"):
        assert form in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("hybrid:bm25:bigram", "two systems or more"),
        ("hybrid:hybrid:bm25:bigram+bm25:char", "none of them a hybrid"),
        ("hybrid:bm25:bigram+dense:", "'dense:' is not"),
        ("hybrid:bm25:bigram+sparse:x", "each is one of"),
        ("hybrid:bm25:bigram+bm25:x", "no tokenizer 'x'"),
    ],
)
def test_impossible_hybrids(spec, said):
    """A hybrid of one, of hybrids, or of what is no system is refused."""
    with pytest.raises(ConfigError, match=said):
        parse_spec(spec)


def test_unknown_models_and_options():
    """A model or option that does not exist is refused before anything is loaded."""
    with pytest.raises(UnknownModelError):
        parse_spec("dense:nobody/nothing")
    with pytest.raises(ConfigError, match="no such folder"):
        parse_spec("dense:./nowhere")
    with pytest.raises(ConfigError, match="colour= is no option"):
        parse_spec("dense:koe5-mini", colour="red")
    with pytest.raises(ConfigError, match="must be a string"):
        parse_spec(7)


def test_as_system_takes_what_is_meant(static_model, tmp_path):
    """Specs, encoders, functions and systems become systems; a system stays itself."""
    system = as_system("bm25:bigram")
    assert isinstance(system, BM25System)
    assert as_system(system) is system
    dense = as_system(KoE5Encoder(static_model), cache_dir=tmp_path)
    assert isinstance(dense, DenseSystem)
    assert dense.index({"a": "글", "b": "책"}).embedded == 2
    assert list(tmp_path.glob("*.sqlite3"))
    assert isinstance(as_system(lambda corpus: None, concurrency=2), RetrieverSystem)
    with pytest.raises(ConfigError, match="no retriever"):
        as_system(3)
