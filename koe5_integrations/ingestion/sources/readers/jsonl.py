"""JSON Lines: an object in each line is a document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from koe5_integrations.errors import shorten
from koe5_integrations.ingestion.documents import Rejected
from koe5_integrations.ingestion.sources.checking import checked
from koe5_integrations.ingestion.sources.contract import (
    Fields,
    File,
    MissingColumnError,
    OnRead,
    Result,
    UnreadableError,
)
from koe5_integrations.ingestion.sources.lines import (
    Lines,
    LineTooLongError,
    check_decoded,
    open_text,
)

__all__ = ["check_jsonl", "read_jsonl"]

_FIRST = 10


def check_jsonl(file: File, fields: Fields) -> None:
    """Refuse a file whose first objects all lack the text: they are hardly all broken.

    Raises:
        MissingColumnError: see above.
    """
    with open_text(file.path, "\n", lambda n: None) as stream:
        lines = list(islice(_parsed(Lines(stream), file), _FIRST))
    rows = [row for _, row in lines if isinstance(row, dict)]
    if len(rows) == _FIRST and not any(fields.text in row for row in rows):
        raise MissingColumnError(
            f"none of its first {_FIRST} objects has a field {fields.text!r} (the first has: "
            f"{_names(rows[0])}): name another with text_field="
        )


def read_jsonl(file: File, fields: Fields, on_read: OnRead) -> Iterator[Result]:
    """Read a document from each line that is not blank; a bad one is rejected."""
    with open_text(file.path, "\n", on_read) as stream:
        for place, row in _parsed(Lines(stream), file):
            if isinstance(row, str):
                yield Rejected(place, row, file.source)
            elif fields.text not in row:
                yield Rejected(
                    place, f"it has no field {fields.text!r} (it has: {_names(row)})", file.source
                )
            else:
                id = row.get(fields.id)
                yield checked(
                    id=place if id is None else id,
                    text=row[fields.text],
                    metadata=fields.metadata_of(row),
                    source=file.source,
                    place=place,
                )


def _parsed(lines: Lines, file: File) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yield the place of each line, and its object or what is wrong with it."""
    while True:
        try:
            line = next(lines)
        except StopIteration:
            return
        except LineTooLongError as error:
            yield f"{file.name}:{lines.number}", str(error)
            continue
        if line.strip():
            yield f"{file.name}:{lines.number}", _object(line)


def _object(line: str) -> dict[str, Any] | str:
    try:
        check_decoded(line)
        row = json.loads(line)
    except UnreadableError as error:
        return f"it is {error}"
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({error}): write one object per line"
    return row if isinstance(row, dict) else f"it must be a JSON object, not {shorten(row)}"


def _names(row: dict[str, Any]) -> str:
    return ", ".join(shorten(name) for name in islice(row, 10)) or "none"
