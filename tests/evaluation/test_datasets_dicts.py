"""Tests of data sets made of plain dicts, and of the hash of their content."""

import pickle

import numpy as np
import pytest

from koe5_integrations.evaluation.datasets import DatasetError, RetrievalDataset
from koe5_integrations.evaluation.metrics import GroupedRelevance

CORPUS = {"d1": "본문", "d2": "다른 글"}
QUERIES = {"q1": "무엇인가?", "q2": "누구인가?"}
QRELS = {"q1": {"d1": 2, "d2": 0}}


def make(**changed):
    parts = {"corpus": CORPUS, "queries": QUERIES, "qrels": QRELS, **changed}
    return RetrievalDataset.from_dicts(**parts)


def test_dicts_make_a_data_set():
    """Ids, texts and judgements are taken as they are, copied, and named."""
    corpus = dict(CORPUS)
    dataset = make(corpus=corpus, qrels={"q1": {"d1": np.int64(2), "d2": 0}}, name="사내 문서")
    corpus.clear()
    assert (dataset.name, dataset.corpus, dataset.queries) == ("사내 문서", CORPUS, QUERIES)
    assert dataset.qrels == QRELS
    assert type(dataset.qrels["q1"]["d1"]) is int


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("corpus", ["본문"], "corpus must be a dict of text by id, not list: write corpus={'id'"),
        ("corpus", {}, "corpus is empty"),
        ("queries", {}, "queries is empty"),
        ("corpus", {1: "본문"}, r"corpus has the id 1 \(int\), and ids are strings: write '1'"),
        ("corpus", {"": "본문"}, "corpus has the blank id ''"),
        ("corpus", {"d1": None}, r"corpus\['d1'\] must be a text, not NoneType: None"),
        ("queries", {"q1": "  "}, r"queries\['q1'\] is blank; remove it"),
        ("queries", {"q1": "a\ud800"}, r"queries\['q1'\] holds a lone surrogate at character 1"),
        (
            "corpus",
            {"\ud55c": "a", "\u1112\u1161\u11ab": "b"},
            r"which look the same .*make ids distinct",
        ),
        ("corpus", {"d1": "a", "d1 ": "b"}, "'d1' and 'd1 ', which look the same"),
        ("qrels", [("q1", "d1")], "qrels must be a dict, not list: write qrels={'query id'"),
        ("qrels", {}, "qrels judges nothing"),
        ("qrels", {"q9": {"d1": 1}}, r"qrels\['q9'\]: queries has no 'q9'; add the query"),
        ("qrels", {"q1": ["d1"]}, r"qrels\['q1'\] must be a dict of relevance by document id"),
        ("qrels", {"q1": {"d9": 1}}, r"qrels\['q1'\]: corpus has no 'd9'; add the document"),
        ("qrels", {"q1": {"d1": 0.5}}, r"qrels\['q1'\]\['d1'\] must be a whole number, not 0.5"),
        ("qrels", {"q1": {"d1": True}}, "must be a whole number, not True"),
        ("qrels", {"q1": {"d1": 0}}, "qrels calls nothing relevant"),
        ("qrels", {"q1": {}}, "qrels calls nothing relevant"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(part, value, message):
    """A wrong type, a blank, an unknown id or a useless judgement is named by where it stands."""
    with pytest.raises(DatasetError, match=message):
        make(**{part: value})


def test_the_hash_is_of_the_content_in_any_order():
    """Name, source and order don't count; a text, an id or a judgement does."""
    digest = make().sha256
    assert len(digest) == 64
    turned = {key: QUERIES[key] for key in reversed(QUERIES)}
    assert make(queries=turned, name="other", licence="MIT").sha256 == digest
    changed = [
        {"corpus": {**CORPUS, "d2": "다른 글."}},
        {"corpus": {**CORPUS, "d3": "셋"}},
        {"queries": {**QUERIES, "q2": "언제인가?"}},
        {"qrels": {"q1": {"d1": 1, "d2": 0}}},
        {"qrels": {"q2": {"d1": 2, "d2": 0}}},
    ]
    assert len({digest, *(make(**parts).sha256 for parts in changed)}) == 6


def test_alternatives_count_in_the_hash():
    """(d1 or d2) is another question than d1 and d2."""
    either = make(qrels={"q1": GroupedRelevance([["d1", "d2"]])})
    both = make(qrels={"q1": GroupedRelevance([["d1"], ["d2"]])})
    assert either.qrels == both.qrels
    assert either.sha256 != both.sha256 == make(qrels={"q1": {"d1": 1, "d2": 1}}).sha256
    assert pickle.loads(pickle.dumps(either)).sha256 == either.sha256
