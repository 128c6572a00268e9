"""CSV and TSV: each row is a document; the first names the columns."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from typing import Any, TextIO

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
from koe5_integrations.ingestion.sources.decoding import LARGEST
from koe5_integrations.ingestion.sources.lines import (
    Lines,
    LineTooLongError,
    check_decoded,
    open_text,
)

__all__ = ["check_columns", "check_csv", "read_csv"]


def check_csv(file: File, fields: Fields) -> None:
    """Refuse a file whose columns are not the ones asked for.

    Raises:
        MissingColumnError: see above.
        UnreadableError: its columns can't be read.
    """
    with open_text(file.path, "", lambda n: None) as stream:
        _Rows(stream, file, fields)


def read_csv(file: File, fields: Fields, on_read: OnRead) -> Iterator[Result]:
    """Read a document from each row; one of another length, or badly quoted, is rejected.

    Raises:
        UnreadableError: its columns can't be read.
    """
    with open_text(file.path, "", on_read) as stream:
        rows = _Rows(stream, file, fields)
        for place, row in rows:
            if isinstance(row, str):
                yield Rejected(place, row, file.source)
            else:
                yield checked(
                    id=row.get(fields.id) or place,
                    text=row[fields.text],
                    metadata=fields.metadata_of(row),
                    source=file.source,
                    place=place,
                )


class _Rows:
    """Iterates over a file's rows: the place of each, and its fields or what is wrong with it."""

    def __init__(self, stream: TextIO, file: File, fields: Fields) -> None:
        # The limit is the process's; a lower one would reject what others can read.
        csv.field_size_limit(max(LARGEST, csv.field_size_limit()))
        self._file = file
        self._lines = Lines(stream)
        delimiter = "\t" if file.path.suffix.lower() == ".tsv" else ","
        # Strict, because a quote that is left open would swallow the rows after it.
        self._reader = csv.reader(self._lines, delimiter=delimiter, strict=True)
        try:
            self._columns = next(self._reader, [])
            check_decoded("".join(self._columns))
        except (csv.Error, UnreadableError) as error:
            raise UnreadableError(f"the names of its columns can't be read: {error}") from None
        check_columns(self._columns, fields)

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any] | str]]:
        while True:
            before = self._lines.number
            try:
                values = next(self._reader)
                problem = self._problem(values)
            except StopIteration:
                return
            except csv.Error as error:
                problem = f"it is not CSV ({error}): a quote within a quoted field must be doubled"
            except LineTooLongError as error:
                problem = str(error)
            last = self._lines.number
            place = f"{self._file.name}:{before + 1}"
            if problem:
                yield place, problem + (f" (lines {before + 1} to {last})" * (last > before + 1))
            elif values:
                yield place, dict(zip(self._columns, values, strict=True))

    def _problem(self, values: list[str]) -> str:
        if values and len(values) != len(self._columns):
            return f"it has {len(values)} fields, and the first row {len(self._columns)}"
        for name, value in zip(self._columns, values, strict=False):
            try:
                check_decoded(value)
            except UnreadableError as error:
                return f"its field {name!r} is {error}"
        return ""


def check_columns(columns: list[str], fields: Fields) -> None:
    """Refuse columns that lack one that was asked for.

    Raises:
        MissingColumnError: see above.
        UnreadableError: two have the same name.
    """
    there = ", ".join(map(shorten, columns)) or "none"
    wanted = [("text_field", fields.text)]
    # No id is no fault, unless one was asked for by a name of its own.
    if fields.id != "id":
        wanted.append(("id_field", fields.id))
    wanted += [("metadata_fields", name) for name in fields.metadata or ()]
    for option, name in wanted:
        if name not in columns:
            raise MissingColumnError(
                f"it has no column {name!r} (it has: {there}): name another with {option}="
            )
    name, times = Counter(columns).most_common(1)[0]
    if times > 1:
        raise UnreadableError(f"it has {times} columns named {name!r}: rename them")
