"""Passages and vectors for tests of shards, and a disk that forgets what was not synced."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from koe5_integrations.fingerprint import Fingerprint
from koe5_integrations.ingestion.passages import Passage, text_hash
from koe5_integrations.ingestion.shards import ShardFolder
from koe5_integrations.types import Vectors

LONG = os.environ.get("KOE5_LONG_TESTS") == "1"

DIM = 4
FINGERPRINT = Fingerprint(
    "koe5-mini", "0" * 32, "query: ", "passage: ", "mean", True, 512, None, "fp32", "NFC"
)


def document(
    id: str, version: int = 0, chunks: int = 1, *, source: str = "글", **metadata: Any
) -> list[Passage]:
    """A version of a document, whose passages say which it is."""
    return [
        Passage(
            id=id if chunks == 1 else f"{id}#{chunk}",
            document_id=id,
            document_hash=f"{version:032x}",
            source=source,
            text=f"{id} 제{version}판 {chunk}쪽",
            metadata=metadata,
            chunk=chunk,
            chunks=chunks,
        )
        for chunk in range(chunks)
    ]


def by_id(*documents: list[Passage]) -> dict[str, Passage]:
    return {passage.id: passage for some in documents for passage in some}


def vectors_of(passages: Sequence[Passage]) -> Vectors:
    """Vectors that tell which text they are of."""
    rows = [np.frombuffer(bytes.fromhex(text_hash(p.text)), np.uint32)[:DIM] for p in passages]
    return np.array(rows, dtype=np.float32).reshape(-1, DIM)


def opened(path: Path) -> ShardFolder:
    return ShardFolder(path, fingerprint=FINGERPRINT, dim=DIM)


def put(folder: ShardFolder, *documents: Sequence[Passage], removed: Sequence[str] = ()) -> int:
    """Write documents in one shard."""
    passages = [passage for document in documents for passage in document]
    return folder.write(passages, vectors_of(passages), removed=removed)


def contents(folder: ShardFolder) -> dict[str, Passage]:
    """All current passages by id, held against their vectors and what else the folder says."""
    found: dict[str, Passage] = {}
    for passages, vectors in folder.live():
        np.testing.assert_array_equal(vectors, vectors_of(passages))
        for passage in passages:
            assert passage.id not in found
            found[passage.id] = passage
    hashes = {p.document_id: p.document_hash for p in found.values()}
    assert folder.hashes([*hashes, "없음"]) == hashes
    assert folder.count() == (len(hashes), len(found))
    assert [i for page in folder.ids() for i in page] == sorted(found)
    return found


class Projection:
    """A store in memory, loaded as ingestion loads one."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.passages: dict[str, Passage] = {}

    def load(self, folder: ShardFolder) -> None:
        """Load what is not yet loaded."""
        for sequence in folder.unloaded(self.key):
            change = folder.change(sequence)
            np.testing.assert_array_equal(change.vectors, vectors_of(change.passages))
            assert not {p.id for p in change.passages} & set(change.removed_ids)
            self.passages.update({passage.id: passage for passage in change.passages})
            for removed in change.removed_ids:
                self.passages.pop(removed, None)
            folder.mark_loaded(self.key, sequence)


@contextmanager
def steps(
    step: Callable[[], None],
    *,
    statements: bool = True,
    connections: Sequence[sqlite3.Connection] = (),
) -> Iterator[None]:
    """Call ``step`` before every call that changes what a disk keeps, and every SQL statement.

    Args:
        step: is called.
        statements: of connections made meanwhile.
        connections: made before, of which the statements count too.
    """
    stepping_already = False

    def take() -> None:
        nonlocal stepping_already
        if not stepping_already:
            stepping_already = True
            step()
            stepping_already = False

    def before(called: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            take()
            return called(*args, **kwargs)

        return stepping

    connect = sqlite3.connect

    def tracing(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        if statements:
            connection.set_trace_callback(lambda _: take())
        return connection

    names = ("fsync", "replace", "unlink", "mkdir")
    calls = {name: before(getattr(os, name)) for name in names}
    for connection in connections:
        connection.set_trace_callback(lambda _: take())
    with mock.patch.multiple(os, **calls), mock.patch.object(sqlite3, "connect", tracing):
        yield
    for connection in connections:
        connection.set_trace_callback(None)


class Disk:
    """Remembers what of a folder has reached the disk, by the calls that wait for it.

    Args:
        root: of all that is watched.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[int, bytes] = {}
        self.folders: dict[int, dict[str, tuple[int, bool]]] = {}
        for folder, _, files in os.walk(root):
            self._sync(Path(folder))
            for file in files:
                self._sync(Path(folder) / file)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch what is synced; not by SQLite, whose file may be lost altogether."""
        fsync = os.fsync

        def watching(handle: int) -> None:
            fsync(handle)
            self._sync(Path(f"/proc/self/fd/{handle}").resolve())

        with mock.patch.object(os, "fsync", watching):
            yield

    def after_power_failure(self, target: Path) -> None:
        """Write what is left of it when the power fails now."""
        self._restore(self.root.stat().st_ino, target)

    def _sync(self, path: Path) -> None:
        inode = path.stat().st_ino
        if path.is_dir():
            self.folders[inode] = {p.name: (p.stat().st_ino, p.is_dir()) for p in path.iterdir()}
        else:
            self.files[inode] = path.read_bytes()

    def _restore(self, inode: int, target: Path) -> None:
        target.mkdir()
        for name, (entry, is_folder) in self.folders.get(inode, {}).items():
            if is_folder:
                self._restore(entry, target / name)
            elif not name.startswith("index.sqlite"):
                (target / name).write_bytes(self.files.get(entry, b""))


def after_kill(root: Path, target: Path) -> None:
    """Write what is left when the process is killed now: all that the system was told."""
    shutil.copytree(root, target)
