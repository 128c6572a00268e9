"""Bad input of every kind: a document, or the reason why it is none, and never another error."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hwp_samples import hwpx_paragraph, make_hwp, make_hwpx
from hypothesis import example, given, settings
from hypothesis import strategies as st
from source_samples import locked_pdf, make_docx, make_pdf

from koe5_integrations.ingestion.documents import Document, Rejected
from koe5_integrations.ingestion.sources import documents_from, read_sources

PDF, HWP, HWPX = make_pdf(["글"]), make_hwp(["글"]), make_hwpx(hwpx_paragraph("<hp:t>글</hp:t>"))


def nested(depth: int) -> bytes:
    return b'{"text": ' + b"[" * depth + b"]" * depth + b"}"


# What a file holds, and what is said of it; a tuple is the texts that are read all the same.
CASES: list[tuple[str, bytes | Callable[[], bytes], str | tuple[str, ...]]] = [
    ("empty.txt", b"", "nothing to embed"),
    ("blank.txt", b" \r\n\t\n", "nothing to embed"),
    ("mark.txt", b"\xef\xbb\xbf", "nothing to embed"),
    ("invisible.txt", "\u200b\u3164\u2800\ufeff\u00ad".encode(), "nothing to embed"),
    ("nul.txt", b"a\0b", "NUL characters"),
    ("binary.txt", bytes(range(256)), "it is not UTF-8: byte 0x80 in line 2"),
    ("latin1.txt", "caf\u00e9 au lait".encode("latin-1"), "byte 0xe9 in line 1, column 4"),
    ("cut.txt", "\uae00".encode()[:2], "it is not UTF-8: byte 0xea"),
    ("overlong.txt", b"a\xc0\xafb", "byte 0xc0"),
    ("surrogate.txt", b"a\xed\xa0\x80b", "byte 0xed"),
    ("utf16.txt", "a\ub098".encode("utf-16-le"), "it is not UTF-8"),
    ("utf16-ascii.txt", "abc".encode("utf-16-be"), "NUL characters"),
    ("utf16-cut.txt", b"\xff\xfea\0b", "it is not UTF-16"),
    ("utf16-half.txt", b"\xff\xfe\x00\xd8a\0", "it is not UTF-16"),
    ("utf32-bad.txt", b"\xff\xfe\0\0\xff\xff\xff\xff", "it is not UTF-32"),
    ("gzip.txt", zlib.compress(b"a" * 100, wbits=31), "it is not UTF-8: byte 0x8b"),
    ("mixed.txt", "\ub108\ub294 ".encode() + "\ub108\ub294".encode("cp949"), "byte 0xb3"),
    ("marks-only.md", b"\xe2\x80\x8b\n", "nothing to embed"),
    ("empty.html", b"", "nothing to embed"),
    ("script.html", b"<script>alert(1)</script>", "nothing to embed"),
    ("comment.html", b"<!-- a -->", "nothing to embed"),
    ("open.html", b"<p>a<b>c", ("ac",)),
    ("garbage.html", b"&&&#x;&#99999999999;</p></x>", ("&&&#x;\ufffd",)),
    ("lone.html", b"a&#xd800;b", ("a\ufffdb",)),
    ("nul.html", b"<p>a\0b", "NUL characters"),
    ("declared.html", b'<meta charset="utf-16"><p>\xff', "it says it is utf-16"),
    ("empty.pdf", b"", "it can't be read: EmptyFileError"),
    ("text.pdf", b"no pdf", "it can't be read: PdfStreamError"),
    ("cut.pdf", PDF[: len(PDF) // 2], "it can't be read"),
    ("head.pdf", PDF[:20], "it can't be read"),
    ("no-pages.pdf", PDF.replace(b"/Kids [7 0 R]", b"/Kids []"), "no text in its pages (0)"),
    ("loop.pdf", PDF.replace(b"/Kids [7 0 R]", b"/Kids [2 0 R]"), "it can't be read"),
    ("locked.pdf", lambda: locked_pdf("x"), "it is encrypted"),
    ("scan.pdf", lambda: make_pdf([""]), "OCR"),
    ("empty.docx", b"", "BadZipFile"),
    ("text.docx", b"no docx", "BadZipFile"),
    ("cut.docx", lambda: make_docx(lambda d: d.add_paragraph("a"))[:5000], "BadZipFile"),
    ("blank.docx", lambda: make_docx(lambda d: d.add_paragraph(" ")), "nothing to embed"),
    ("old.docx", HWP, "an old .doc"),
    ("other.docx", HWPX, "it can't be read"),
    ("empty.hwpx", b"", "it can't be read"),
    ("text.hwpx", b"no hwpx", "BadZipFile"),
    ("cut.hwpx", HWPX[:600], "BadZipFile"),
    ("blank.hwpx", lambda: make_hwpx(hwpx_paragraph("<hp:t> </hp:t>")), "nothing to embed"),
    ("open.hwpx", lambda: make_hwpx("<hp:p>"), "it can't be read: XMLSyntaxError"),
    ("deep.hwpx", lambda: make_hwpx("<hp:p>" * 999 + "</hp:p>" * 999), "Excessive depth"),
    ("entity.hwpx", lambda: make_hwpx("&lol;"), "it can't be read"),
    ("bomb.hwpx", lambda: make_hwpx(" " * 2**24), "compression ratio"),
    ("empty.hwp", b"", "it can't be read"),
    ("cut.hwp", HWP[:1200], "it can't be read: Hwp5Error"),
    ("flipped.hwp", HWP.replace(b"\xfe\xff\xff\xff", b"\x01\0\0\0"), "it can't be read"),
    ("locked.hwp", lambda: make_hwp(["\uae00"], flags=3), "password"),
    ("number.jsonl", b"5", "must be a JSON object, not 5"),
    ("list.jsonl", b'["text"]', "must be a JSON object"),
    ("open.jsonl", b'{"text": "a"', "it is not JSON"),
    ("two.jsonl", b'{"text": "a"} {"text": "b"}', "it is not JSON"),
    ("literal.jsonl", b'{"text": "a\tb"}', "it is not JSON"),
    ("deep.jsonl", nested(100_000), "it is not JSON"),
    ("digits.jsonl", b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "it is not JSON"),
    ("huge.jsonl", b'{"text": "a", "n": 1e999}', ("a",)),
    ("nan.jsonl", b'{"text": "a", "n": NaN}', ("a",)),
    ("nul.jsonl", rb'{"text": "a\u0000b"}', ("ab",)),
    ("half.jsonl", rb'{"text": "\ud83d"}', "lone surrogate"),
    ("pair.jsonl", rb'{"text": "\ud83d\ude00"}', ("\U0001f600",)),
    ("null.jsonl", b'{"text": null}', "must be a str, not NoneType"),
    ("blank.jsonl", b'{"text": "\\n", "id": "x"}', "nothing to embed"),
    ("id.jsonl", b'{"text": "a", "id": {}}', "its id must be"),
    ("id-empty.jsonl", b'{"text": "a", "id": ""}', "its id is empty"),
    ("id-half.jsonl", rb'{"text": "a", "id": "\udc00"}', "its id is not valid Unicode"),
    ("key.jsonl", b'{"text": "a", "": 1}', "metadata key ''"),
    ("key-half.jsonl", rb'{"text": "a", "\udc00": 1}', "lone surrogate"),
    ("twice.jsonl", b'{"text": "a", "text": "b"}', ("b",)),
    ("bytes.jsonl", b'{"text": "\xff"}', "byte 0xff in column 11"),
    ("empty.csv", b"", "it has no column 'text' (it has: none)"),
    ("blank-line.csv", b"\ntext\na\n", "it has no column 'text'"),
    ("twice.csv", b"text,text\na,b\n", "2 columns named 'text'"),
    ("header.csv", b"text,\xff\na,b\n", "the names of its columns can't be read"),
    ("quote.csv", b'text\n"a"b\n', "it is not CSV"),
    ("open.csv", b'text\n"a\n', "it is not CSV"),
    ("cells.csv", b"text\na,b\n", "it has 2 fields, and the first row 1"),
    ("nul.csv", b"text\na\0b\n", ("ab",)),
    ("empty.parquet", b"", "it can't be read to its end: ArrowInvalid"),
    ("text.parquet", b"no parquet", "it can't be read to its end: ArrowInvalid"),
    ("cut.parquet", b"PAR1" + bytes(100) + b"PAR1", "it can't be read to its end"),
]


@pytest.mark.parametrize(("name", "content", "said"), CASES, ids=[case[0] for case in CASES])
def test_bad_files_are_rejected_or_read_as_documented(
    tmp_path: Path, name: str, content: Any, said: str | tuple[str, ...]
) -> None:
    """Each with its reason, and the files around it are read."""
    for other in ("!.txt", "~.txt"):
        (tmp_path / other).write_text("text")
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content())

    before, *found, after = read_sources([tmp_path])

    assert {type(before), type(after)} == {Document}
    if isinstance(said, tuple):
        assert [item.text for item in found if isinstance(item, Document)] == list(said)
        assert len(found) == len(said)
    else:
        [rejected] = found
        assert isinstance(rejected, Rejected)
        assert said in rejected.reason
        assert "\n" not in rejected.reason
        assert Path(rejected.place.split(":")[0]).name == name
        assert rejected.source == tmp_path.as_posix()
        json.dumps(rejected.reason).encode()


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)


def check(item: Document | Rejected) -> None:
    """Assert what everything downstream relies on."""
    if isinstance(item, Document):
        written = [item.id, item.text, item.place, *item.metadata, *item.metadata.values()]
        json.dumps(written, ensure_ascii=False, allow_nan=False).encode()
        assert item.id
        assert item.text.strip()
        assert "\0" not in f"{item.id}{item.text}{item.metadata}"
        assert all(type(value) in (str, int, float, bool) for value in item.metadata.values())
    else:
        json.dumps([item.reason, item.place, item.id], ensure_ascii=False).encode()
        assert item.reason


@given(st.lists(JSON | st.fixed_dictionaries({"text": ANY_TEXT, "id": JSON}), max_size=12))
@settings(max_examples=100, deadline=None)
def test_any_object_is_a_document_or_rejected(items: list[Any]) -> None:
    """Whatever Python values come."""
    found = list(documents_from(items))

    assert len(found) == len(items)
    for item in found:
        check(item)


@given(
    st.lists(
        st.one_of(
            ANY_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")),
            st.binary(max_size=30),
            JSON.map(lambda value: json.dumps({"text": value}).encode()),
            ANY_TEXT.map(lambda text: json.dumps({"text": text, "k": text}).encode()),
        ).map(lambda line: line.replace(b"\n", b"")),
        max_size=12,
    ),
    st.sampled_from(["jsonl", "csv", "txt", "html"]),
)
@example(lines=[b"\xc2\x85"], suffix="jsonl")
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_documents_or_rejected(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], suffix: str
) -> None:
    """Lines of anything, in each format of text; no line of JSONL is lost."""
    path = tmp_path_factory.getbasetemp() / f"generated.{suffix}"
    path.write_bytes(b"text\n" * (suffix == "csv") + b"\n".join(lines))

    found = list(read_sources([path.parent / "generated.*"], text_field="text"))
    path.unlink()

    for item in found:
        check(item)
    if suffix == "jsonl" and not any(line.startswith((b"\xff\xfe", b"\xfe\xff")) for line in lines):
        most = [line for line in lines if line.strip()]
        # Unicode knows more blanks, if that is what the bytes are.
        least = [line for line in most if line.decode(errors="replace").strip()]
        assert len(least) <= len(found) <= len(most)
