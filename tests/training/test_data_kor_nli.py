"""Tests of making triplets of KorNLI."""

from __future__ import annotations

from pathlib import Path

import pytest

from koe5_integrations.errors import DatasetError

pytest.importorskip("datasets", reason="training data is a datasets.Dataset")

from koe5_integrations.training.data import read_kor_nli

HEADER = "sentence1\tsentence2\tgold_label\n"


def write(file: Path, *lines: str) -> Path:
    file.write_text(HEADER + "".join(line + "\n" for line in lines), encoding="utf-8")
    return file


def test_both_directions_give_triplets(tmp_path: Path) -> None:
    """A sentence with an entailment and a contradiction gives two triplets, others none."""
    file = write(
        tmp_path / "a.train.ko.tsv",
        '그가 "왔다"고 했다.\t그는 왔다.\tentailment',
        '그가 "왔다"고 했다.\t그는 안 왔다.\tcontradiction',
        '그가 "왔다"고 했다.\t그는 바빴다.\tneutral',
        "그는 갔다.\t그는 떠났다.\tentailment",
    )
    read = read_kor_nli([file])
    assert read.data.to_list() == [
        {"query": '그가 "왔다"고 했다.', "positive": "그는 왔다.", "negative": "그는 안 왔다."},
        {"query": "그는 왔다.", "positive": '그가 "왔다"고 했다.', "negative": "그는 안 왔다."},
    ]
    assert (read.files[0].rows, read.files[0].path) == (2, str(file))


def test_a_sentence_is_also_taken_from_the_second_column(tmp_path: Path) -> None:
    """What entails a sentence counts as entailed by it, as in the seed."""
    file = write(tmp_path / "a.tsv", "가\t나\tentailment", "다\t나\tcontradiction")
    rows = read_kor_nli([file]).data.to_list()
    assert {"query": "나", "positive": "가", "negative": "다"} in rows


def test_the_seed_decides_the_draws(tmp_path: Path) -> None:
    """The same seed gives the same triplets, another gives others."""
    lines = [
        f"문장 {n // 9}\t다른 {n}\t{'entailment' if n % 2 else 'contradiction'}" for n in range(200)
    ]
    file = write(tmp_path / "a.tsv", *lines)
    rows = [read_kor_nli([file], seed=seed).data.to_list() for seed in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]


def test_files_do_not_mix(tmp_path: Path) -> None:
    """As in the seed, triplets are made within each file."""
    one = write(tmp_path / "a.tsv", "가\t나\tentailment", "가\t다\tcontradiction")
    two = write(tmp_path / "b.tsv", "가\t라\tentailment")
    assert [file.rows for file in read_kor_nli([one, two]).files] == [2, 0]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("가\t나", r"a\.tsv:3: expected two sentences and one of entailment"),
        ("가\t나\t다\tneutral", r"a\.tsv:3: expected two sentences"),
        ("가\t나\t-", r"a\.tsv:3: expected two sentences"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    """A wrong number of fields or another label stops with the line's number."""
    with pytest.raises(DatasetError, match=problem):
        read_kor_nli([write(tmp_path / "a.tsv", "가\t나\tneutral", line)])


def test_blank_sentences_are_counted(tmp_path: Path) -> None:
    """They are published so, and left out."""
    file = write(tmp_path / "a.tsv", "가\t나\tentailment", "가\t\tneutral", "가\t다\tcontradiction")
    assert read_kor_nli([file]).left_out == {"blank": 1}


def test_no_triplet_is_an_error(tmp_path: Path) -> None:
    """Files without a sentence that has both labels can't be trained on."""
    file = write(tmp_path / "a.tsv", "가\t나\tentailment")
    with pytest.raises(
        DatasetError, match="no sentence has both an entailment and a contradiction"
    ):
        read_kor_nli([file])
