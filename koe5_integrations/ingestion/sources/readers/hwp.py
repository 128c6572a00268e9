"""HWPX and HWP 5, the formats of Hangul (한글): paragraphs, tables and notes."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

from koe5_integrations.ingestion.sources.contract import Parsed

__all__ = ["read_hwp"]

_log = logging.getLogger("koe5_integrations")


def read_hwp(path: Path) -> Parsed:
    """Read a document: tables as Markdown, numbers of lists and notes as Hangul shows them."""
    from hwpx import HwpxDocument

    with warnings.catch_warnings():
        # It is said below, with the file's name.
        warnings.simplefilter("ignore")
        document = HwpxDocument.open(path)
    with document:
        lost = document.conversion_report
        if lost is not None and lost.unconverted:
            _log.warning("%s: not all of it could be read: %s", path, dict(lost.unconverted))
        text = document.text.markdown(list_labels=True, notes=True, section_separator="\n\n")
        said = document.parts.metadata
    title = (said.title or "").strip() if said else ""
    return Parsed(text, {"title": title} if title else {})
