"""A shard's layout in Parquet, and the errors of files that are not of it."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from koe5_integrations.errors import MissingExtraError, ShardError

try:
    import pyarrow as pa
except ImportError as error:
    raise MissingExtraError("koe5_integrations.ingestion.shards", "ingest") from error

__all__ = [
    "DIGEST",
    "FIELDS",
    "FORMAT_VERSION",
    "INDEXED_COLUMNS",
    "PASSAGE_COLUMNS",
    "REMOVED",
    "ROWS_IN_GROUP",
    "UID",
    "VECTOR_LEAF",
    "VERSION",
    "check_version",
    "reading",
    "shard_schema",
    "writing",
]

FORMAT_VERSION = 1

# Few enough that a single vector is read fast.
ROWS_IN_GROUP = 1024
VECTOR_LEAF = "vector.list.element"

_TEXTS = ("id", "document_id", "document_hash", "source", "text", "metadata")
_NUMBERS = ("chunk", "chunks")
PASSAGE_COLUMNS = _TEXTS + _NUMBERS
INDEXED_COLUMNS = ("id", "document_id", "document_hash", "source", "text_hash")

# What a file says of itself.
VERSION = b"koe5:format_version"
DIGEST = b"koe5:fingerprint"
FIELDS = b"koe5:fingerprint_fields"
UID = b"koe5:shard"
# Not as rows: they would have no vector, and such rows older readers of Parquet can't read.
REMOVED = b"koe5:removed"


def shard_schema(dim: int) -> Any:
    """Return the columns, for pyarrow."""

    def column(name: str, kind: Any) -> Any:
        return pa.field(name, kind, nullable=False)

    vector = pa.list_(column("element", pa.float32()), dim)
    return pa.schema(
        [
            *(column(name, pa.string()) for name in _TEXTS),
            column("text_hash", pa.string()),
            *(column(name, pa.int32()) for name in _NUMBERS),
            column("vector", vector),
        ]
    )


def check_version(path: Path, version: object) -> None:
    """Refuse another format than this version of the package writes.

    Raises:
        ShardError: it is another one.
    """
    if version != FORMAT_VERSION:
        raise ShardError(
            f"{path} has format version {version}, and this koe5-integrations reads "
            f"{FORMAT_VERSION}: use the version that wrote it, or ingest the documents again into "
            "another folder"
        )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Make of whatever goes wrong with a shard's file an error that names it and the remedy."""
    try:
        yield
    except ShardError:
        raise
    except FileNotFoundError as error:
        raise ShardError(f"{path}: there is no such shard") from error
    except (pa.ArrowException, OSError, ValueError, KeyError, AttributeError, zlib.error) as error:
        # What a file holds has no number of the system's; only a failing disk has.
        if getattr(error, "errno", None) not in (None, errno.EIO):
            raise ShardError(
                f"{path} can't be read: {error}; see to that, and run again"
            ) from error
        raise ShardError(
            f"{path} is damaged or no shard ({' '.join(str(error).split())}): move it out of its "
            "folder and ingest again, which embeds its documents anew (koe5 verify names what is "
            "missing)"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make of a full or failing disk an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise ShardError(
            f"{path} can't be written: {error.strerror or error}. What was written before is kept: "
            "see to space and permissions there, and run again"
        ) from error
