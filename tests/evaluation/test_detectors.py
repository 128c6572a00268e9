"""Sanity checks, each against a fault made for it."""

from __future__ import annotations

from typing import Any

import pytest

from koe5_integrations.evaluation.datasets import RetrievalDataset
from koe5_integrations.evaluation.detectors import (
    check_depths,
    check_ids,
    check_labels,
    check_order,
    check_run,
)
from koe5_integrations.evaluation.results import Hit
from koe5_integrations.evaluation.systems.bm25 import BM25System

pytest.importorskip("bm25s")

WORDS = [a + b for a in "가나다라마바사" for b in "자차카타파하거"]
CORPUS = {f"d{i}": " ".join(WORDS[i : i + 3]) for i in range(40)}
QUERIES = {f"q{i}": " ".join(WORDS[i : i + 3]) for i in range(40)}
QRELS = {f"q{i}": {f"d{i}": 1} for i in range(40)}
DATASET = RetrievalDataset("made", CORPUS, QUERIES, QRELS)


def hits(*ids: str, scores: Any = None) -> list[Hit]:
    return [
        Hit(doc_id, score) for doc_id, score in zip(ids, scores or [None] * len(ids), strict=True)
    ]


class WorstFirst(BM25System):
    """Finds the right documents and returns the worst of them first, as AutoRAG once did."""

    def search(self, queries, top_k):
        return {q: found[::-1] for q, found in super().search(queries, top_k).items()}


def test_a_sound_system_has_no_findings():
    """Nothing is said of a system that is right."""
    system = BM25System()
    system.index(CORPUS)
    assert check_run(system, system.search(QUERIES, 10), DATASET) == []


def test_a_worst_first_system_is_detected():
    """Returning the worst first is found by the ranks, by depth 1 against 3, and by MRR."""
    system = WorstFirst()
    system.index(CORPUS)
    found = check_run(system, system.search(QUERIES, 3), DATASET)
    assert len(found) == 3
    order, top, mrr = found
    assert "upside down" in order
    assert "40 queries" in order
    assert "another document is first when more are asked for in 40 queries" in top
    assert "query 'q0': 'd0' of one" in top
    assert "MRR falls with the depth in 40 queries" in mrr


def test_worst_first_without_scores_is_detected():
    """The relevant documents' places are enough where there are no scores."""
    run = {f"q{i}": hits("x", "y", f"d{i}") for i in range(20)}
    (sentence,) = check_order(run, QRELS)
    assert "20 queries have a relevant document nearer the top" in sentence


def test_a_bad_ranking_is_not_called_upside_down():
    """A few relevant documents at the bottom prove nothing."""
    run = {f"q{i}": hits("x", "y", f"d{i}") if i < 4 else hits("x", "y") for i in range(20)}
    assert check_order(run, QRELS) == []


def test_rising_scores_are_questioned():
    """Scores that rise with the rank are named while nothing shows that the order is right."""
    run = {f"q{i}": hits("x", "y", "z", scores=[0.1, 0.2, 0.9]) for i in range(9)}
    (sentence,) = check_order(run, QRELS)
    assert "scores rise with the rank in 9 queries (query 'q0' first)" in sentence
    assert "distances" in sentence


def test_distances_in_the_right_order_are_not():
    """Distances rise too, and are right where the relevant documents come first."""
    run = {f"q{i}": hits(f"d{i}", "y", "z", scores=[0.1, 0.2, 0.9]) for i in range(20)}
    assert check_order(run, QRELS) == []


@pytest.mark.parametrize("scores", [[1.0, 1.0, 1.0], [None, None, None], [3.0, 2.0, 1.0]])
def test_equal_missing_and_falling_scores_are_not_rising(scores):
    """Scores that are all alike, missing, or fall say nothing against the order."""
    run = {f"q{i}": hits("x", "y", "z", scores=scores) for i in range(9)}
    assert check_order(run, QRELS) == []


def test_ids_repeated_unknown_and_empty():
    """Each kind of broken id has its sentence, with a query and a remedy."""
    run = {
        "fine": hits("d1", "d2"),
        "twice": hits("d1", "d1"),
        "nameless": hits("", "d1"),
        "chunked": hits("d1#3", "d2"),
        "nothing": [],
    }
    nameless, twice, unknown, empty = check_ids(run, CORPUS)
    assert nameless.startswith("1 query answered with a document that has no id (query 'nameless')")
    assert "the same document twice (query 'twice')" in twice
    assert "query 'chunked' with 'd1#3'" in unknown
    assert "'d1#3' looks like a chunk of 'd1'" in unknown
    assert "doc_id" in unknown
    assert "answered by nothing (query 'nothing')" in empty
    assert check_ids({"fine": run["fine"]}, CORPUS) == []


def test_unknown_ids_that_are_no_chunks():
    """Ids of another corpus are named without guessing."""
    (sentence,) = check_ids({"q": hits("d1234x")}, CORPUS)
    assert "looks like" not in sentence


def test_labels_that_no_longer_exist():
    """Judged documents that re-chunking renamed are named with a query and the remedy."""
    corpus = [f"{doc_id}-{part}" for doc_id in CORPUS for part in (0, 1)]
    (sentence,) = check_labels(QRELS, corpus)
    assert sentence.startswith("40 queries judged by documents that the corpus does not hold")
    assert "query 'q0' by 'd0'" in sentence
    assert "judge them anew" in sentence
    assert check_labels(QRELS, CORPUS) == []


def test_judgements_of_irrelevance_do_not_drift():
    """A document judged irrelevant may be gone."""
    assert check_labels({"q": {"gone": 0, "d1": 1}}, CORPUS) == []


def test_a_run_without_a_single_right_answer():
    """Not one relevant document anywhere is a fault of ids or order, not of quality."""
    run = {query_id: hits("d39") for query_id in list(QUERIES)[:30]}
    (sentence,) = check_labels(QRELS, CORPUS, run)
    assert "not one relevant document" in sentence
    assert "query 'q0': 'd39' first, ['d0'] expected" in sentence
    assert check_labels(QRELS, CORPUS, {"q0": hits("d1", "d0")}) == []
    assert check_labels(QRELS, CORPUS, {}) == []


def test_depths_that_agree():
    """The same first document is no finding, nor is a change between equal scores."""
    shallow = {"a": hits("x"), "b": hits("x", scores=[0.5]), "c": []}
    deep = {"a": hits("x", "y"), "b": hits("y", "x", scores=[0.5, 0.5]), "c": []}
    assert check_depths(shallow, deep, {}) == []


def test_depths_that_differ_without_harm_to_mrr():
    """Another first document is a finding also where no relevant one is lost."""
    (sentence,) = check_depths({"a": hits("x")}, {"a": hits("y", "x")}, {"a": {"z": 1}})
    assert "in 1 query (query 'a': 'x' of one, 'y' of more)" in sentence


def test_an_answer_that_vanishes():
    """A document found at depth 1 and nothing at depth 3 is a finding."""
    found = check_depths({"a": hits("x")}, {"a": []}, {"a": {"x": 1}})
    assert "'x' of one, nothing of more" in found[0]
    assert "MRR falls" in found[1]


def test_a_systems_own_warnings_come_first():
    """What a system says of itself is part of the findings."""
    system = BM25System()
    system.index(CORPUS)
    system.warnings = ["said"]
    assert check_run(system, system.search(QUERIES, 3), DATASET) == ["said"]


def test_a_retriever_of_fixed_depth_is_not_asked_again():
    """Asking for fewer documents would only cut the same answer, at the price of a query."""
    system = BM25System()
    system.index(CORPUS)
    run = system.search(QUERIES, 3)
    system.fixed_depth = True
    system.search = None
    assert check_run(system, run, DATASET) == []
