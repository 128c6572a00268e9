"""Parquet: each row is a document; a part of a row group is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from koe5_integrations.ingestion.documents import Rejected
from koe5_integrations.ingestion.sources.checking import checked, library_error
from koe5_integrations.ingestion.sources.contract import (
    Fields,
    File,
    MissingColumnError,
    OnRead,
    Result,
)
from koe5_integrations.ingestion.sources.readers.csv import check_columns

__all__ = ["check_parquet", "read_parquet"]

_ROWS = 256


def check_parquet(file: File, fields: Fields) -> None:
    """Refuse a file whose columns are not the ones asked for, or not of text.

    Raises:
        MissingColumnError: see above.
    """
    import pyarrow.parquet as pq

    _check_schema(pq.read_schema(file.path), fields)


def read_parquet(file: File, fields: Fields, on_read: OnRead) -> Iterator[Result]:
    """Read a document from each row; where a part of the file is damaged, it ends there."""
    import pyarrow.parquet as pq

    size = file.path.stat().st_size
    with pq.ParquetFile(file.path, pre_buffer=False, buffer_size=1 << 20) as parquet:
        _check_schema(parquet.schema_arrow, fields)
        columns = None
        if fields.metadata is not None:
            wanted = {fields.text, fields.id, *fields.metadata}
            columns = [name for name in parquet.schema_arrow.names if name in wanted]
        total, row = parquet.metadata.num_rows, 0
        for batch in parquet.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
            for i in range(batch.num_rows):
                yield _row(batch, i, f"{file.name}:{row + i + 1}", file, fields)
            on_read(size * (row + batch.num_rows) // total - size * row // total)
            row += batch.num_rows


def _row(batch: Any, i: int, place: str, file: File, fields: Fields) -> Result:
    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[i].as_py()
        except Exception as error:  # bytes that are no UTF-8, times that Python can't hold
            reason = f"its column {name!r} can't be read: {library_error(error)}"
            return Rejected(place, reason, file.source)
    id = row.get(fields.id)
    return checked(
        id=place if id is None else id,
        text=row[fields.text],
        metadata=fields.metadata_of(row),
        source=file.source,
        place=place,
    )


def _check_schema(schema: Any, fields: Fields) -> None:
    import pyarrow.types as types

    check_columns(schema.names, fields)
    kind = schema.field(fields.text).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise MissingColumnError(
            f"its column {fields.text!r} holds {kind}, not text: name another with text_field="
        )
