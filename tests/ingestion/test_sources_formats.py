"""Formats whose files are a document each: what is kept of them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hwp_samples import hwpx_paragraph, make_hwp, make_hwpx
from source_samples import locked_pdf, make_docx, make_pdf

from koe5_integrations.ingestion.documents import Document, Rejected
from koe5_integrations.ingestion.sources import decoding, read_sources
from koe5_integrations.ingestion.sources.readers import docx as docx_reader

KOREAN = "재택근무 신청은 인사팀에 서면으로 합니다. 처리에는 사흘이 걸립니다."


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what is read from a file of this name with these bytes."""
    monkeypatch.chdir(tmp_path)

    def read(name: str, content: bytes) -> Document | Rejected:
        Path(name).write_bytes(content)
        [item] = read_sources([name])
        return item

    return read


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp949", "euc-kr"])
@pytest.mark.parametrize("suffix", ["txt", "md", "html"])
def test_korean_encodings_are_told_apart(read: Any, encoding: str, suffix: str) -> None:
    """The text is the same in each; what is not UTF-8 is named in the metadata."""
    document = read(f"a.{suffix}", KOREAN.encode(encoding))

    assert document.text == KOREAN
    named = {"utf-8-sig": None, "utf-8": None, "euc-kr": "cp949"}.get(encoding, encoding)
    assert document.metadata.get("encoding") == named


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("人工智能是计算机科学的一个分支，它企图了解智能的实质。", "gbk"),
        ("人工智慧是電腦科學的一個分支，北京大學的圖書館裡有書", "big5"),
        ("日本語の文書は、ひらがなとカタカナと漢字で書かれる。", "shift_jis"),
        ("日本語の文書は、ひらがなとカタカナと漢字で書かれる。", "euc_jp"),
        ("café déjà vu naïve Größe über", "latin-1"),
        ("Привет мир, это русский текст", "cp1251"),
    ],
)
def test_other_encodings_are_not_taken_for_cp949(read: Any, text: str, encoding: str) -> None:
    """Their bytes can be decoded as CP949 in part, but the result is no Korean."""
    rejected = read("a.txt", text.encode(encoding))

    assert isinstance(rejected, Rejected)
    assert "it is not UTF-8: byte 0x" in rejected.reason


def test_one_broken_byte_of_utf8_makes_no_cp949(read: Any) -> None:
    """Wherever it stands, byte and place are named."""
    raw = f"첫 줄\n{KOREAN}".encode()
    for position in range(len("첫 줄\n".encode()), len(raw)):
        broken = raw[:position] + b"\xff" + raw[position + 1 :]

        rejected = read("a.txt", broken)

        assert isinstance(rejected, Rejected)
        assert "in line 2, column " in rejected.reason
    assert rejected.id == rejected.place == "a.txt"


def test_a_text_too_large_for_one_document_is_rejected(
    read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not read to its end to find out."""
    monkeypatch.setattr(decoding, "LARGEST", 1000)

    assert isinstance(read("a.txt", b"a" * 1000), Document)
    assert "it has 1,001 bytes" in read("a.txt", b"a" * 1001).reason


def test_text_is_normalised_and_loses_nul(read: Any) -> None:
    """Decomposed Hangul is composed; a NUL, which databases cut texts at, is dropped."""
    document = read("a.html", "<p>한글 문서</p>".encode() + b"<p>a&#0;b</p>")

    assert document.text.startswith("한글 문서")
    assert "\0" not in document.text


def test_html_keeps_what_is_seen(read: Any) -> None:
    """Words stay whole over inline tags, blocks and rows have lines, headings are marked."""
    page = """<!DOCTYPE html><html><head><title> 인사  규정 </title><style>p {color: red}</style>
    <script>var a = "<p>아니</p>";</script></head><body><!-- 아니 --><nav><a>차례</a></nav>
    <h1>제1장<br>총칙</h1><p>재<b>택</b>근무는
      <i>신청</i>한다.<br>둘째 줄</p><h2>제1조</h2><div>하나<div>둘</div>셋</div>
    <ul><li>가</li><li>나</li></ul><table><tr><th>이름</th><th><p>날</p></th></tr>
    <tr><td>김</td><td></td><td>3</td></tr></table><pre>  코드 1
    코드 2</pre><template>아니</template><noscript>아니</noscript></body></html>"""

    document = read("a.html", page.encode())

    assert document.text == (
        "# 제1장 총칙\n\n재택근무는 신청한다.\n둘째 줄\n\n## 제1조\n\n하나\n둘\n셋\n\n가\n나\n\n"
        "이름 | 날\n김 | | 3\n\n  코드 1\n    코드 2"
    )
    assert document.metadata == {"source": "a.html", "title": "인사 규정"}


def test_html_may_say_its_encoding(read: Any) -> None:
    """What neither looks like UTF-8 nor like Korean is decoded as it says, or rejected."""
    said = b'<meta charset="shift_jis"><p>'

    assert read("a.html", said + "日本語の文書".encode("shift_jis")).text == "日本語の文書"
    assert "says it is shift_jis" in read("a.html", said + b"\x82 \xff\xff").reason
    assert "says it is no-such" in read("a.html", b'<meta charset="no-such"><p>\xff').reason


def test_html_of_any_depth_is_read(read: Any) -> None:
    """Broken markup nests without end."""
    assert read("a.html", b"<div><span>" * 5_000 + b"x").text == "x"


def test_pdf_keeps_the_text_of_its_pages(read: Any) -> None:
    """With their number and the title."""
    document = read("a.pdf", make_pdf(["첫 쪽\n둘째 줄", "", "셋째 쪽"], title="보고서"))

    assert document.text == "첫 쪽\n둘째 줄\n\n셋째 쪽"
    assert document.metadata == {"source": "a.pdf", "pages": 3, "title": "보고서"}


def test_pdf_that_can_be_opened_by_anyone_is_read(read: Any) -> None:
    """An empty password only forbids changes."""
    assert read("a.pdf", locked_pdf("")).text == "비밀 문서"
    assert "it is encrypted" in read("a.pdf", locked_pdf("x")).reason


def test_pdf_of_images_is_rejected_with_the_remedy(read: Any) -> None:
    """A scan has pages without text."""
    assert "no text in its pages (2)" in (reason := read("a.pdf", make_pdf(["", ""])).reason)
    assert "OCR" in reason


def test_pdf_with_halves_of_characters_is_read(read: Any) -> None:
    """A font's broken table costs one character, not the document; pairs are joined."""
    document = read("a.pdf", make_pdf(["가😀나"]).replace(b"ac00", b"d800"))

    assert document.text == "\ufffd😀나"


def test_docx_keeps_paragraphs_headings_and_tables_in_order(read: Any) -> None:
    """Headings as Markdown's, rows as lines, cells of a merged range once."""

    def write(document: Any) -> None:
        document.core_properties.title = "인사 규정"
        document.add_heading("제1장 총칙", 1)
        document.add_paragraph("첫 문단\t탭").add_run("이어짐")
        table = document.add_table(2, 3)
        for column, text in enumerate(["이름", "날", "비고"]):
            table.cell(0, column).text = text
        table.cell(1, 0).merge(table.cell(1, 1)).text = "김"
        table.cell(1, 2).add_table(1, 2).cell(0, 0).text = "안"
        document.add_heading("제1조", 2)
        document.add_paragraph("끝")

    document = read("a.docx", make_docx(write))

    assert document.text == (
        "# 제1장 총칙\n\n첫 문단\t탭이어짐\n\n이름 | 날 | 비고\n김 | 안\n\n## 제1조\n\n끝"
    )
    assert document.metadata == {"source": "a.docx", "title": "인사 규정"}


def test_docx_keeps_text_in_revisions_fields_and_controls(read: Any) -> None:
    """What is shown is read; what was deleted, moved away or stands twice is not."""
    inner = (
        '<w:p><w:r><w:t>가</w:t></w:r><w:ins w:id="1" w:author="x"><w:r><w:t>나</w:t></w:r></w:ins>'
        '<w:del w:id="2" w:author="x"><w:r><w:delText>아니</w:delText></w:r></w:del>'
        '<w:moveFrom w:id="3" w:author="x"><w:r><w:t>아니</w:t></w:r></w:moveFrom>'
        '<w:fldSimple w:instr="REF"><w:r><w:t>다</w:t></w:r></w:fldSimple>'
        "<w:r><w:br/><w:noBreakHyphen/></w:r></w:p>"
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>라</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    )

    document = read("a.docx", with_body(make_docx(lambda document: None), inner))

    assert document.text == "가나다\n-\n\n라"
    assert "title" not in document.metadata


def test_docx_that_unpacks_without_end_is_rejected(
    read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit holds for what comes out, whatever the ZIP says of it."""
    monkeypatch.setattr(docx_reader, "_LARGEST", 2 * 2**20)

    bomb = with_body(make_docx(lambda document: None), f"<w:p>{' ' * 2**21}</w:p>")

    assert "unpacks to more than" in read("a.docx", bomb).reason
    lying = bytearray(bomb)
    entry = lying.rindex(b"word/document.xml") - 46
    lying[entry + 24 : entry + 28] = (100).to_bytes(4, "little")
    assert isinstance(read("a.docx", bytes(lying)), Rejected)


def test_docx_with_a_password_is_rejected(read: Any) -> None:
    """Office writes those as another kind of file."""
    assert "it is encrypted" in read("a.docx", make_hwp(["아니"])).reason


def with_body(docx: bytes, content: str) -> bytes:
    """Put this XML first into a DOCX's body."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(docx)) as old, zipfile.ZipFile(written, "w", 8) as new:
        for name in old.namelist():
            part = old.read(name)
            if name == "word/document.xml":
                part = part.replace(b"<w:body>", b"<w:body>" + content.encode())
            new.writestr(name, part)
    return written.getvalue()


def test_hwpx_keeps_paragraphs_tables_and_notes(read: Any) -> None:
    """In their order, with what stands after a note and around a highlight."""
    note = hwpx_paragraph("<hp:t>각주 글</hp:t>")
    cells = "".join(
        f"<hp:tc><hp:subList>{hwpx_paragraph(f'<hp:t>{text}</hp:t>')}</hp:subList>"
        f'<hp:cellAddr colAddr="{column}" rowAddr="0"/><hp:cellSpan colSpan="1" rowSpan="1"/>'
        "</hp:tc>"
        for column, text in enumerate(["이름", "날"])
    )
    body = [
        "<hp:t>앞<hp:markpenBegin/>강조<hp:markpenEnd/>뒤<hp:tab/>탭</hp:t>",
        '<hp:t>본문</hp:t><hp:ctrl><hp:footNote number="1"><hp:subList>'
        f"{note}</hp:subList></hp:footNote></hp:ctrl><hp:t>이어짐</hp:t>",
        f'<hp:tbl rowCnt="1" colCnt="2"><hp:tr>{cells}</hp:tr></hp:tbl>',
        "<hp:t>끝</hp:t>",
    ]

    document = read("a.hwpx", make_hwpx("".join(map(hwpx_paragraph, body)), title="규정"))

    lines = document.text.split("\n")
    assert lines[0] == "앞강조뒤\t탭"
    assert "각주 글" in document.text
    assert "이어짐" in document.text
    assert "| 이름 | 날 |" in lines
    assert lines[-1] == "끝"
    assert document.metadata == {"source": "a.hwpx", "title": "규정"}


def test_hwpx_made_by_its_library_is_read(read: Any, tmp_path: Path) -> None:
    """Also with all the parts that Hangul writes; the file is left as it was."""
    from hwpx import HwpxDocument

    with HwpxDocument.new() as made:
        made.paragraphs[0].text = "제1조 목적"
        made.add_paragraph("이 규정은 절차를 정한다.")
        made.save_to_path(tmp_path / "made.hwpx")
    raw = (tmp_path / "made.hwpx").read_bytes()

    assert read("a.hwpx", raw).text == "제1조 목적\n\n이 규정은 절차를 정한다."
    assert Path("a.hwpx").read_bytes() == raw


@pytest.mark.parametrize("flags", [0, 1], ids=["plain", "compressed"])
def test_hwp_keeps_its_paragraphs(read: Any, flags: int) -> None:
    """The old format, packed or not."""
    document = read("a.hwp", make_hwp(["제1조 목적", "이 규정은 절차를 정한다."], flags=flags))

    assert document.text == "제1조 목적\n\n이 규정은 절차를 정한다."


@pytest.mark.parametrize(("flags", "reason"), [(3, "password"), (5, "distribution")])
def test_hwp_that_is_protected_is_rejected(read: Any, flags: int, reason: str) -> None:
    """With what protects it."""
    assert reason in read("a.hwp", make_hwp(["비밀"], flags=flags)).reason
