"""JSON Lines, CSV and Parquet: a document in each row, in constant memory."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from koe5_integrations.errors import SourceError
from koe5_integrations.ingestion.documents import Document, Rejected
from koe5_integrations.ingestion.sources import read_sources
from koe5_integrations.ingestion.sources.lines import Lines, LineTooLongError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


def read(name: str, content: bytes | str, **options: Any) -> list[Document | Rejected]:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_sources([name], **options))


def lines(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table(columns), written, **options)
    return written.getvalue()


def test_jsonl_takes_id_text_and_metadata() -> None:
    """All other fields are metadata, in what every store can keep; null is none."""
    row = {"id": 7, "text": "글", "when": 1.5, "tags": ["가", 1], "by": None, "ok": True}

    [document] = read("a.jsonl", lines(row))

    assert document == Document(
        id="7",
        text="글",
        metadata={"when": 1.5, "tags": '["가", 1]', "ok": True},
        source="a.jsonl",
        place="a.jsonl:1",
    )


def test_fields_can_be_named() -> None:
    """Text, id and the metadata to keep, in each format."""
    row = {"no": "q1", "body": "글", "title": "제목", "draft": "x"}
    options = {"text_field": "body", "id_field": "no", "metadata_fields": ["title", "title"]}
    csv = "no,body,title,draft\nq1,글,제목,x\n"

    for name, content in [
        ("a.jsonl", lines(row).encode()),
        ("a.csv", csv.encode()),
        ("a.tsv", csv.replace(",", "\t").encode()),
        ("a.parquet", parquet({key: [value] for key, value in row.items()})),
    ]:
        [document] = read(name, content, **options)
        assert (document.id, document.text) == ("q1", "글")
        assert document.metadata == {"title": "제목"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_rows_come_in_any_encoding_of_files(encoding: str) -> None:
    """As Excel on a Korean Windows writes them."""
    rows = [{"text": f"재택근무 신청 {i}"} for i in range(3)]
    csv = "text\r\n" + "".join(f"{row['text']}\r\n" for row in rows)

    for name, content in [("a.jsonl", lines(*rows)), ("a.csv", csv)]:
        documents = read(name, content.encode(encoding))
        assert [document.text for document in documents] == [row["text"] for row in rows]


def test_a_row_without_an_id_is_called_by_its_place() -> None:
    """File and line, blank lines counted; of Parquet the row."""
    found = read("a.jsonl", '\n{"text": "a"}\r\n  \n{"id": null, "text": "b"}')
    assert [document.id for document in found] == ["a.jsonl:2", "a.jsonl:4"]

    found = read("a.csv", 'id,text\n,"a\nb"\n\n,c\n')
    assert [document.id for document in found] == ["a.csv:2", "a.csv:5"]

    found = read("a.parquet", parquet({"text": ["a", "b"], "id": pa.array([None, 5])}))
    assert [document.id for document in found] == ["a.parquet:1", "5"]


def test_a_bad_line_is_rejected_and_the_rest_goes_on() -> None:
    """Wherever it stands, with file and line."""
    good = [f'{{"id": "{i}", "text": "글"}}' for i in range(20)]
    for position in range(len(good) + 1):
        rows = [*good[:position], '{"text": "글', *good[position:]]

        found = read("a.jsonl", "\n".join(rows))

        assert [item.id for item in found if isinstance(item, Document)] == [
            str(i) for i in range(20)
        ]
        [rejected] = [item for item in found if isinstance(item, Rejected)]
        assert rejected.place == f"a.jsonl:{position + 1}"
        assert "it is not JSON" in rejected.reason


def test_a_byte_that_is_no_utf8_costs_its_line_only() -> None:
    """Byte and column are named."""
    found = read("a.jsonl", '{"text": "하나"}\n'.encode() + b'{"text": "\xb0"}\n{"text": "b"}\n')
    assert [type(item) for item in found] == [Document, Rejected, Document]
    assert "byte 0xb0 in column 11" in found[1].reason

    found = read("a.csv", b"text\na\n\xb0\xa1\nb\n")
    assert [type(item) for item in found] == [Document, Rejected, Document]
    assert "its field 'text' is not in one encoding: byte 0xb0 in column 1" in found[1].reason


def test_csv_follows_its_quotes() -> None:
    """Commas, quotes and line ends in a field; the place is where the row begins."""
    found = read("a.csv", 'text,n\r\n"a, ""b""\r\nc",1\r\nd "e",2\r\n')

    assert [(item.text, item.place) for item in found if isinstance(item, Document)] == [
        ('a, "b"\r\nc', "a.csv:2"),
        ('d "e"', "a.csv:4"),
    ]


def test_csv_rows_of_another_length_are_rejected() -> None:
    """Nobody can say which field is which."""
    found = read("a.csv", "id,text\n1,a\n2\n3,b,c\n4,d\n")

    assert [type(item) for item in found] == [Document, Rejected, Rejected, Document]
    assert [item.place for item in found] == [f"a.csv:{line}" for line in range(2, 6)]
    assert "it has 3 fields, and the first row 2" in found[2].reason


def test_csv_with_a_quote_left_open_says_which_rows_it_took() -> None:
    """It can't be told where it should have ended."""
    found = read("a.csv", 'text\na\n"b\nc\nd\n')

    assert [type(item) for item in found] == [Document, Rejected]
    assert found[1].place == "a.csv:3"
    assert "(lines 3 to 5)" in found[1].reason


def test_csv_fields_may_be_long() -> None:
    """Longer than the 131,072 characters that Python's reader takes by itself."""
    [document] = read("a.csv", f'text\n"{"가" * 300_000}"\n')

    assert document.text == "가" * 300_000


def test_a_line_without_end_is_skipped() -> None:
    """Only the limit is ever in memory, and the line after it is read."""
    stream = _Endless(b"a" * 95 + b"\nb\n" + b"c" * 10 + b"\n")
    found = Lines(io.TextIOWrapper(stream, newline="\n"), longest=10)

    with pytest.raises(LineTooLongError, match="more than 10 characters"):
        next(found)
    assert (next(found), found.number) == ("b\n", 2)
    with pytest.raises(LineTooLongError):
        next(found)
    assert (list(found), found.number) == ([], 3)


class _Endless(io.BytesIO):
    def read1(self, size: int | None = -1) -> bytes:
        return super().read1(4)


def test_utf16_that_breaks_off_is_rejected_from_there() -> None:
    """What came before it is kept."""
    found = read("a.jsonl", lines({"text": "가"}).encode("utf-16") + b"{")

    assert [type(item) for item in found] == [Document, Rejected]
    assert "the rest can't be decoded" in found[1].reason


def test_parquet_keeps_types_and_takes_dictionaries() -> None:
    """Numbers stay numbers, dates become text, nested values JSON."""
    columns = {
        "id": [1, 2],
        "text": pa.array(["가", "나"]).dictionary_encode(),
        "n": [1, None],
        "day": [datetime.date(2026, 1, 2)] * 2,
        "tags": [["a"], []],
    }

    first, second = read("a.parquet", parquet(columns))

    assert first.metadata == {"n": 1, "day": "2026-01-02", "tags": '["a"]'}
    assert (second.id, second.text, second.metadata["tags"]) == ("2", "나", "[]")


def test_parquet_rows_that_are_broken_are_rejected() -> None:
    """No text, no UTF-8: that row, not its row group."""
    invalid = pa.array([b"a", b"\xff", None, b"d"]).view(pa.string())

    found = read("a.parquet", parquet({"text": invalid}))

    assert [type(item) for item in found] == [Document, Rejected, Rejected, Document]
    assert "its column 'text' can't be read: UnicodeDecodeError" in found[1].reason
    assert "must be a str, not NoneType" in found[2].reason


def test_parquet_that_is_damaged_is_rejected_from_there() -> None:
    """Rows before it are kept, and the next file is read."""
    raw = bytearray(
        parquet(
            {"text": [f"{i:0>900}" for i in range(2000)]},
            row_group_size=500,
            compression="none",
            use_dictionary=False,
        )
    )
    raw[len(raw) // 2 : len(raw) // 2 + 1000] = b"\xff" * 1000
    Path("n").mkdir()
    Path("n/b.txt").write_text("text")

    found = read("n/a.parquet", bytes(raw))
    both = list(read_sources(["n"]))

    assert isinstance(found[0], Document)
    assert isinstance(found[-1], Rejected)
    assert both[-1].id == "n/b.txt"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"id,body\n1,a\n"),
        ("a.tsv", b"id\tbody\n1\ta\n"),
        ("a.parquet", parquet({"body": ["a"]})),
        ("a.parquet", parquet({"text": [1]})),
        ("a.jsonl", lines(*[{"body": "a"}] * 10).encode()),
    ],
)
def test_a_missing_column_is_refused_before_anything_is_read(name: str, content: bytes) -> None:
    """Of a file that is named, or that a glob matches; in a folder the file is rejected."""
    Path("n").mkdir()
    Path("n", name).write_bytes(content)
    Path("n", "z.txt").write_text("text")

    for source in (f"n/{name}", "n/*"):
        with pytest.raises(SourceError, match="name another with text_field="):
            read_sources(["n/z.txt", source])
    *rejected, document = read_sources(["n"])
    assert {type(item) for item in rejected} == {Rejected}
    assert document.id == "n/z.txt"


@pytest.mark.parametrize("options", [{"id_field": "no"}, {"metadata_fields": ["no"]}])
def test_other_missing_columns_are_refused_too(options: dict[str, Any]) -> None:
    """The id has a stand-in only where none was asked for by name."""
    for name, content in [("a.csv", b"text\na\n"), ("a.parquet", parquet({"text": ["a"]}))]:
        with pytest.raises(SourceError, match="no column 'no'"):
            read(name, content, **options)


def test_a_few_lines_without_text_are_rejected_one_by_one() -> None:
    """Only a file whose objects all lack it is refused as a whole."""
    found = read("a.jsonl", lines(*[{"body": "a"}] * 9, {"text": "b"}))

    assert [type(item) for item in found] == [Rejected] * 9 + [Document]
    assert "it has no field 'text' (it has: 'body')" in found[0].reason


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_reading_is_never_far_ahead_of_the_documents(suffix: str) -> None:
    """However long the file: what is read beyond a document's row is less than 32 KiB."""
    ends, size = [], 0
    with Path(f"a.{suffix}").open("wb") as file:
        size += file.write(b"text\n" if suffix == "csv" else b"")
        for i in range(20_000):
            text = f"{i} " + "가나다라" * (i % 40)
            row = json.dumps({"text": text}) if suffix == "jsonl" else text
            size += file.write(f"{row}\n".encode())
            ends.append(size)
    read_so_far, ahead = 0, []

    def note(n: int) -> None:
        nonlocal read_so_far
        read_so_far += n

    for end, item in zip(ends, read_sources([f"a.{suffix}"], on_read=note), strict=True):
        assert isinstance(item, Document)
        ahead.append(read_so_far - end)

    assert size > 20 * 32_768
    assert max(ahead) < 32_768


def test_parquet_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are taken from the file as they are asked for, within a row group too."""
    Path("a.parquet").write_bytes(parquet({"text": ["글"] * 5000}, row_group_size=2000))
    taken: list[int] = []
    real: Callable[..., Any] = pq.ParquetFile.iter_batches

    def noted(self: Any, *args: Any, **options: Any) -> Any:
        for batch in real(self, *args, **options):
            taken.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)

    for n, _ in enumerate(read_sources(["a.parquet"]), start=1):
        assert sum(taken) - n < 256
    assert sum(taken) == 5000
