"""A shard's file: Parquet that DuckDB, pandas and Ray read, with all that it says of itself."""

from __future__ import annotations

import base64
import json
import os
import secrets
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from koe5_integrations.errors import MissingExtraError, ShardError
from koe5_integrations.fingerprint import Fingerprint
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.ingestion.shards.checks import ShardCheck
from koe5_integrations.ingestion.shards.durable import new_file
from koe5_integrations.ingestion.shards.fingerprints import StoredFingerprint
from koe5_integrations.ingestion.shards.layout import (
    DIGEST,
    FIELDS,
    FORMAT_VERSION,
    INDEXED_COLUMNS,
    PASSAGE_COLUMNS,
    REMOVED,
    ROWS_IN_GROUP,
    UID,
    VECTOR_LEAF,
    VERSION,
    check_version,
    reading,
    shard_schema,
    writing,
)
from koe5_integrations.types import Vectors

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise MissingExtraError("koe5_integrations.ingestion.shards", "ingest") from error

__all__ = [
    "Shard",
    "ShardFile",
    "new_uid",
    "put_shard",
    "read_shard",
    "stacked",
    "write_shard",
]

# Parquet's readers refuse a footer of more than 100 MB.
_REMOVED_LIMIT = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Shard:
    """What a shard holds.

    Attributes:
        passages: of documents that lie wholly in it.
        vectors: float32, shape (len(passages), dim).
        removed: ids of the documents that it removes.
        fingerprint: of the vectors.
    """

    passages: list[Passage]
    vectors: Vectors
    removed: list[str]
    fingerprint: Fingerprint


def write_shard(
    path: str | os.PathLike[str],
    passages: Sequence[Passage],
    vectors: Vectors,
    *,
    fingerprint: Fingerprint,
    removed: Sequence[str] = (),
) -> None:
    """Write a shard to a file, which is there wholly or not at all, and durable afterwards.

    Args:
        path: its folder must exist; a file of that name is replaced.
        passages: of documents that are there with all their passages; in any order.
        vectors: float32, shape (len(passages), dim), all finite.
        fingerprint: of the vectors.
        removed: ids of documents that there are no more.

    Raises:
        ShardError: passages, vectors or ids are not as they must be (nothing is written), or the
            file can't be written.
    """
    path = Path(path)
    dim = vectors.shape[1] if isinstance(vectors, np.ndarray) and vectors.ndim == 2 else 0
    check = ShardCheck(str(path), dim)
    check.add(passages, vectors)
    check.finish(removed)
    put_shard(path, new_uid(), passages, vectors, fingerprint, removed)


def read_shard(path: str | os.PathLike[str]) -> Shard:
    """Read a whole shard.

    Raises:
        ShardError: the file is missing, damaged, no shard, or of another format version.
    """
    with ShardFile(Path(path)) as file:
        pieces = list(file.pieces())
        return Shard(
            passages=[passage for passages, _ in pieces for passage in passages],
            vectors=stacked([vectors for _, vectors in pieces], file.stored.dim),
            removed=file.removed(),
            fingerprint=file.stored.fingerprint(path),
        )


def new_uid() -> str:
    """Return a name for a new shard that no other has: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def stacked(pieces: Sequence[Vectors], dim: int) -> Vectors:
    """Put vectors one under the other, shape (n, dim)."""
    return np.concatenate([np.empty((0, dim), np.float32), *pieces])


def put_shard(
    path: Path,
    uid: str,
    passages: Sequence[Passage],
    vectors: Vectors,
    fingerprint: Fingerprint,
    removed: Sequence[str],
) -> None:
    """Write what has been checked."""
    dim = vectors.shape[1]
    about = {
        VERSION: str(FORMAT_VERSION),
        DIGEST: fingerprint.digest,
        FIELDS: fingerprint.to_json(),
        UID: uid,
    }
    schema = shard_schema(dim).with_metadata(about)
    packed = base64.b64encode(zlib.compress(json.dumps(list(removed)).encode()))
    if len(packed) > _REMOVED_LIMIT:
        raise ShardError(
            f"{path}: {len(removed)} documents are too many to remove at once, {len(packed)} bytes "
            f"of at most {_REMOVED_LIMIT}: remove them in several shards"
        )
    try:
        table = _table(passages, vectors, schema)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ShardError(f"{path}: a passage can't be written: {error}") from error
    with writing(path), new_file(path) as file:
        _write(file, table, dim, packed if removed else None)


def _write(file: BinaryIO, table: Any, dim: int, removed: bytes | None) -> None:
    narrow = [name for name in table.column_names if name != "vector"]
    with pq.ParquetWriter(
        file,
        table.schema,
        # Vectors are noise: neither a dictionary nor a compression makes them smaller.
        compression={**dict.fromkeys(narrow, "zstd"), VECTOR_LEAF: "none"},
        use_dictionary=["document_id", "document_hash", "source", "metadata"],
        write_statistics=["document_id"],
        write_page_checksum=True,
    ) as writer:
        writer.write_table(table, row_group_size=ROWS_IN_GROUP)
        if removed is not None:
            writer.add_key_value_metadata({REMOVED: removed})


def _table(passages: Sequence[Passage], vectors: Vectors, schema: Any) -> Any:
    def value(passage: Passage, name: str) -> object:
        if name == "metadata":
            return json.dumps(dict(passage.metadata), ensure_ascii=False, allow_nan=False)
        return getattr(passage, name)

    *narrow, vector = schema
    columns = [pa.array([value(p, field.name) for p in passages], field.type) for field in narrow]
    flat = pa.array(vectors.reshape(-1))
    columns.append(pa.FixedSizeListArray.from_arrays(flat, type=vector.type))
    return pa.table(columns, schema=schema)


class ShardFile:
    """A shard's file, open for reading what is asked for; a context manager.

    Args:
        path: of the file.

    Attributes:
        path: of the file.
        uid: what the shard is known by, whatever its name.
        stored: the fingerprint of its vectors.

    Raises:
        ShardError: the file is missing, damaged, no shard, or of another format version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path):
            # Each page has a checksum, so that a failing disk gives an error and no vectors.
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
        try:
            self._about = self._file.metadata.metadata or {}
            if VERSION not in self._about:
                raise ShardError(
                    f"{path} is Parquet, but no shard: move it to another folder, and ingest it "
                    "as a source if it holds documents"
                )
            with reading(path):
                check_version(path, int(self._about[VERSION]))
                self.uid = self._about[UID].decode()
                arrow = self._file.schema_arrow.remove_metadata()
                dim = arrow.field("vector").type.list_size
                if not arrow.equals(shard_schema(dim)):
                    raise ValueError(f"its columns are {', '.join(arrow.names)}")
                self.stored = StoredFingerprint(
                    self._about[DIGEST].decode(), json.loads(self._about[FIELDS]), dim
                )
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def removed(self) -> list[str]:
        """Return the ids of the documents that the shard removes."""
        with reading(self.path):
            packed = self._about.get(REMOVED)
            return json.loads(zlib.decompress(base64.b64decode(packed))) if packed else []

    def narrow(self) -> Iterator[list[tuple[str, str, str, str, str]]]:
        """Yield (id, document_id, document_hash, source, text_hash) of some rows at a time."""
        for group in range(self._groups):
            yield list(zip(*self._columns(group, INDEXED_COLUMNS).values(), strict=True))

    def pieces(
        self, documents: Collection[str] | None = None
    ) -> Iterator[tuple[list[Passage], Vectors]]:
        """Yield passages and their vectors, some rows at a time.

        Args:
            documents: ids of those wanted; None is all.
        """
        for group in range(self._groups):
            rows = None
            if documents is not None:
                ids = self._columns(group, ("document_id",))["document_id"]
                rows = [row for row, document in enumerate(ids) if document in documents]
                if not rows:
                    continue
            yield self._passages(group, rows), self._vectors(group, rows)

    def vectors(self, rows: Sequence[int]) -> Vectors:
        """Return the vectors of these rows, shape (len(rows), dim).

        Args:
            rows: in ascending order.
        """
        found, start = [], 0
        for group in range(self._groups):
            end = start + self._file.metadata.row_group(group).num_rows
            if within := [row - start for row in rows if start <= row < end]:
                found.append(self._vectors(group, within))
            start = end
        return stacked(found, self.stored.dim)

    @property
    def _groups(self) -> int:
        return int(self._file.num_row_groups)

    def _columns(
        self, group: int, names: Sequence[str], rows: Sequence[int] | None = None
    ) -> dict[str, list[Any]]:
        with reading(self.path):
            table = self._file.read_row_group(group, columns=list(names))
            if rows is not None:
                table = table.take(rows)
            return {name: table.column(name).to_pylist() for name in names}

    def _passages(self, group: int, rows: Sequence[int] | None) -> list[Passage]:
        columns = self._columns(group, PASSAGE_COLUMNS, rows)
        with reading(self.path):
            columns["metadata"] = [json.loads(metadata) for metadata in columns["metadata"]]
        return [
            Passage(**dict(zip(columns, values, strict=True)))
            for values in zip(*columns.values(), strict=True)
        ]

    def _vectors(self, group: int, rows: Sequence[int] | None) -> Vectors:
        with reading(self.path):
            column = self._file.read_row_group(group, columns=["vector"]).column("vector")
            flat = column.combine_chunks().flatten().to_numpy()
            vectors: Vectors = flat.reshape(-1, self.stored.dim)
            return vectors if rows is None else vectors[rows]
