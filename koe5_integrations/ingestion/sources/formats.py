"""Which file is read by what, by its suffix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from koe5_integrations.errors import MissingExtraError
from koe5_integrations.ingestion.sources.contract import Fields, File, Parsed, RowReader
from koe5_integrations.ingestion.sources.readers.csv import check_csv, read_csv
from koe5_integrations.ingestion.sources.readers.docx import read_docx
from koe5_integrations.ingestion.sources.readers.html import read_html
from koe5_integrations.ingestion.sources.readers.hwp import read_hwp
from koe5_integrations.ingestion.sources.readers.jsonl import check_jsonl, read_jsonl
from koe5_integrations.ingestion.sources.readers.parquet import check_parquet, read_parquet
from koe5_integrations.ingestion.sources.readers.pdf import read_pdf
from koe5_integrations.ingestion.sources.readers.plain import read_plain

__all__ = ["FORMATS", "OneDocument", "Rows", "format_of", "require"]


@dataclass(frozen=True, slots=True)
class OneDocument:
    """A format whose files are a document each.

    Attributes:
        parse: reads one.
        needs: module it is read with.
        extra: of this package, that installs it.
    """

    parse: Callable[[Path], Parsed]
    needs: str = ""
    extra: str = "files"


@dataclass(frozen=True, slots=True)
class Rows:
    """A format whose files hold a document in each row.

    Attributes:
        read: reads one.
        check: refuses a file by its columns alone.
        needs: module it is read with.
        extra: of this package, that installs it.
    """

    read: RowReader
    check: Callable[[File, Fields], None]
    needs: str = ""
    extra: str = "parquet"


_PLAIN = OneDocument(read_plain)
_HTML = OneDocument(read_html, needs="bs4")
_HWP = OneDocument(read_hwp, needs="hwpx")
_JSONL = Rows(read_jsonl, check_jsonl)
_CSV = Rows(read_csv, check_csv)

FORMATS: dict[str, OneDocument | Rows] = {
    ".txt": _PLAIN,
    ".md": _PLAIN,
    ".markdown": _PLAIN,
    ".html": _HTML,
    ".htm": _HTML,
    ".pdf": OneDocument(read_pdf, needs="pypdf"),
    ".docx": OneDocument(read_docx, needs="docx"),
    ".hwpx": _HWP,
    ".hwp": _HWP,
    ".jsonl": _JSONL,
    ".ndjson": _JSONL,
    ".csv": _CSV,
    ".tsv": _CSV,
    ".parquet": Rows(read_parquet, check_parquet, needs="pyarrow"),
}


def format_of(file: File) -> OneDocument | Rows | None:
    """Return the format a file's suffix names; None if it is not one of ours."""
    return FORMATS.get(file.path.suffix.lower())


def require(file: File) -> None:
    """Check that what a file is read with is installed.

    Raises:
        MissingExtraError: it is not.
    """
    format = format_of(file)
    if format is not None and format.needs and find_spec(format.needs) is None:
        raise MissingExtraError(f"reading {file.name}", format.extra)
