"""Tests of the sentence pairs."""

import json

import pytest

from koe5_integrations.evaluation.datasets import (
    DatasetError,
    load_sts,
    read_klue_sts,
    read_korsts,
)

HEADER = "genre\tfilename\tyear\tid\tscore\tsentence1\tsentence2\n"
PAIR = {"sentence1": "가", "sentence2": "나", "labels": {"label": 4.9, "real-label": 4.857}}


def korsts(folder, *lines):
    file = folder / "sts-test.tsv"
    file.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return file


def klue(folder, content):
    file = folder / "klue-sts-v1.1_dev.json"
    file.write_text(json.dumps(content, ensure_ascii=False, indent=4), encoding="utf-8")
    return file


def test_quotation_marks_in_korsts_mean_nothing(tmp_path):
    """A sentence that opens a quotation and doesn't close it is one field of one line."""
    pairs = read_korsts(
        korsts(tmp_path, 'g\tf\ty\t1\t4.500\t"안녕\t하세요', "g\tf\ty\t2\t0\t가\t나")
    )
    assert pairs.first == ('"안녕', "가")
    assert pairs.second == ("하세요", "나")
    assert pairs.scores == (4.5, 0.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("g\tf\ty\t1\t4.5\t가", r"sts-test\.tsv, line 2: expected seven tab-separated fields"),
        ("g\tf\ty\t1\tx\t가\t나", r"line 2: the score 'x' is no number from 0 to 5"),
        ("g\tf\ty\t1\tnan\t가\t나", "line 2: the score 'nan' is no number"),
        ("g\tf\ty\t1\t7\t가\t나", "line 2: the score '7' is no number"),
        ("g\tf\ty\t1\t4\t \t나", "line 2: the first sentence is blank"),
        ("", "holds no pairs"),
    ],
)
def test_a_bad_korsts_line_is_named(tmp_path, line, message):
    """Too few fields, a bad score or a blank sentence raise with file and line."""
    with pytest.raises(DatasetError, match=message):
        read_korsts(korsts(tmp_path, line))


def test_korsts_test_has_its_1379_pairs(shared_data):
    """The published file, verified by its sha256, is read whole."""
    pairs = load_sts("korsts", data_dir=shared_data)
    assert len(pairs.scores) == len(pairs.first) == len(pairs.second) == 1379
    assert (pairs.name, pairs.licence) == ("korsts", "CC-BY-SA-4.0")
    assert pairs.first[0] == "한 소녀가 머리를 스타일링하고 있다."
    assert len(load_sts(shared_data / "korsts" / "sts-dev.tsv").scores) == 1500


def test_klue_sts_is_read_from_json_and_from_the_hubs_parquet(tmp_path):
    """Both forms give the same pairs, with the label KLUE evaluates on."""
    pyarrow = pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading Parquet needs pyarrow")
    from_json = load_sts(klue(tmp_path, [PAIR, PAIR]))
    parquet.write_table(pyarrow.Table.from_pylist([PAIR, PAIR]), tmp_path / "validation.parquet")
    from_parquet = load_sts(tmp_path / "validation.parquet")
    assert from_json.scores == from_parquet.scores == (4.9, 4.9)
    assert (from_json.first, from_json.second) == (from_parquet.first, from_parquet.second)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "must hold a list of pairs"),
        ([PAIR, {"sentence1": "가"}], r"dev\.json, pair 2: has no labels\.label"),
        ([{**PAIR, "labels": {}}], "pair 1: the score None is no number"),
        ([{**PAIR, "sentence2": None}], "pair 1: the second sentence must be a text"),
        ([], "holds no pairs"),
    ],
)
def test_bad_klue_sts_is_named(tmp_path, content, message):
    """What is no list of labelled pairs raises with the number of the pair."""
    with pytest.raises(DatasetError, match=message):
        read_klue_sts(klue(tmp_path, content))


def test_klue_sts_that_is_no_json_is_named(tmp_path):
    """A file that is cut off raises."""
    file = klue(tmp_path, [PAIR])
    file.write_text(file.read_text(encoding="utf-8")[:-4], encoding="utf-8")
    with pytest.raises(DatasetError, match=r"dev\.json is not JSON"):
        read_klue_sts(file)


def test_the_named_klue_sts_is_the_pinned_file(tmp_path):
    """Another file under its name is refused by its sha256."""
    klue(tmp_path, [PAIR])
    with pytest.raises(DatasetError, match="not b6a0ae0c"):
        load_sts("klue-sts", data_dir=tmp_path)


def test_an_unknown_name_lists_those_there_are():
    """A name that is neither a set nor a file raises."""
    with pytest.raises(DatasetError, match="'sts-b' and no such file; there is korsts, klue-sts"):
        load_sts("sts-b")
