"""What finding, reading and checking pass to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from koe5_integrations.ingestion.documents import Document, Rejected

__all__ = [
    "Fields",
    "File",
    "MissingColumnError",
    "OnRead",
    "Parsed",
    "Result",
    "RowReader",
    "UnreadableError",
]

Result: TypeAlias = Document | Rejected
OnRead: TypeAlias = Callable[[int], None]
"""Told how many more bytes have been read."""


class UnreadableError(Exception):
    """A document is rejected for this reason; never leaves this package."""


class MissingColumnError(UnreadableError):
    """All of a file's rows would be rejected: it lacks a column that was asked for."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to read.

    Attributes:
        path: to open it by.
        name: the path as it was given, with ``/`` and in NFC: the document's id.
        source: the argument it comes from, likewise.
    """

    path: Path
    name: str
    source: str


@dataclass(frozen=True, slots=True)
class Fields:
    """Which field or column of a row is what.

    Attributes:
        text: must be there.
        id: may be missing; the row's place is its id then.
        metadata: None for all others.
    """

    text: str
    id: str
    metadata: tuple[str, ...] | None

    def metadata_of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of a row's fields that are metadata."""
        if self.metadata is None:
            return {key: row[key] for key in row if key not in (self.text, self.id)}
        return {key: row[key] for key in self.metadata if key in row}


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's text, and what the file says of it (a title, its pages)."""

    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


RowReader: TypeAlias = Callable[[File, Fields, OnRead], Iterator[Result]]
