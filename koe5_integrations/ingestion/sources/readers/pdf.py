"""PDF: the text of its pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from koe5_integrations.ingestion.sources.contract import Parsed, UnreadableError
from koe5_integrations.ingestion.sources.decoding import LARGEST, whole

__all__ = ["read_pdf"]


def read_pdf(path: Path) -> Parsed:
    """Read all pages, a blank line between them; their number and the title are metadata."""
    from pypdf import PdfReader
    from pypdf.errors import DependencyError

    with path.open("rb") as file, PdfReader(file) as pdf:
        try:
            # Many that only forbid printing are encrypted with an empty password.
            locked = pdf.is_encrypted and not pdf.decrypt("")
        except DependencyError as error:
            raise UnreadableError(f"it is encrypted: {error}") from None
        if locked:
            raise UnreadableError("it is encrypted: save it without a password first")
        pages = [""]
        length = 0
        for page in pdf.pages:
            pages.append(whole(page.extract_text()))
            length += len(pages[-1])
            if length > LARGEST:
                raise UnreadableError(f"its text has more than {LARGEST:,} characters: split it")
        if not any(map(str.strip, pages)):
            raise UnreadableError(
                f"there is no text in its pages ({len(pages) - 1}), only images of it perhaps: run "
                "it through OCR first, such as ocrmypdf -l kor"
            )
        metadata: dict[str, Any] = {"pages": len(pages) - 1}
        title = pdf.metadata.title if pdf.metadata else None
        if title and str(title).strip():
            metadata["title"] = str(title).strip()
    return Parsed("\n\n".join(text.strip() for text in pages if text.strip()), metadata)
