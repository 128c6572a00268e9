"""Passages that wait for their vectors, in files that any machine can embed.

A pending shard has the columns of a shard; what is missing of its vectors is to be made.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from koe5_integrations.errors import MissingExtraError, ShardError, SourceError
from koe5_integrations.fingerprint import Fingerprint
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.ingestion.shards.checks import ShardCheck
from koe5_integrations.ingestion.shards.durable import new_file
from koe5_integrations.types import Vectors

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise MissingExtraError("koe5_integrations.ingestion.pending", "ingest") from error

__all__ = ["MOST_PASSAGES", "Pending", "read_pending", "write_pending"]

MOST_PASSAGES = 65_536
"""In one file, which is embedded in memory: 270 MB of KoE5's vectors. One document may have more.
"""

_FINGERPRINT = b"koe5:to_be_embedded_with"
_TEXTS = ("id", "document_id", "document_hash", "source", "text", "metadata")
_NUMBERS = ("chunk", "chunks")
_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in _TEXTS),
        *(pa.field(name, pa.int32(), nullable=False) for name in _NUMBERS),
        pa.field("vector", pa.list_(pa.field("element", pa.float32(), nullable=False))),
    ]
)


@dataclass(frozen=True, slots=True)
class Pending:
    """What a pending shard holds.

    Attributes:
        passages: of documents that lie wholly in it.
        known: vectors that need not be made, float32, shape (dim,), by the passage's position.
        fingerprint: of the vectors.
    """

    passages: list[Passage]
    known: dict[int, Vectors]
    fingerprint: Fingerprint


def write_pending(
    path: str | os.PathLike[str],
    passages: Sequence[Passage],
    *,
    fingerprint: Fingerprint,
    known: Mapping[str, Vectors] | None = None,
) -> None:
    """Write passages that are to be embedded; the file appears when it is complete.

    Args:
        path: ``NAME.parquet`` in a folder that exists.
        passages: of documents that are there with all their passages; in any order.
        fingerprint: of the encoder that is to embed them.
        known: vectors such an encoder has made before, float32, shape (dim,), by the text's hash.

    Raises:
        ShardError: a document is incomplete, or these are too many passages for one file.
    """
    path, known = Path(path), known or {}
    check = ShardCheck(str(path), 0)
    check.add(passages, np.empty((len(passages), 0), dtype=np.float32))
    check.finish([])
    if len(passages) > MOST_PASSAGES and len(list(check.documents)) > 1:
        raise ShardError(
            f"{path}: {len(passages)} passages are too many for one file, which takes "
            f"{MOST_PASSAGES}: write several"
        )
    columns: dict[str, list[Any]] = {
        name: [getattr(passage, name) for passage in passages] for name in (*_TEXTS, *_NUMBERS)
    }
    columns["metadata"] = [json.dumps(dict(p.metadata), ensure_ascii=False) for p in passages]
    columns["vector"] = [known.get(passage.text_hash) for passage in passages]
    table = pa.table(
        [pa.array(columns[field.name], field.type) for field in _SCHEMA],
        schema=_SCHEMA.with_metadata({_FINGERPRINT: fingerprint.to_json()}),
    )
    with new_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def read_pending(path: str | os.PathLike[str]) -> Pending:
    """Read a pending shard.

    Raises:
        SourceError: there is no such file.
        ShardError: it is damaged, or something else.
    """
    try:
        table = pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise SourceError(
            f"{path}: there is no such file on {platform.node()}; every machine that embeds must "
            "see it under this path"
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise ShardError(
            f"{path} is damaged or no Parquet ({' '.join(str(error).split())}): write it again"
        ) from error
    about = table.schema.metadata or {}
    try:
        fingerprint = Fingerprint(**json.loads(about.get(_FINGERPRINT, b"{}")))
    except TypeError:
        fingerprint = None
    if fingerprint is None or table.schema.remove_metadata() != _SCHEMA:
        raise ShardError(
            f"{path} holds no passages to be embedded, or was written by another version of "
            "koe5-integrations: write it again"
        )
    columns = table.drop_columns(["vector"]).to_pydict()
    columns["metadata"] = [json.loads(written) for written in columns["metadata"]]
    rows = zip(*columns.values(), strict=True)
    return Pending(
        passages=[Passage(**dict(zip(columns, row, strict=True))) for row in rows],
        known={
            position: vector.values.to_numpy()
            for position, vector in enumerate(table.column("vector"))
            if vector.is_valid
        },
        fingerprint=fingerprint,
    )
