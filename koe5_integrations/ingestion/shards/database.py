"""The index's SQLite file: opened, locked, and told apart from its disk when something fails."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from koe5_integrations.errors import ShardError, shorten

__all__ = ["Database", "IndexDamagedError", "remove_database"]

_CACHE_KIB = 64 * 1024

# The disk's or the system's fault, which making the index again would not mend.
_OUTER = {"BUSY", "LOCKED", "NOMEM", "READONLY", "IOERR", "FULL", "CANTOPEN", "PERM", "AUTH"}


class IndexDamagedError(ShardError):
    """The index must be made again from the shards."""

    def __init__(self, file: Path, problem: object) -> None:
        super().__init__(
            f"{file} is damaged ({problem}): it is made again from the shards when the folder is "
            "opened next, so run again"
        )
        self.problem = problem


class Database:
    """A SQLite file that may be lost; any thread may use it.

    Args:
        file: made if need be.
        tables: statements that make a new file's tables.
        temporary: statements that make the tables of each connection.
        version: of the tables.
        suspect: the file may have been torn, so all of it is checked.

    Raises:
        IndexDamagedError: it is damaged, or of another version.
        ShardError: the system doesn't let it be opened.
    """

    def __init__(
        self, file: Path, tables: str, temporary: str, *, version: int, suspect: bool
    ) -> None:
        self._file = file
        self._lock = threading.Lock()
        if not file.exists():
            remove_database(file)  # what is left of a lost one would be applied to the new one
        self._database: sqlite3.Connection | None = None
        with self._errors():
            self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        try:
            with self._errors():
                _set_up(self._database)
                self._database.executescript(temporary)
                (found,) = self._database.execute("PRAGMA user_version").fetchone()
                (made,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
                if not made and not found:
                    self._database.executescript(
                        f"BEGIN; {tables} PRAGMA user_version = {version}; COMMIT;"
                    )
                elif found != version:
                    raise IndexDamagedError(file, f"version {found}, not {version}")
                elif suspect:
                    (found,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
                    if found != "ok":
                        raise IndexDamagedError(file, found)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection; what is done with it is kept wholly, or by an exception not at all.

        Raises:
            IndexDamagedError: the file is damaged, and has been removed.
            ShardError: it is closed, or the disk or the system fails.
        """
        with self._lock:
            database = self._database
            if database is None:
                raise ShardError(f"{self._file.parent} has been closed: open it again")
            try:
                with self._errors():
                    try:
                        database.execute("BEGIN")
                        yield database
                        database.execute("COMMIT")
                    except BaseException:
                        if database.in_transaction:
                            database.execute("ROLLBACK")
                        raise
            except IndexDamagedError:
                self._database = None
                database.close()
                remove_database(self._file)
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except UnicodeEncodeError as error:
            raise ShardError(
                f"{shorten(error.object)} holds a lone surrogate and is not valid Unicode"
            ) from None
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorname", "").removeprefix("SQLITE_").split("_")[0]
            if code in _OUTER:
                raise ShardError(
                    f"{self._file}: {error}. The shards are not touched by it: see to space and "
                    "permissions there, and run again"
                ) from error
            raise IndexDamagedError(self._file, error) from error


def remove_database(file: Path) -> None:
    """Remove a database, with all that SQLite keeps beside it."""
    # The log last: without it the file may be torn, and without the file it is worth nothing.
    for suffix in ("", "-wal", "-shm", "-journal"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def _set_up(database: sqlite3.Connection) -> None:
    # The folder's lock keeps other processes out; this spares the shared memory that SQLite's log
    # can't have on a network drive.
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA journal_mode = WAL")
    # A power failure takes the last transactions at most, which the shards make good.
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
