"""Plain text and Markdown: the whole file, as it stands."""

from __future__ import annotations

from pathlib import Path

from koe5_integrations.ingestion.sources.contract import Parsed
from koe5_integrations.ingestion.sources.decoding import read_text

__all__ = ["read_plain"]


def read_plain(path: Path) -> Parsed:
    """Read a file of text; an encoding other than UTF-8 is named in its metadata."""
    text, encoding = read_text(path)
    return Parsed(text, {} if encoding == "utf-8" else {"encoding": encoding})
