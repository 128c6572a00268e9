"""BM25 as a system, and the lexical floor it must reproduce."""

from __future__ import annotations

import unicodedata

import pytest

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.datasets import read_autorag, read_beir
from koe5_integrations.evaluation.metrics import mean_over_queries, ndcg
from koe5_integrations.evaluation.systems.bm25 import BM25System

pytest.importorskip("bm25s")

CORPUS = {
    "d1": "문자열은 불변이다",
    "d2": "리스트는 가변이다",
    "d3": "문자열은 불변이다",
    "d4": " ",
}


@pytest.fixture(scope="module")
def read(shared_data):
    pytest.importorskip("pyarrow")
    loaded = {}

    def of(name):
        if name not in loaded:
            loaded[name] = (read_autorag if name == "autorag_ko" else read_beir)(shared_data / name)
        return loaded[name]

    return of


def ndcg_at_10(system, dataset, change=lambda text: text):
    system.index(dataset.corpus)
    queries = {query_id: change(text) for query_id, text in dataset.queries.items()}
    run = system.search(queries, 10)
    ranked = {query_id: [hit.doc_id for hit in hits] for query_id, hits in run.items()}
    return mean_over_queries(ndcg, ranked, dataset.qrels, 10)


@pytest.mark.parametrize(
    ("dataset", "tokenizer", "expected"),
    [
        ("autorag_ko", "whitespace", 0.756),
        ("autorag_ko", "bigram", 0.923),
        ("autorag_ko", "char", 0.650),
        ("autorag_ko", "kiwi", 0.932),
        ("python_faq_ko", "bigram", 0.702),
        ("python_faq_ko", "whitespace", 0.521),
        ("belebele_ko", "bigram", 0.885),
        ("belebele_ko", "whitespace", 0.569),
    ],
)
def test_the_lexical_floor(read, dataset, tokenizer, expected):
    """NDCG@10 is what was measured for each tokenizer, to 0.005."""
    if tokenizer == "kiwi":
        pytest.importorskip("kiwipiepy")
    assert ndcg_at_10(BM25System(tokenizer), read(dataset)) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("tokenizer", "expected"), [("whitespace", 0.0), ("bigram", 0.920)])
def test_queries_without_spaces(read, tokenizer, expected):
    """Without spaces whole words find nothing, and bigrams nearly what they found before."""
    found = ndcg_at_10(BM25System(tokenizer), read("autorag_ko"), lambda t: "".join(t.split()))
    assert found == pytest.approx(expected, abs=0.005)


def test_decomposed_queries(read):
    """Queries in NFD find what those in NFC find."""
    dataset = read("autorag_ko")
    found = ndcg_at_10(BM25System(), dataset, lambda t: unicodedata.normalize("NFD", t))
    assert found == pytest.approx(0.923, abs=0.005)


def test_ties_keep_the_order_of_the_corpus():
    """Documents of equal score come in the order of the corpus, and only those that match."""
    system = BM25System()
    stats = system.index(CORPUS)
    run = system.search({"q": "문자열", "none": "쀍", "blank": ""}, 10)
    assert [hit.doc_id for hit in run["q"]] == ["d1", "d3"]
    assert (list(run["none"]), list(run["blank"])) == ([], [])
    assert stats.bytes
    assert stats.embedded == 0


def test_a_new_index_replaces_the_old():
    """Indexing again forgets the documents before."""
    system = BM25System()
    system.index(CORPUS)
    system.index({"x": "문자열"})
    assert [hit.doc_id for hit in system.search({"q": "문자열"}, 10)["q"]] == ["x"]


def test_facts_name_parameters_and_libraries():
    """A report can say how the scores were made."""
    facts = BM25System("whitespace").facts()
    assert (facts["tokenizer"], facts["k1"], facts["b"]) == ("whitespace", 1.5, 0.75)
    assert "bm25s" in facts["versions"]
    assert BM25System(str.split).spec == "bm25:str.split"


def test_searching_before_indexing():
    """Without an index there is nothing to search."""
    with pytest.raises(ConfigError, match=r"bm25:bigram.*index\(\)"):
        BM25System().search({"q": "문자열"}, 1)


def test_impossible_arguments_are_refused_at_once():
    """A wrong tokenizer is noticed before a corpus is read."""
    with pytest.raises(ConfigError, match="trigram"):
        BM25System("trigram")
