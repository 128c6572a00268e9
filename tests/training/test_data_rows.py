"""Tests of reading rows with their places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from koe5_integrations.errors import DatasetError
from koe5_integrations.training.data import read_rows

pyarrow = pytest.importorskip("pyarrow", reason="training data is Arrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS = [
    {"query": "소금은 왜 짠가요?", "passage": '그것은 "염화 나트륨",\n때문입니다.'},
    {"query": "물은?", "passage": "셋\u2028넷"},
]


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    if file.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif file.suffix == ".jsonl":
        file.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows))
    else:
        import csv

        with file.open("w", newline="", encoding="utf-8-sig") as stream:
            delimiter = "\t" if file.suffix == ".tsv" else ","
            writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    return file


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("p.parquet", [" row 1", " row 2"]),
        ("p.jsonl", [":1", ":3"]),
        ("p.json", [" row 1", " row 2"]),
        ("p.csv", [":2", ":4"]),
        ("p.tsv", [":2", ":4"]),
    ],
)
def test_every_form_gives_the_same_rows_with_their_places(
    tmp_path: Path, name: str, places: list[str]
) -> None:
    """Line ends, quotes and blank lines change neither the texts nor the line numbers."""
    file = write(tmp_path / name, ROWS)
    assert list(read_rows(file)) == [
        (f"{file}{place}", row) for place, row in zip(places, ROWS, strict=True)
    ]


def test_parquet_rows_are_numbered_across_batches(tmp_path: Path) -> None:
    """A row far into a large file is still named by its number."""
    file = write(tmp_path / "p.parquet", [{"query": str(n)} for n in range(10_000)])
    *_, (place, row) = read_rows(file)
    assert (place, row) == (f"{file} row 10000", {"query": "9999"})


def test_a_csv_of_korean_excel_is_read(tmp_path: Path) -> None:
    """CP949 is recognised, and an empty field is no text."""
    file = tmp_path / "logs.csv"
    file.write_bytes(
        "질문,답변\n환불은 어떻게 받나요?,고객 센터로 전화하세요.\n배송은?,\n".encode("cp949")
    )
    assert [row for _, row in read_rows(file)] == [
        {"질문": "환불은 어떻게 받나요?", "답변": "고객 센터로 전화하세요."},
        {"질문": "배송은?", "답변": None},
    ]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "p.csv",
            b"query,passage\na,b\na,b,c\n",
            r"p\.csv:3: it has 3 fields, and the first line 2",
        ),
        ("p.csv", b'query,passage\na,"b" c\n', r"p\.csv:2: it is not CSV"),
        (
            "p.csv",
            "query\n가나다라마바사\n".encode() + b"\xff\n",
            r"p\.csv:3: it is not in one enc",
        ),
        ("p.jsonl", b'{"query": "a"}\n{"query": \n', r"p\.jsonl, line 2: not JSON"),
        ("p.json", b'{"query": "a"}\n{"query": "b"}', r"p\.json is not JSON .*named \.jsonl"),
        ("p.json", b'{"query": "a"}', r"p\.json must hold a list of objects, not dict"),
        ("p.parquet", b"PAR1", r"p\.parquet is no Parquet file"),
        ("p.xlsx", b"", r"p\.xlsx is none of \.parquet, "),
    ],
)
def test_a_damaged_file_is_named_with_the_line(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    """Each kind of damage is an error that says where."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=problem):
        list(read_rows(tmp_path / name))
