"""DOCX: paragraphs, headings and tables in their order.

The text is taken from the XML itself, because python-docx's ``paragraph.text`` leaves out what
stands in tracked insertions, content controls and fields.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koe5_integrations.ingestion.sources.contract import Parsed, UnreadableError

if TYPE_CHECKING:
    from docx.document import Document as DocxDocument

__all__ = ["read_docx"]

_LARGEST = 256 * 2**20
# How files of Office begin that are no ZIP.
_COMPOUND = bytes.fromhex("d0cf11e0a1b11ae1")
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_SIGNS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
# A second copy of a shape's text, text that was moved away, and what a field is computed from.
_NOT_SHOWN = {_FALLBACK, f"{_W}moveFrom", f"{_W}del", f"{_W}instrText", f"{_W}pPr", f"{_W}rPr"}


def read_docx(path: Path) -> Parsed:
    """Read a document's body: no headers, footers, notes and comments; its title is metadata."""
    import docx

    document = docx.Document(_without_media(path))
    title = document.core_properties.title.strip()
    if title == "Word Document":  # python-docx's, where a document has none
        title = ""
    blocks = _blocks(document.element.body, _heading_levels(document))
    return Parsed("\n\n".join(blocks), {"title": title} if title else {})


def _without_media(path: Path) -> io.BytesIO:
    """Copy the package without images, and no more of it than may be had in memory.

    What an entry says of its own size is not believed: it is unpacked piece by piece.
    """
    with path.open("rb") as file:
        if file.read(len(_COMPOUND)) == _COMPOUND:
            raise UnreadableError("it is encrypted, or an old .doc: save it as .docx, unencrypted")
    copy = io.BytesIO()
    left = _LARGEST
    with (
        zipfile.ZipFile(path) as package,
        zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as written,
    ):
        # Of entries with the same name the last one counts.
        for info in {info.filename: info for info in package.infolist()}.values():
            content = bytearray()
            if info.filename.endswith((".xml", ".rels")):
                with package.open(info) as entry:
                    while piece := entry.read(1 << 16):
                        content += piece
                        left -= len(piece)
                        if left < 0:
                            raise UnreadableError(
                                f"it unpacks to more than {_LARGEST:,} bytes of XML: split it"
                            )
            written.writestr(info.filename, bytes(content))
    return copy


def _heading_levels(document: DocxDocument) -> dict[str, int]:
    levels = {}
    for style in document.styles:
        name = style.name or ""
        if name == "Title":
            levels[style.style_id] = 1
        elif name.startswith("Heading ") and name[8:].isdigit():
            levels[style.style_id] = min(int(name[8:]), 6)
    return levels


def _blocks(parent: Any, headings: dict[str, int]) -> Iterator[str]:
    for element in parent:
        if element.tag == f"{_W}p":
            text = "".join(_pieces(element)).strip()
            style = element.find(f"{_W}pPr/{_W}pStyle")
            level = headings.get(style.get(f"{_W}val"), 0) if style is not None else 0
            if text:
                yield f"{'#' * level} {' '.join(text.split())}" if level else text
        elif element.tag == f"{_W}tbl":
            rows = [" | ".join(cells) for cells in _rows(element) if any(cells)]
            if rows:
                yield "\n".join(rows)
        elif element.tag not in _NOT_SHOWN:
            yield from _blocks(element, headings)


def _rows(table: Any) -> Iterator[list[str]]:
    for row in table.iter(f"{_W}tr"):
        # A table in a cell is part of that cell's text.
        if next(row.iterancestors(f"{_W}tbl")) is table:
            yield [
                " ".join("".join(_pieces(cell)).split())
                for cell in row.iter(f"{_W}tc")
                if next(cell.iterancestors(f"{_W}tr")) is row
            ]


def _pieces(element: Any) -> Iterator[str]:
    for child in element:
        if child.tag == f"{_W}t":
            yield child.text or ""
        elif child.tag in _SIGNS:
            yield _SIGNS[child.tag]
        elif child.tag not in _NOT_SHOWN:
            yield from _pieces(child)
            # Of a cell, a text box, a table in a cell.
            if child.tag == f"{_W}p":
                yield "\n"
