"""Vectors written as they are made; a file gets its name when it is complete."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, get_args

import typer

from koe5_integrations.cli.exits import CommandError
from koe5_integrations.cli.reading import Record
from koe5_integrations.errors import EncodingError, MissingExtraError

if TYPE_CHECKING:
    from koe5_integrations.encoder import KoE5Encoder
    from koe5_integrations.types import Role, Vectors

__all__ = ["OutputFormat", "Write", "open_output", "output_format"]

OutputFormat: TypeAlias = Literal["jsonl", "npy", "parquet"]
Write: TypeAlias = "Callable[[Sequence[Record], Vectors], None]"

# Rows in a row group: large enough to read fast, a few tens of MiB in memory.
_ROW_GROUP = 8192


def output_format(out: Path | None, wanted: OutputFormat | None, *, force: bool) -> OutputFormat:
    """Return the format to write, having checked that the output can be written.

    Args:
        out: None is stdout.
        wanted: None goes by the file's name.
        force: an existing file may be replaced.

    Raises:
        CommandError: the name doesn't tell the format, or the file can't be written there.
        MissingExtraError: parquet without pyarrow.
    """
    if out is None:
        picked = wanted or "jsonl"
        if picked != "jsonl":
            raise CommandError(f"--format {picked} needs a file: give --out FILE.{picked}")
        return picked
    known: dict[str, OutputFormat] = {f".{name}": name for name in get_args(OutputFormat)}
    by_name = known.get(out.suffix.lower())
    if wanted is None and by_name is None:
        raise CommandError(
            f"can't tell from --out {out} what to write: name it "
            f"{', '.join(f'*{suffix}' for suffix in known)}, or choose --format"
        )
    if not out.resolve().parent.is_dir():
        raise CommandError(f"--out {out}: there is no folder {out.parent}")
    if out.exists():
        if not out.is_file():
            raise CommandError(f"--out {out} is not a file")
        if not force:
            raise CommandError(f"{out} exists: choose another --out, or replace it with --force")
    picked = wanted or by_name or "jsonl"
    if picked == "parquet":
        _import_pyarrow()
    return picked


def open_output(
    out: Path | None, picked: OutputFormat, encoder: KoE5Encoder, role: Role
) -> AbstractContextManager[Write]:
    """Open an output; what it yields writes a slice of records and their vectors.

    Leaving it by an exception removes the file.
    """
    if out is None:
        return _jsonl(nullcontext(typer.get_binary_stream("stdout")), role)
    file = _new_file(out.resolve())
    if picked == "npy":
        return _npy(file, encoder.dim)
    if picked == "parquet":
        return _parquet(file, encoder, role)
    return _jsonl(file, role)


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name when it is complete; an error leaves nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _jsonl(output: AbstractContextManager[BinaryIO], role: Role) -> Iterator[Write]:
    with output as stream:

        def write(records: Sequence[Record], vectors: Vectors) -> None:
            # Nine digits tell any two float32 apart: four times as fast as json, a third smaller.
            numbers = ", ".join(["%.9g"] * vectors.shape[1])
            for record, vector in zip(records, vectors.tolist(), strict=True):
                head = json.dumps(
                    {"id": record.id, "text": record.text, "role": role}, ensure_ascii=False
                )
                line = f'{head[:-1]}, "embedding": [{numbers % tuple(vector)}]}}\n'
                stream.write(line.encode())
            stream.flush()

        yield write


@contextmanager
def _npy(output: AbstractContextManager[BinaryIO], dim: int) -> Iterator[Write]:
    from numpy.lib import format as npy

    with output as stream:
        rows = 0

        def header() -> None:
            # numpy pads the header so that the first axis can grow without moving the data.
            description = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
            npy.write_array_header_1_0(stream, description)

        def write(records: Sequence[Record], vectors: Vectors) -> None:
            nonlocal rows
            if vectors.shape[1] != dim:  # the header is written, and has no other check
                raise EncodingError(f"the model gives {vectors.shape[1]} dimensions, not {dim}")
            rows += len(vectors)
            stream.write(vectors.astype("<f4", copy=False).tobytes())

        header()
        yield write
        stream.seek(0)
        header()


@contextmanager
def _parquet(
    output: AbstractContextManager[BinaryIO], encoder: KoE5Encoder, role: Role
) -> Iterator[Write]:
    pa, pq = _import_pyarrow()
    fingerprint = encoder.fingerprint
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("text", pa.string()),
            ("embedding", pa.list_(pa.float32(), encoder.dim)),
        ],
        metadata={
            "koe5:role": role,
            "koe5:fingerprint": fingerprint.digest,
            "koe5:fingerprint_fields": fingerprint.to_json(),
        },
    )
    # No dictionaries: hardly a value comes twice.
    with output as stream, pq.ParquetWriter(stream, schema, use_dictionary=False) as file:
        waiting: list[Any] = []

        def flush() -> None:
            file.write_table(pa.Table.from_batches(waiting, schema), row_group_size=_ROW_GROUP)
            waiting.clear()

        def write(records: Sequence[Record], vectors: Vectors) -> None:
            columns = [
                pa.array([record.id for record in records], pa.string()),
                pa.array([record.text for record in records], pa.string()),
                pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
            ]
            waiting.append(pa.RecordBatch.from_arrays(columns, schema=schema))
            if sum(map(len, waiting)) >= _ROW_GROUP:
                flush()

        yield write
        flush()


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("--format parquet", "parquet") from error
    return pyarrow, pyarrow.parquet
