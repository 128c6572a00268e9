"""What ingestion reads: documents, and what could not be made one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Document", "MetadataValue", "Rejected", "clean_metadata"]

MetadataValue: TypeAlias = str | int | float | bool
"""What every vector store can keep and filter by."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text to be made findable.

    Attributes:
        id: the same for the same document in every run; a file's is its path as it was given.
        text: all of it, of any length.
        metadata: kept with each of its passages; files have their path under ``source``.
        source: the argument it came from, so that what left that source can be told.
        place: where it stands, for people: ``notes/a.md``, ``faq.jsonl:12``.
    """

    id: str
    text: str
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    source: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something in a source that can't be ingested; the rest goes on without it.

    Attributes:
        place: where it stands, as in :class:`Document`.
        reason: what is wrong with it and what can be done.
        source: the argument it came from.
        id: of the document it would have been, if that is known: what is stored of that stays.
    """

    place: str
    reason: str
    source: str = ""
    id: str | None = None


def clean_metadata(metadata: Mapping[str, Any]) -> dict[str, MetadataValue]:
    """Return metadata as every vector store can keep it.

    Nothing is left out but None: lists, mappings and numbers that are not finite become JSON text,
    anything else (dates, paths) its ``str()``.

    Raises:
        ValueError: a key is not a string, or empty.
    """
    cleaned: dict[str, MetadataValue] = {}
    for key, value in metadata.items():
        if not isinstance(key, str) or not key:
            raise ValueError(f"metadata key {key!r} must be a string that is not empty")
        if value is None:
            continue
        if getattr(value, "shape", None) == ():
            value = value.item()  # a number of numpy
        if isinstance(value, str | bool | int) or (
            isinstance(value, float) and math.isfinite(value)
        ):
            cleaned[key] = value
        elif isinstance(value, list | tuple | dict | float):
            cleaned[key] = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
        else:
            cleaned[key] = str(value)
    return cleaned
