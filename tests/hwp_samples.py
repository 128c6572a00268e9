"""Documents of Hangul (한글), small but real: HWP 5 in its compound file, and HWPX in its ZIP.

Written from the published formats: Hancom's "한글 문서 파일 형식 5.0", KS X 6101 (OWPML), and
[MS-CFB] for the compound file.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence

_END, _FREE, _IS_FAT = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD
_SECTOR, _MINI_SECTOR = 512, 64


def make_hwp(paragraphs: Sequence[str], *, flags: int = 1) -> bytes:
    """Write an HWP 5 document.

    Args:
        paragraphs: its text.
        flags: bit 0 is compressed, bit 1 encrypted, bit 2 distributed (read only).
    """
    pack = _deflate if flags & 1 else bytes
    header = b"HWP Document File".ljust(32, b"\0") + bytes([0, 3, 0, 5]) + struct.pack("<I", flags)
    properties = _record(16, 0, struct.pack("<7H3I", 1, 1, 1, 1, 1, 1, 1, 0, 0, 0))
    body = b"".join(map(_paragraph, paragraphs))
    return _compound(header.ljust(256, b"\0"), pack(properties), pack(body))


def make_hwpx(body: str, *, title: str = "") -> bytes:
    """Write an HWPX document whose section holds this XML (prefix ``hp``)."""
    parts = {
        "mimetype": "application/hwp+zip",
        "META-INF/container.xml": (
            '<ocf:container xmlns:ocf="urn:oasis:names:tc:opendocument:xmlns:container">'
            '<ocf:rootfiles><ocf:rootfile full-path="Contents/content.hpf" '
            'media-type="application/hwpml-package+xml"/></ocf:rootfiles></ocf:container>'
        ),
        "Contents/content.hpf": (
            '<opf:package xmlns:opf="http://www.idpf.org/2007/opf/"><opf:metadata>'
            f"<opf:title>{title}</opf:title></opf:metadata><opf:manifest>"
            '<opf:item id="header" href="Contents/header.xml" media-type="application/xml"/>'
            '<opf:item id="section0" href="Contents/section0.xml" media-type="application/xml"/>'
            '</opf:manifest><opf:spine><opf:itemref idref="header"/>'
            '<opf:itemref idref="section0"/></opf:spine></opf:package>'
        ),
        "Contents/header.xml": (
            '<hh:head xmlns:hh="http://www.hancom.co.kr/hwpml/2011/head" version="1.4" secCnt="1"/>'
        ),
        "Contents/section0.xml": (
            '<hs:sec xmlns:hs="http://www.hancom.co.kr/hwpml/2011/section" '
            f'xmlns:hp="http://www.hancom.co.kr/hwpml/2011/paragraph">{body}</hs:sec>'
        ),
    }
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            method = zipfile.ZIP_STORED if name == "mimetype" else None
            package.writestr(name, content, compress_type=method)
    return written.getvalue()


def hwpx_paragraph(content: str) -> str:
    """Return a paragraph of HWPX; ``content`` is what its run holds."""
    run = f'<hp:run charPrIDRef="0">{content}</hp:run>'
    return f'<hp:p id="0" paraPrIDRef="0" styleIDRef="0">{run}</hp:p>'


def _record(tag: int, level: int, data: bytes) -> bytes:
    return struct.pack("<I", tag | level << 10 | len(data) << 20) + data


def _paragraph(text: str) -> bytes:
    written = f"{text}\r".encode("utf-16-le")
    head = struct.pack("<IIHBBHHHI", len(written) // 2 | 1 << 31, 0, 0, 0, 0, 1, 0, 0, 0)
    return _record(66, 0, head) + _record(67, 1, written) + _record(68, 1, struct.pack("<II", 0, 0))


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def _compound(header: bytes, properties: bytes, section: bytes) -> bytes:
    """Write the three streams of a document, each of less than 4,096 bytes, into a compound file.

    Sector 0 is the FAT, 1 and 2 the directory, 3 the mini FAT, and the mini stream follows.
    """
    mini, mini_fat, starts = b"", list[int](), []
    for stream in (header, properties, section):
        starts.append(len(mini_fat))
        sectors = -(-len(stream) // _MINI_SECTOR)
        mini_fat += [*range(len(mini_fat) + 1, len(mini_fat) + sectors), _END]
        mini += stream.ljust(sectors * _MINI_SECTOR, b"\0")
    assert len(mini_fat) <= _SECTOR // 4, "more text than this writer has room for"
    last = 3 + -(-len(mini) // _SECTOR)
    fat = [_IS_FAT, 2, _END, _END, *range(5, last + 1), _END]
    # The children of a folder are a tree; here each hangs to the right of the one before.
    directory = [
        _entry("Root Entry", 5, child=1, start=4, size=len(mini)),
        _entry("DocInfo", 2, right=2, start=starts[1], size=len(properties)),
        _entry("BodyText", 1, right=3, child=4),
        _entry("FileHeader", 2, start=starts[0], size=len(header)),
        _entry("Section0", 2, start=starts[2], size=len(section)),
    ]
    begin = struct.pack(
        "<8s16x5H6x9I",
        *(bytes.fromhex("d0cf11e0a1b11ae1"), 0x3E, 3, 0xFFFE, 9, 6),
        *(0, 1, 1, 0, 4096, 3, 1, _END, 0),
    )
    return b"".join(
        [
            begin + struct.pack("<109I", 0, *[_FREE] * 108),
            _sectors(struct.pack(f"<{len(fat)}I", *fat), b"\xff"),
            _sectors(b"".join(directory)),
            _sectors(struct.pack(f"<{len(mini_fat)}I", *mini_fat), b"\xff"),
            _sectors(mini),
        ]
    )


def _entry(
    name: str, kind: int, *, right: int = _FREE, child: int = _FREE, start: int = 0, size: int = 0
) -> bytes:
    written = name.encode("utf-16-le")
    return written.ljust(64, b"\0") + struct.pack(
        "<HBB3I36xIQ", len(written) + 2, kind, 1, _FREE, right, child, start, size
    )


def _sectors(data: bytes, filling: bytes = b"\0") -> bytes:
    return data.ljust(-(-len(data) // _SECTOR) * _SECTOR, filling)
