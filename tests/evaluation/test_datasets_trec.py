"""Tests of TREC qrels and runs."""

import math

import pytest

from koe5_integrations.evaluation.datasets import (
    DatasetError,
    read_trec,
    read_trec_qrels,
    read_trec_run,
)
from koe5_integrations.evaluation.results import Hit
from koe5_integrations.evaluation.significance import score

CORPUS = '{"_id": "문서 1", "text": "하나"}\n{"_id": "d2", "text": "둘"}\n'
QRELS = "q%201 0 %EB%AC%B8%EC%84%9C%201 1\nq%201 0 d2 -1\n"
RUN = "q%201 Q0 d2 1 0.9 koe5\nq%201 Q0 %EB%AC%B8%EC%84%9C%201 2 0.4 koe5\n"


def save(folder, name, content):
    file = folder / name
    file.write_text(content, encoding="utf-8")
    return file


def test_qrels_and_run_are_read_and_scored(tmp_path):
    """Percent-encoded ids come back, and the run is scored against the qrels."""
    qrels = read_trec_qrels(save(tmp_path, "qrels.trec", QRELS))
    run = read_trec_run(save(tmp_path, "run.trec", RUN))
    assert qrels == {"q 1": {"문서 1": 1, "d2": -1}}
    assert run == {"q 1": [Hit("d2", 0.9), Hit("문서 1", 0.4)]}
    assert score(qrels, run, ["mrr@10"], samples=10)["mrr@10"].value == 0.5


def test_ids_are_taken_as_they_stand_if_asked(tmp_path):
    """Another tool's % is no code."""
    qrels = read_trec_qrels(save(tmp_path, "qrels.trec", QRELS), decode=False)
    assert set(qrels) == {"q%201"}


def test_a_run_is_ordered_by_score_then_rank(tmp_path):
    """The order of the lines doesn't count; equal scores keep the order of the ranks."""
    lines = ["q Q0 c 3 0.5 t", "q Q0 a 1 0.5 t", "q Q0 z 9 0.8 t", "q Q0 b 2 0.5 t"]
    run = read_trec_run(save(tmp_path, "run.trec", "\n".join(lines)))
    assert [hit.doc_id for hit in run["q"]] == ["z", "a", "b", "c"]


def test_infinite_scores_are_in_order(tmp_path):
    """A score of minus infinity comes last."""
    run = read_trec_run(save(tmp_path, "run.trec", "q Q0 a 1 -inf t\nq Q0 b 2 0 t\n"))
    assert run["q"] == [Hit("b", 0), Hit("a", -math.inf)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q Q0 d2 1 0.9\n", r"run\.trec, line 1: expected query id, Q0"),
        ("q Q0 d2 1 0.9 t\nq Q0 문서 1 2 0.4 t\n", r"line 2: expected .*written as %20"),
        ("q Q0 d2 1 high t\n", "line 1: expected"),
        ("q Q0 d2 1 nan t\n", "line 1: expected"),
        ("\n", "run.trec is empty"),
    ],
)
def test_a_bad_run_is_named_with_its_line(tmp_path, content, message):
    """A missing field, a space in an id, or no number for a score raises."""
    with pytest.raises(DatasetError, match=message):
        read_trec_run(save(tmp_path, "run.trec", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q 0 d2\n", r"qrels\.txt, line 1: expected query id, 0, document id"),
        ("q 0 d2 x\n", "line 1: expected"),
        ("q 0 d2 1\nq 0 d2 2\n", "line 2: .* judged 1 before and are judged 2 here"),
        ("q 0 d2 0\n", "calls nothing relevant"),
        ("", "judges nothing"),
    ],
)
def test_bad_qrels_are_named_with_their_line(tmp_path, content, message):
    """A missing field, a contradiction, or nothing relevant raises."""
    with pytest.raises(DatasetError, match=message):
        read_trec_qrels(save(tmp_path, "qrels.txt", content))


def test_a_folder_with_trec_qrels_is_a_data_set(tmp_path):
    """Corpus as JSON Lines, questions as tab-separated values, qrels of four columns."""
    save(tmp_path, "corpus.jsonl", CORPUS)
    save(tmp_path, "queries.tsv", "q 1\t무엇인가?\n")
    save(tmp_path, "qrels.trec", QRELS)
    dataset = read_trec(tmp_path)
    assert dataset.queries == {"q 1": "무엇인가?"}
    assert dataset.qrels == {"q 1": {"문서 1": 1, "d2": -1}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("queries.tsv", "q 1 무엇인가?\n", r"queries\.tsv, line 1: expected query id, a tab"),
        ("queries.tsv", "q 1\t가\nq 1\t나\n", "line 2: the id 'q 1' is repeated"),
        ("queries.tsv", "q 1\t \n", "line 1: the text of 'q 1' is blank"),
        ("qrels.trec", "q9 0 d2 1\n", "line 1: unknown query 'q9'"),
        ("qrels.trec", "q%201 0 d9 1\n", "line 1: unknown document 'd9'"),
    ],
)
def test_a_bad_file_of_a_folder_is_named(tmp_path, name, content, message):
    """Each file's first bad line raises."""
    save(tmp_path, "corpus.jsonl", CORPUS)
    save(tmp_path, "queries.tsv", "q 1\t무엇인가?\n")
    save(tmp_path, "qrels.trec", QRELS)
    save(tmp_path, name, content)
    with pytest.raises(DatasetError, match=message):
        read_trec(tmp_path)


def test_missing_files_of_a_folder_are_listed(tmp_path):
    """A folder without questions says what it needs."""
    save(tmp_path, "qrels.trec", QRELS)
    with pytest.raises(DatasetError, match=r"needs qrels\.trec .*corpus\.jsonl"):
        read_trec(tmp_path)
