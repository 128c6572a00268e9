"""From what a source holds to a document, or to the reason why it is none."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from koe5_integrations.errors import InputError, shorten
from koe5_integrations.ingestion.documents import Document, MetadataValue, Rejected, clean_metadata
from koe5_integrations.ingestion.sources.contract import Result, UnreadableError
from koe5_integrations.text import check_texts, is_unicode

__all__ = ["checked", "clean_name", "id_of", "library_error"]

_INT64 = range(-(2**63), 2**63)
_SHOWN = 300


def checked(
    *, id: object, text: object, metadata: Mapping[Any, Any], source: str, place: str
) -> Result:
    """Return a document in NFC and without NUL characters, or what is wrong with it.

    Args:
        id: a string or an integer.
        text: a string with something visible in it.
        metadata: see :func:`~koe5_integrations.ingestion.documents.clean_metadata`.
        source: of the document.
        place: of the document.
    """
    known = None
    try:
        known = id_of(id)
        return Document(known, _text(text), _metadata(metadata), source, place)
    except UnreadableError as error:
        return Rejected(place, str(error), source, known)


def id_of(value: object) -> str:
    """Return an id as a string.

    Raises:
        UnreadableError: it can't be one.
    """
    # True is an int to Python, but not an id.
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise UnreadableError(f"its id must be a string or an integer, not {shorten(value)}")
    if isinstance(value, int):
        # Python refuses to write integers of thousands of digits.
        if value not in _INT64:
            raise UnreadableError("its id is an integer of more than 64 bits: make it a string")
        return str(value)
    if not value.strip():
        raise UnreadableError("its id is empty")
    if "\0" in value or not is_unicode(value):
        raise UnreadableError(f"its id is not valid Unicode: {shorten(value)}")
    return str(value)


def clean_name(text: str) -> str:
    """Return a path's text as UTF-8 can write it, in NFC."""
    return unicodedata.normalize("NFC", text.encode("utf-8", "backslashreplace").decode())


def library_error(error: Exception) -> str:
    """Return what a library says went wrong, on one line and not too long."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _text(text: object) -> str:
    try:
        # str subclasses of the frameworks would not survive being written and read again.
        plain = str(text).replace("\0", "") if isinstance(text, str) else text
        return check_texts([plain])[0]  # type: ignore[list-item]  # it refuses what is no str
    except InputError as error:
        raise UnreadableError(f"its text {error.problem}: {shorten(error.value)}") from None


def _metadata(metadata: Mapping[Any, Any]) -> dict[str, MetadataValue]:
    try:
        return {_string(k, k): _value(k, v) for k, v in clean_metadata(metadata).items()}
    except UnreadableError:
        raise
    except Exception as error:  # whatever the str() of a stranger's object raises
        raise UnreadableError(f"its metadata can't be stored: {library_error(error)}") from None


def _value(key: str, value: MetadataValue) -> MetadataValue:
    if isinstance(value, str):
        return _string(key, value)
    # More than the stores' integers hold.
    return str(value) if isinstance(value, int) and value not in _INT64 else value


def _string(key: str, value: str) -> str:
    if not is_unicode(value):
        raise UnreadableError(f"its metadata {key!r} holds a lone surrogate: {shorten(value)}")
    return unicodedata.normalize("NFC", str(value).replace("\0", ""))
