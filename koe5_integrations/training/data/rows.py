"""Rows of Parquet, JSON Lines, JSON, CSV and TSV, each with its place."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from koe5_integrations.errors import DatasetError, MissingExtraError
from koe5_integrations.evaluation.datasets.files import json_rows, whole_text
from koe5_integrations.ingestion.sources.contract import UnreadableError
from koe5_integrations.ingestion.sources.decoding import LARGEST
from koe5_integrations.ingestion.sources.lines import check_decoded, open_text

__all__ = ["SUFFIXES", "read_rows"]

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
"""Files that can be read."""
_ROWS_AT_ONCE = 4096


def read_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each row with its place: ``pairs.jsonl:3`` is a line, ``pairs.parquet row 3`` a row.

    A few thousand rows are in memory at a time, of JSON the file. CSV and TSV have a header; their
    values are texts as they stand, and an empty field is None.

    Args:
        file: one of :data:`SUFFIXES`; JSON in UTF-8, CSV also in CP949 as Korean Excel writes it.

    Raises:
        DatasetError: the file is of another form, damaged, or a line of it is.
        MissingExtraError: it is Parquet and pyarrow is not installed.
    """
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return _parquet(file)
    if suffix == ".jsonl":
        return ((f"{file}:{number}", row) for number, _, row in json_rows(file))
    if suffix == ".json":
        return _json(file)
    if suffix in {".csv", ".tsv"}:
        return _csv(file, "\t" if suffix == ".tsv" else ",")
    raise DatasetError(f"{file} is none of {', '.join(SUFFIXES)}; convert it to one of them")


def _parquet(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("reading Parquet", "train") from error
    number = 0
    try:
        with parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{file} row {number}", row
    # Arrow checks neither that strings are UTF-8 nor that dates are dates.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DatasetError(
            f"{file} is no Parquet file or is damaged after row {number} ({error}); make it again"
        ) from error


def _json(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        rows = json.loads(whole_text(file))
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{file} is not JSON ({error}); a file with one object per line is named .jsonl"
        ) from error
    if not isinstance(rows, list):
        raise DatasetError(f"{file} must hold a list of objects, not {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        yield f"{file} row {number}", row if isinstance(row, dict) else {}


def _csv(file: Path, delimiter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    # The limit is the process's; a lower one would refuse what others can read.
    csv.field_size_limit(max(LARGEST, csv.field_size_limit()))
    names: list[str] = []
    at = 0
    try:
        with open_text(file, "", lambda n: None) as stream:
            # Strict, because a quote that is left open would swallow the rows after it.
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            for values in reader:
                at, begins = reader.line_num, at + 1
                check_decoded("".join(values))
                if not names:
                    names = values
                elif values and len(values) != len(names):
                    raise DatasetError(
                        f"{file}:{begins}: it has {len(values)} fields, and the first line "
                        f"{len(names)}; quote fields that hold the delimiter"
                    )
                elif values:
                    yield (
                        f"{file}:{begins}",
                        {name: value or None for name, value in zip(names, values, strict=True)},
                    )
    except UnreadableError as error:
        raise DatasetError(f"{file}:{at}: it is {error}") from error
    except csv.Error as error:
        raise DatasetError(
            f"{file}:{at + 1}: it is not CSV ({error}); double a quote within a quoted field"
        ) from error
