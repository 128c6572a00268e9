"""Tests of reading pairs and triplets."""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from recipe_data import write_jsonl

from koe5_integrations.errors import ConfigError, DatasetError, MissingExtraError

pytest.importorskip("datasets", reason="training data is a datasets.Dataset")

from koe5_integrations.training.data import find_columns, find_files, read_triplets


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"query": f"질문 {number}", "positive": f"답 {number}", **more}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("query", "document", "hard_negative"), ("query", "document", "hard_negative")),
        (("source", "query", "passage", "negative"), ("query", "passage", "negative")),
        (("question", "answer"), ("question", "answer")),
        (("날짜", "질문", "답변"), ("질문", "답변")),
        (
            ("anchor", "positive", "negative_10", "negative_2"),
            ("anchor", "positive", "negative_2", "negative_10"),
        ),
    ],
)
def test_usual_columns_are_found(names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """The hub's ko-triplet, plain pairs and mined negatives need no option."""
    assert tuple(find_columns(names, "t").all) == expected


@pytest.mark.parametrize(
    ("names", "options", "problem"),
    [
        (("q", "passage"), {}, r"t has no column called query or .*'q', 'passage'.*query_column="),
        (("query", "text"), {"positive_column": "txt"}, r"no column 'txt'.*positive_column="),
        (("query", "answer", "passage"), {}, r"'answer' and 'passage'; .*positive_column="),
        (("query", "answer", "neg", "negative_1"), {}, r"'neg' and 'negative_1'.*negative_column="),
    ],
)
def test_columns_that_are_missing_or_unclear_are_named(
    names: tuple[str, ...], options: dict[str, str], problem: str
) -> None:
    """What is there and which option decides stands in the error."""
    with pytest.raises(DatasetError, match=problem):
        find_columns(names, "t", **options)


def test_columns_can_be_named(tmp_path: Path) -> None:
    """Columns of any name give query, positive and negative, and others are left alone."""
    rows = [{"Q": "질문", "A": "답", "X": "오답", "passage": "딴것"}]
    read = read_triplets(
        write_jsonl(tmp_path / "t.jsonl", rows),
        query_column="Q",
        positive_column="A",
        negative_column="X",
    )
    assert read.data.to_list() == [{"query": "질문", "positive": "답", "negative": "오답"}]


def test_most_rows_decide_how_many_negatives_each_has(tmp_path: Path) -> None:
    """Rows with fewer are left out and counted; of more, the first are taken."""
    file = write_jsonl(
        tmp_path / "t.jsonl",
        [
            row(1, negatives=["가", "나"]),
            row(2, negatives=["다", "라", "마"]),
            row(3, negatives=["바", "사"]),
            row(4, negatives=["아", "아"]),
            row(5, negatives=None),
        ],
    )
    read = read_triplets(file)
    assert read.num_negatives == 2
    assert read.data.column_names == ["query", "positive", "negative_1", "negative_2"]
    assert read.data[1] == {**row(2), "negative_1": "다", "negative_2": "라"}
    assert len(read.data) == 3
    assert read.left_out == {"too few negatives": 2}  # a repeated one is one
    assert read_triplets(file, num_negatives=1).left_out == {"too few negatives": 1}
    pairs = read_triplets(file, num_negatives=0)
    assert (pairs.data.column_names, len(pairs.data)) == (["query", "positive"], 5)
    with pytest.raises(DatasetError, match="no row has num_negatives=4 negatives, the most is 3"):
        read_triplets(file, num_negatives=4)


def test_lines_may_have_different_fields(tmp_path: Path) -> None:
    """A line without negatives doesn't hide those of others."""
    rows = [row(1), row(2, negative="오답"), row(3, negative="틀림")]
    read = read_triplets(write_jsonl(tmp_path / "t.jsonl", rows))
    assert read.data["negative"][:] == ["오답", "틀림"]


def test_a_negative_that_is_the_positive_is_none(tmp_path: Path) -> None:
    """The same text is never right and wrong at once."""
    rows = [row(1, negatives=["답 1", "오답"]), row(2, negatives=["오답 2"])]
    read = read_triplets(write_jsonl(tmp_path / "t.jsonl", rows))
    assert read.data["negative"][:] == ["오답", "오답 2"]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"query": "질문", "positive": " \u200b"}, r"t\.jsonl:2: its 'positive' is blank"),
        ({"query": None, "positive": "답"}, r"t\.jsonl:2: its 'query' must be a text, not None"),
        ({"query": "질문", "positive": 3}, r"t\.jsonl:2: its 'positive' must be a text, not 3"),
        (row(2, negatives=["오답", 1]), r"t\.jsonl:2: its 'negatives' must be a text, not 1"),
        ({"query": "질문", "text": "답"}, r"t\.jsonl:2 has no column called positive"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, bad: dict[str, Any], problem: str) -> None:
    """The file, the line and what is wrong stand in the error."""
    with pytest.raises(DatasetError, match=problem):
        read_triplets(write_jsonl(tmp_path / "t.jsonl", [row(1), bad]))


def test_bad_rows_can_be_left_out(tmp_path: Path) -> None:
    """On demand they are counted instead."""
    file = write_jsonl(tmp_path / "t.jsonl", [row(1), {"query": "", "positive": "답"}, row(3)])
    read = read_triplets(file, skip_bad_rows=True)
    assert read.data["query"][:] == ["질문 1", "질문 3"]
    assert read.left_out == {"bad": 1}
    assert read.files[0].rows == 2


def test_texts_of_test_sets_are_left_out(tmp_path: Path) -> None:
    """A row goes if any text of it stands in a test set, whatever its spaces and punctuation."""
    long = "긴 문장은 처음만 비교해도 대개 다르지만, 같으면 끝까지 비교해야 한다. " * 5
    rows = [
        row(1, negative="오답"),
        {"query": "시험 문제 입니까?", "positive": "답", "negative": "오답"},
        {"query": "질문", "positive": long, "negative": "오답"},
        {"query": "질문", "positive": long + "끝.", "negative": "오답"},
        row(4, negative="시험 문제입니까"),
    ]
    read = read_triplets(
        write_jsonl(tmp_path / "t.jsonl", rows), protected=["시험문제입니까?", long.strip() + "!"]
    )
    assert read.data["positive"][:] == ["답 1", long + "끝."]
    assert read.left_out == {"in a test set": 3}


def test_rows_are_drawn_by_the_seed(tmp_path: Path) -> None:
    """The same seed draws the same rows, in their order; another draws others."""
    file = write_jsonl(tmp_path / "t.jsonl", [row(n) for n in range(100)])
    drawn = [read_triplets(file, max_pairs=20, seed=seed).data["query"][:] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == sorted(drawn[0], key=lambda query: int(query.split()[1]))
    read = read_triplets(file, max_pairs=20)
    assert (len(read.data), read.left_out) == (20, {"not drawn": 80})


def test_texts_are_in_nfc(tmp_path: Path) -> None:
    """Decomposed Hangul becomes what the encoder makes of it when it searches."""
    rows = [{"query": unicodedata.normalize("NFD", "질문"), "positive": "답"}]
    assert read_triplets(write_jsonl(tmp_path / "t.jsonl", rows)).data["query"][:] == ["질문"]


def test_files_are_recorded(tmp_path: Path) -> None:
    """Each file of a folder stands in the record with its digest and its rows."""
    one = write_jsonl(tmp_path / "train-1.jsonl", [row(1), row(2)])
    two = write_jsonl(tmp_path / "train-2.jsonl", [row(3)])
    write_jsonl(tmp_path / "test.jsonl", [row(4)])
    read = read_triplets(tmp_path)
    assert read.data["query"][:] == ["질문 1", "질문 2", "질문 3"]
    assert [(file.role, file.path, file.sha256, file.rows) for file in read.files] == [
        ("train", str(file), hashlib.sha256(file.read_bytes()).hexdigest(), rows)
        for file, rows in ((one, 2), (two, 1))
    ]
    assert read_triplets([two, one]).data["query"][:] == ["질문 3", "질문 1", "질문 2"]


def test_a_hub_snapshot_is_read_as_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of the cached commit are read, and named with it."""
    commit = "c1b9af996118e1f612d78a726fc47bf12ebd7d87"
    repo = tmp_path / "hub" / "datasets--nlpai-lab--ko-triplet-v1.0"
    data = repo / "snapshots" / commit / "data"
    data.mkdir(parents=True)
    file = write_jsonl(data / "train-00000-of-00002.jsonl", [row(1)])
    write_jsonl(data / "test-00000-of-00001.jsonl", [row(2)])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (found,) = find_files("nlpai-lab/ko-triplet-v1.0")
    assert found.path == file
    assert found.name == f"nlpai-lab/ko-triplet-v1.0@{commit}:data/{file.name}"


def test_a_hub_data_set_that_cannot_be_had_names_three_ways_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without network and cache there is one error, with a path, a cache or mirror, a copy."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    with pytest.raises(
        DatasetError, match=r"Three ways on: .*data=; .*HF_HOME.*HF_ENDPOINT.*https:"
    ):
        read_triplets("nlpai-lab/ko-triplet-v1.0")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (None, r"there is no training data at '.*t\.jsonl'; name a file"),
        ([], r"t\.jsonl: there are no pairs to train on$"),
        ([{"query": "질문", "positive": "시험"}], r"no pairs.*1 rows are left out: in a test set"),
    ],
)
def test_nothing_to_train_on_is_an_error(
    tmp_path: Path, make: list[dict[str, str]] | None, problem: str
) -> None:
    """A missing, an empty and a wholly protected file each say so."""
    file = tmp_path / "t.jsonl"
    if make is not None:
        write_jsonl(file, make)
    with pytest.raises(DatasetError, match=problem):
        read_triplets(file, protected=["시험"])


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    """A folder without files of any form is no training data."""
    with pytest.raises(DatasetError, match="holds no training data; put files of"):
        find_files(tmp_path)


@pytest.mark.parametrize("options", [{"num_negatives": -1}, {"max_pairs": 0}])
def test_impossible_numbers_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    """Before a file is read, which need not even be there."""
    ((name, value),) = options.items()
    with pytest.raises(ConfigError, match=f"{name}={value} must be"):
        read_triplets(tmp_path / "none.jsonl", **options)


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without datasets the error holds the line that installs it."""
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r'pip install "koe5-integrations\[train\]"'):
        read_triplets(tmp_path / "t.jsonl")
