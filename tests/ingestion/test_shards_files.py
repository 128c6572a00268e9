"""Tests of the files of koe5_integrations.ingestion.shards: the format alone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_samples import DIM, FINGERPRINT, LONG, document, vectors_of

from koe5_integrations.errors import ShardError
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.ingestion.shards import read_shard, write_shard

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

MANY = [passage for n in range(1500) for passage in document(f"문서 {n}", n, 2, title=f"제목 {n}")]


def written(path: Path, passages: list[Passage], removed: list[str] | None = None) -> Path:
    vectors = vectors_of(passages)
    write_shard(path, passages, vectors, fingerprint=FINGERPRINT, removed=removed or [])
    return path


def test_a_shard_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Passages with the types of their metadata, vectors bit for bit, removals, fingerprint."""
    passages = [*document("갑", title="제목", n=2**70, share=0.1, good=False), *MANY]
    shard = read_shard(written(tmp_path / "a.parquet", passages, ["을", "b\n", "\0"]))
    assert shard.passages == passages
    np.testing.assert_array_equal(shard.vectors, vectors_of(passages))
    assert (shard.removed, shard.fingerprint) == (["을", "b\n", "\0"], FINGERPRINT)
    assert shard.vectors.dtype == np.float32


def test_a_shard_of_removals_alone(tmp_path: Path) -> None:
    """It has no rows, and vectors of the right shape nevertheless."""
    shard = read_shard(written(tmp_path / "a.parquet", [], ["갑"]))
    assert (shard.passages, shard.vectors.shape, shard.removed) == ([], (0, DIM), ["갑"])


def test_what_outsiders_find_in_the_file(tmp_path: Path) -> None:
    """Plain columns without gaps, vectors stored as they are, row groups for single reads."""
    path = written(tmp_path / "a.parquet", MANY, ["을"])
    table = pq.read_table(path)
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        **dict.fromkeys(
            ["id", "document_id", "document_hash", "source", "text", "metadata", "text_hash"],
            "string",
        ),
        "chunk": "int32",
        "chunks": "int32",
        "vector": "fixed_size_list<element: float not null>[4]",
    }
    about = {key: value for key, value in table.schema.metadata.items() if key.startswith(b"koe5:")}
    assert about[b"koe5:format_version"] == b"1"
    assert about[b"koe5:fingerprint"] == FINGERPRINT.digest.encode()
    assert about[b"koe5:fingerprint_fields"] == FINGERPRINT.to_json().encode()
    metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(n).num_rows for n in range(3)] == [1024, 1024, 952]
    leaves = {metadata.row_group(0).column(n).path_in_schema: n for n in range(10)}
    vector = metadata.row_group(0).column(leaves["vector.list.element"])
    assert (vector.compression, vector.has_dictionary_page) == ("UNCOMPRESSED", False)
    assert metadata.row_group(0).column(leaves["text"]).compression == "ZSTD"


def test_pandas_reads_it(tmp_path: Path) -> None:
    """A row is a passage, its vector an array of numbers."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(written(tmp_path / "a.parquet", MANY, ["을"]))
    assert frame["id"].tolist() == [passage.id for passage in MANY]
    np.testing.assert_array_equal(np.stack(frame["vector"]), vectors_of(MANY))


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """The newer shard is there alone, and what is refused leaves the older one."""
    path = written(tmp_path / "a.parquet", document("갑", 0, 3))
    written(path, document("을"))
    with pytest.raises(ShardError, match=r"a\.parquet: document '갑' is incomplete"):
        written(path, document("갑", 0, 3)[1:])
    with pytest.raises(ShardError, match="vectors must be float32"):
        write_shard(path, [], None, fingerprint=FINGERPRINT)
    assert read_shard(path).passages == document("을")
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The error names the file and what the system says."""
    with pytest.raises(ShardError, match=r"nowhere.a\.parquet can't be written: No such file"):
        written(tmp_path / "nowhere" / "a.parquet", document("갑"))
    with pytest.raises(ShardError, match="there is no such shard"):
        read_shard(tmp_path / "a.parquet")
    with pytest.raises(ShardError, match=r"no shard .*directory"):
        read_shard(tmp_path)


@pytest.mark.parametrize("size", [0, 3, 1000, -1, -100])
def test_a_truncated_file_is_damaged(size: int, tmp_path: Path) -> None:
    """Wherever it ends, the error names it and the way out."""
    path = written(tmp_path / "a.parquet", MANY)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ShardError, match=r"a\.parquet is damaged or no shard .* ingest again"):
        read_shard(path)


def test_a_bit_that_flips_anywhere_is_noticed(tmp_path: Path) -> None:
    """No text and no vector comes back other than it was written."""
    path = written(tmp_path / "a.parquet", MANY)
    sound = path.read_bytes()
    metadata = pq.ParquetFile(path).metadata
    start = max(
        metadata.row_group(2).column(n).data_page_offset
        + metadata.row_group(2).column(n).total_compressed_size
        for n in range(10)
    )
    rng = np.random.default_rng(0)
    for place in rng.integers(4, start, 1000 if LONG else 30):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        # What is not read here, as the hashes of the texts, may be damaged.
        with suppress(ShardError):
            shard = read_shard(path)
            assert shard.passages == MANY
            np.testing.assert_array_equal(shard.vectors, vectors_of(MANY))


def rewritten(path: Path, about: dict[bytes, bytes | None], drop: str | None = None) -> None:
    table = pq.read_table(path)
    known = {**table.schema.metadata, **about}
    table = table.replace_schema_metadata({k: v for k, v in known.items() if v is not None})
    pq.write_table(table if drop is None else table.drop_columns(drop), path)


CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "no shard": ({"about": {b"koe5:format_version": None}}, "is Parquet, but no shard"),
    "another version": (
        {"about": {b"koe5:format_version": b"2"}},
        "has format version 2, and this koe5-integrations reads 1",
    ),
    "a column is missing": ({"about": {}, "drop": "text_hash"}, "its columns are id, document_id"),
    "no fingerprint": ({"about": {b"koe5:fingerprint": None}}, "is damaged or no shard"),
    "no fields": ({"about": {b"koe5:fingerprint_fields": b"{"}}, "is damaged or no shard"),
    "other fields": (
        {"about": {b"koe5:fingerprint_fields": b'{"model": "m"}'}},
        "was written by another version of koe5-integrations",
    ),
    "another digest": ({"about": {b"koe5:fingerprint": b"f"}}, "its fingerprint is f, but its"),
}


@pytest.mark.parametrize(("change", "problem"), CHANGED.values(), ids=CHANGED.keys())
def test_parquet_that_is_no_shard_of_ours(
    change: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    """The error names the file and says what it is instead."""
    path = written(tmp_path / "a.parquet", document("갑"))
    rewritten(path, **change)
    with pytest.raises(ShardError, match=problem):
        read_shard(path)
