"""Reading lines, JSON Lines and Parquet, with errors that name the place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from koe5_integrations.errors import MissingExtraError
from koe5_integrations.evaluation.datasets.dataset import DatasetError

__all__ = ["check_sha256", "json_rows", "lines", "parquet_rows", "whole_text"]

_BOM = b"\xef\xbb\xbf"


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank with their numbers from 1, without line ends.

    Only a line feed ends a line, so that U+2028 and the like stay in the text they are part of.

    Raises:
        DatasetError: the file can't be read or is not UTF-8.
    """
    try:
        with file.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                line = _decoded(file, number, raw.removeprefix(_BOM) if number == 1 else raw)
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except OSError as error:
        raise DatasetError(f"{file} can't be read: {error.strerror or error}") from error


def whole_text(file: Path) -> str:
    """Return a file's text as it stands, without a byte order mark.

    Raises:
        DatasetError: the file can't be read or is not UTF-8.
    """
    try:
        raw = file.read_bytes().removeprefix(_BOM)
    except OSError as error:
        raise DatasetError(f"{file} can't be read: {error.strerror or error}") from error
    return "\n".join(_decoded(file, n, line) for n, line in enumerate(raw.split(b"\n"), start=1))


def json_rows(file: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield line number, line and object of a JSON Lines file.

    Raises:
        DatasetError: a line is no JSON object.
    """
    for number, line in lines(file):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", type(error).__name__)
            raise DatasetError(
                f"{file}, line {number}: not JSON ({reason}); write one object per line"
            ) from error
        yield number, line, row if isinstance(row, dict) else {}


def parquet_rows(
    files: Iterable[Path], columns: tuple[str, ...], layout: str
) -> list[dict[str, Any]]:
    """Return the rows of Parquet files as dicts of the columns.

    Args:
        files: of one table, in order.
        columns: that every file must have.
        layout: what they should be, for the error.

    Raises:
        DatasetError: a file is missing, damaged, or lacks a column.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("reading Parquet", "eval") from error
    rows: list[dict[str, Any]] = []
    for file in files:
        if not file.is_file():
            raise DatasetError(f"{file} does not exist; {layout}")
        try:
            names = parquet.read_schema(file).names
            missing = [column for column in columns if column not in names]
            if missing:
                raise DatasetError(
                    f"{file} has no column {', '.join(map(repr, missing))} (it has {names!r}); "
                    f"{layout}"
                )
            # Not the path: read_table would take columns from the names of its folders too.
            with file.open("rb") as stream:
                rows += parquet.read_table(stream, columns=list(columns)).to_pylist()
        except DatasetError:
            raise
        # Arrow checks neither that strings are UTF-8 nor that dates are dates.
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
            raise DatasetError(
                f"{file} is no Parquet file or is damaged ({error}); fetch it again"
            ) from error
    return rows


def check_sha256(file: Path, expected: str) -> None:
    """Raise DatasetError unless the file has this SHA-256 digest, in hexadecimal."""
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise DatasetError(
            f"{file} has the sha256 {found}, not {expected}: it is another revision or damaged. "
            "Fetch it again; to measure on it as it is, pass its folder instead of the name"
        )


def _decoded(file: Path, number: int, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{file}, line {number}: not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error
