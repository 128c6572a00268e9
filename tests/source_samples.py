"""Small files in the formats that ingestion reads, written by hand or by the formats' libraries."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence


def make_pdf(pages: Sequence[str], *, title: str = "") -> bytes:
    """Write a PDF with a page for each text, in a font that is named but not embedded."""
    # A character's code is its UTF-16; a table of only those in use keeps reading it fast.
    codes = sorted({_hex(text)[i : i + 4] for text in pages for i in range(0, len(_hex(text)), 4)})
    to_unicode = b"".join(
        [
            b"begincmap 1 begincodespacerange <0000> <FFFF> endcodespacerange ",
            b"%d beginbfchar " % len(codes),
            *(b"<%s> <%s> " % (code, code) for code in codes),
            b"endbfchar endcmap",
        ]
    )
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>"
        % (len(pages), b" ".join(b"%d 0 R" % (7 + 2 * i) for i in range(len(pages)))),
        b"<< /Type /Font /Subtype /Type0 /BaseFont /Any /Encoding /Identity-H "
        b"/DescendantFonts [4 0 R] /ToUnicode 5 0 R >>",
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Any /CIDSystemInfo "
        b"<< /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /DW 1000 >>",
        _stream(to_unicode),
        b"<< /Title <%s> >>" % _hex("\ufeff" + title if title else ""),
    ]
    for i, text in enumerate(pages):
        lines = [b"<%s> Tj 0 -20 Td" % _hex(line) for line in text.splitlines()]
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents %d 0 R "
            b"/Resources << /Font << /F 3 0 R >> >> >>" % (8 + 2 * i),
            _stream(b"BT /F 12 Tf 50 700 Td " + b" ".join(lines) + b" ET"),
        ]
    written, offsets = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    return written + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R /Info 6 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (size, table, size, len(written))
    )


def locked_pdf(password: str) -> bytes:
    """Write a PDF that is encrypted with this password."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(PdfReader(io.BytesIO(make_pdf(["비밀 문서"]))))
    writer.encrypt(password, "owner", algorithm="RC4-128")
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def make_docx(write: Callable[..., object]) -> bytes:
    """Write a DOCX with what ``write`` puts into a new document of python-docx."""
    import docx

    document = docx.Document()
    write(document)
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def _stream(content: bytes) -> bytes:
    return b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content)


def _hex(text: str) -> bytes:
    return text.encode("utf-16-be").hex().encode()
