"""Embeddings in a file that outlives the process.

One SQLite file per fingerprint, because SQLite makes each write whole or absent, also when the
process is killed, and lets several processes share the file. Its write-ahead log spares a question
the wait for the disk; what a power failure can take is the last writes, never the file.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from koe5_integrations.caching import Embedded, Rows
from koe5_integrations.errors import CacheWarning, ConfigError
from koe5_integrations.warn import warn

__all__ = ["DiskCache", "check_folder"]

_T = TypeVar("_T")

# SQLite allows 32,766 parameters in a statement, older ones 999; and as many at once keep the
# connection from others for some milliseconds.
_KEYS_AT_ONCE = 900
_WAIT_S = 60.0
_COUNTS = struct.Struct("<II")
_CHECKSUM = struct.Struct("<I")
_TABLE = "CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, embedding BLOB NOT NULL)"
_LOCKED = {"SQLITE_BUSY", "SQLITE_BUSY_RECOVERY", "SQLITE_LOCKED"}

# Connections of the process this one was forked from: SQLite forbids to use or to close them here.
_inherited: list[sqlite3.Connection] = []


def check_folder(folder: str) -> None:
    """Raise ConfigError if this is no name for a folder; it need not exist yet."""
    if not folder or Path(folder).expanduser().is_file():
        raise ConfigError(f"embedding_cache={folder!r} must be a folder; it is made if need be")


class DiskCache:
    """Embeddings of one fingerprint, in one file, each with a checksum.

    Safe to use from any thread, beside other processes that use the same file. The file is made
    when it is first used.

    Args:
        folder: on a local disk: SQLite can't share a file between machines.
        fingerprint: the file's name.
    """

    def __init__(self, folder: str | os.PathLike[str], fingerprint: str) -> None:
        self.folder = Path(folder)
        self.file = self.folder / f"{fingerprint}.sqlite3"
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._inode = 0

    def __del__(self) -> None:
        if getattr(self, "_database", None) is not None:
            self.close()

    def close(self) -> None:
        """Close the file; it is opened again when next used."""
        with self._lock:
            self._close()

    def forget(self) -> None:
        """Leave the connection to the process this one was forked from."""
        self._lock = threading.Lock()
        if self._database is not None:
            _inherited.append(self._database)
            self._database = None

    def fill(self, keys: Sequence[bytes], rows: Rows, into: Embedded) -> Rows:
        """Write what is stored and sound of these rows' keys into them; return the other rows.

        Raises:
            ConfigError: the file can't be read, or rows are missing that could not be stored.
        """
        row_of = {keys[row]: row for row in rows.tolist()}
        wanted = list(row_of)
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            some = wanted[start : start + _KEYS_AT_ONCE]
            for key, packed in self._run(partial(_select, keys=some)):
                if _unpack(key, packed, row_of[key], into):
                    del row_of[key]
        if row_of:
            self._check_writable()
        return np.fromiter(row_of.values(), np.intp, len(row_of))

    def store(self, keys: Sequence[bytes], rows: Rows, embedded: Embedded) -> None:
        """Write these rows, all or, if the process dies meanwhile, none.

        Raises:
            ConfigError: the file can't be written (permissions, disk full, locked for a minute).
        """
        packed = [(keys[row], _pack(keys[row], row, embedded)) for row in rows.tolist()]

        def insert(database: sqlite3.Connection) -> None:
            with database:
                database.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", packed)

        self._run(insert)

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        with self._lock:
            try:
                return self._attempt(work)
            except sqlite3.DatabaseError as error:
                self._set_aside(error)
            return self._attempt(work)

    def _attempt(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run on an open connection; what is left of sqlite3's errors means a damaged file."""
        try:
            if self._database is None:
                self._database = self._open()
            return work(self._database)
        except (OSError, sqlite3.OperationalError) as error:
            self._close()
            raise self._unusable(error) from error

    def _open(self) -> sqlite3.Connection:
        self.folder.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.file, timeout=_WAIT_S, check_same_thread=False)
        try:
            deadline = time.monotonic() + _WAIT_S
            while True:
                try:
                    database.execute("PRAGMA journal_mode = WAL")
                    break
                except sqlite3.OperationalError as error:
                    # Another process switches the same new file; SQLite doesn't wait here.
                    if error.sqlite_errorname not in _LOCKED or time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(_TABLE)
            self._inode = self.file.stat().st_ino
        except BaseException:
            self._inode = self.file.stat().st_ino if self.file.exists() else 0
            database.close()
            raise
        return database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _check_writable(self) -> None:
        """Say it before an hour's work rather than after."""
        for path in (self.folder, self.file):
            if not os.access(path, os.W_OK):
                raise self._unusable(PermissionError(f"no permission to write {path.name}"))

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"embedding cache {str(self.folder)!r}: {error}; see to space and permissions there, "
            "or choose another folder"
        )

    def _set_aside(self, error: sqlite3.Error) -> None:
        self._close()
        aside = self.file.with_suffix(".damaged")
        try:
            if self.file.stat().st_ino != self._inode:
                return  # another process has done it already
            for belonging in ("-wal", "-shm"):  # would be applied to the new file
                self.file.with_name(self.file.name + belonging).unlink(missing_ok=True)
            self.file.replace(aside)
        except FileNotFoundError:
            return
        except OSError as refused:
            raise self._unusable(refused) from error
        warn(
            CacheWarning(
                f"{self.file} is damaged ({error}) and was set aside as {aside.name}; what it held "
                "is computed again"
            )
        )


def _select(database: sqlite3.Connection, keys: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    marks = ",".join("?" * len(keys))
    # Whatever a damaged entry may hold instead.
    query = f"SELECT key, CAST(embedding AS BLOB) FROM embeddings WHERE key IN ({marks})"
    return database.execute(query, keys).fetchall()


def _pack(key: bytes, row: int, embedded: Embedded) -> bytes:
    counts = _COUNTS.pack(int(embedded.read[row]), int(embedded.uncut[row]))
    stored: bytes = embedded.vectors[row].astype("<f4").tobytes() + counts
    return stored + _CHECKSUM.pack(zlib.crc32(key + stored))


def _unpack(key: bytes, packed: bytes, row: int, into: Embedded) -> bool:
    """Write a stored embedding into its row, and return whether it is sound."""
    stored, checksum = packed[: -_CHECKSUM.size], packed[-_CHECKSUM.size :]
    size = into.vectors.shape[1] * 4
    if len(stored) != size + _COUNTS.size or checksum != _CHECKSUM.pack(zlib.crc32(key + stored)):
        return False
    into.vectors[row] = np.frombuffer(stored, dtype="<f4", count=into.vectors.shape[1])
    into.read[row], into.uncut[row] = _COUNTS.unpack_from(stored, size)
    return True
