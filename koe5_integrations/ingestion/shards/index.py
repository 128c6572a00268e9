"""index.sqlite: what the shards hold, for quick questions. Lost or damaged, it is made again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from koe5_integrations.errors import ShardError
from koe5_integrations.ingestion.shards.database import Database

__all__ = ["Entry", "Index"]

_VERSION = 1
_PAGE = 1000

# Passages belong to documents as they are now; texts to any shard that ever had them.
_TABLES = """
CREATE TABLE shards (
    sequence INTEGER PRIMARY KEY, name TEXT NOT NULL, size INTEGER NOT NULL, uid TEXT NOT NULL
);
CREATE TABLE documents (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, hash TEXT NOT NULL, source TEXT NOT NULL,
    shard INTEGER NOT NULL
);
CREATE INDEX documents_of_shard ON documents (shard);
CREATE TABLE passages (id TEXT PRIMARY KEY, document INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX passages_of_document ON passages (document);
CREATE TABLE texts (
    hash TEXT PRIMARY KEY, shard INTEGER NOT NULL, row INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE removals (
    shard INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (shard, id)
) WITHOUT ROWID;
CREATE TABLE loads (
    store TEXT NOT NULL, shard INTEGER NOT NULL, PRIMARY KEY (store, shard)
) WITHOUT ROWID;
"""
# Lists too long for a statement's parameters, and what only this process needs.
_TEMPORARY = """
CREATE TEMP TABLE asked (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE new_documents (
    id TEXT PRIMARY KEY, hash TEXT NOT NULL, source TEXT NOT NULL
) WITHOUT ROWID;
CREATE TEMP TABLE new_passages (id TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TEMP TABLE gone (document INTEGER PRIMARY KEY);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A shard as the index knows it.

    Attributes:
        sequence: its place in history.
        name: of its file.
        size: of its file, bytes.
        uid: what it is known by, whatever its name.
    """

    sequence: int
    name: str
    size: int
    uid: str


class Index:
    """The index of a folder's shards; any thread may use it.

    Args:
        file: made if need be.
        suspect: it may have been torn, so all of it is checked.

    Raises:
        IndexDamagedError: it is damaged, or of another version.
        ShardError: the system doesn't let it be opened.
    """

    def __init__(self, file: Path, *, suspect: bool) -> None:
        self._folder = file.parent
        self._database = Database(file, _TABLES, _TEMPORARY, version=_VERSION, suspect=suspect)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # Shards

    def entries(self) -> list[Entry]:
        """Return all shards in their order."""
        with self._database.transaction() as run:
            rows = run.execute("SELECT sequence, name, size, uid FROM shards ORDER BY sequence")
            return [Entry(*row) for row in rows]

    def entry(self, sequence: int) -> Entry:
        """Return a shard.

        Raises:
            ShardError: there is none of that number.
        """
        with self._database.transaction() as run:
            row = run.execute(
                "SELECT sequence, name, size, uid FROM shards WHERE sequence = ?", (sequence,)
            ).fetchone()
        if row is None:
            raise ShardError(f"{self._folder}: there is no shard {sequence}")
        return Entry(*row)

    def sequence_of(self, uid: str) -> int | None:
        """Return the place of the shard known by this; None if there is none."""
        with self._database.transaction() as run:
            row = run.execute("SELECT sequence FROM shards WHERE uid = ?", (uid,)).fetchone()
        return None if row is None else int(row[0])

    def next_sequence(self) -> int:
        """Return the place after the last shard."""
        with self._database.transaction() as run:
            return _next_sequence(run)

    def add(
        self,
        number: int,
        name: str,
        size: int,
        uid: str,
        rows: Iterable[Sequence[tuple[str, str, str, str, str]]],
        removed: Iterable[str],
    ) -> tuple[int, list[str]]:
        """Take a shard in as the latest: wholly, or not at all.

        Args:
            number: its place, unless that is taken.
            name: of its file.
            size: of its file.
            uid: what it is known by.
            rows: (id, document_id, document_hash, source, text_hash) of its passages in their
                order, some at a time.
            removed: ids of the documents it removes.

        Returns:
            Its place, and the ids of documents of which it took a passage's id away, which are
            therefore gone too.
        """
        with self._database.transaction() as run:
            sequence = max(number, _next_sequence(run))
            run.execute("INSERT INTO shards VALUES (?, ?, ?, ?)", (sequence, name, size, uid))
            for table in ("new_documents", "new_passages", "gone"):
                run.execute(f"DELETE FROM {table}")
            start = 0
            for some in rows:
                try:
                    run.executemany("INSERT INTO new_passages VALUES (?, ?)", (r[:2] for r in some))
                except sqlite3.IntegrityError as error:
                    raise ShardError(
                        f"{self._folder}: shard {name} has two passages of one id: move it out of "
                        "the folder and ingest again"
                    ) from error
                run.executemany(
                    "INSERT OR IGNORE INTO new_documents VALUES (?, ?, ?)", (r[1:4] for r in some)
                )
                run.executemany(
                    "INSERT OR IGNORE INTO texts VALUES (?, ?, ?)",
                    ((r[4], sequence, row) for row, r in enumerate(some, start)),
                )
                start += len(some)
            _ask(run, removed)
            run.execute(
                "INSERT INTO gone SELECT key FROM documents WHERE id IN "
                "(SELECT id FROM new_documents UNION SELECT id FROM asked)"
            )
            robbed = run.execute(
                "SELECT DISTINCT d.key, d.id FROM new_passages n JOIN passages p ON p.id = n.id "
                "JOIN documents d ON d.key = p.document WHERE d.key NOT IN (SELECT * FROM gone)"
            ).fetchall()
            run.executemany("INSERT INTO gone VALUES (?)", ((key,) for key, _ in robbed))
            run.execute(
                "INSERT INTO removals SELECT ?, p.id FROM gone JOIN passages p USING (document) "
                "WHERE p.id NOT IN (SELECT id FROM new_passages)",
                (sequence,),
            )
            run.execute("DELETE FROM passages WHERE document IN (SELECT * FROM gone)")
            run.execute("DELETE FROM documents WHERE key IN (SELECT * FROM gone)")
            run.execute(
                "INSERT INTO documents (id, hash, source, shard) "
                "SELECT id, hash, source, ? FROM new_documents",
                (sequence,),
            )
            run.execute(
                "INSERT INTO passages SELECT n.id, d.key FROM new_passages n "
                "JOIN documents d ON d.id = n.document"
            )
            return sequence, [document for _, document in robbed]

    # What is current

    def hashes(self, documents: Sequence[str]) -> dict[str, str]:
        """Return the hash of each of these documents that there is."""
        with self._database.transaction() as run:
            _ask(run, documents)
            return dict(run.execute("SELECT id, hash FROM asked JOIN documents USING (id)"))

    def owners(self, passages: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Return each of these passages that there is, with its document."""
        with self._database.transaction() as run:
            _ask(run, passages)
            rows = run.execute(
                "SELECT p.id, d.id FROM asked JOIN passages p USING (id) "
                "JOIN documents d ON d.key = p.document"
            ).fetchall()
        return iter(rows)

    def places(self, texts: Sequence[str]) -> list[tuple[int, int, str]]:
        """Return (shard, row, hash) of each of these texts that a shard has, in that order."""
        with self._database.transaction() as run:
            _ask(run, texts)
            return run.execute(
                "SELECT shard, row, hash FROM asked JOIN texts ON hash = id ORDER BY shard, row"
            ).fetchall()

    def count(self) -> tuple[int, int]:
        """Return how many documents and passages there are."""
        with self._database.transaction() as run:
            query = "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM passages)"
            documents, passages = run.execute(query).fetchone()
            return documents, passages

    def passage_pages(self) -> Iterator[list[str]]:
        """Yield the ids of all passages, sorted, a page at a time."""
        last = ""
        while True:
            with self._database.transaction() as run:
                query = "SELECT id FROM passages WHERE id > ? ORDER BY id LIMIT ?"
                page = [row[0] for row in run.execute(query, (last, _PAGE))]
            if not page:
                return
            yield page
            last = page[-1]

    def current_shards(self) -> list[int]:
        """Return the shards that have documents as they are now, in their order."""
        with self._database.transaction() as run:
            query = "SELECT DISTINCT shard FROM documents ORDER BY shard"
            return [row[0] for row in run.execute(query)]

    def change(self, sequence: int) -> tuple[set[str], list[str]]:
        """Return the documents a shard has as they are now, and the passages that went with it."""
        with self._database.transaction() as run:
            query = "SELECT id FROM documents WHERE shard = ?"
            documents = {row[0] for row in run.execute(query, (sequence,))}
            query = (
                "SELECT id FROM removals WHERE shard = ? AND id NOT IN (SELECT id FROM passages)"
            )
            return documents, [row[0] for row in run.execute(query, (sequence,))]

    # Stores

    def unloaded(self, store: str) -> list[int]:
        """Return the shards that a store has not been given, in their order."""
        with self._database.transaction() as run:
            query = (
                "SELECT sequence FROM shards WHERE sequence NOT IN "
                "(SELECT shard FROM loads WHERE store = ?) ORDER BY sequence"
            )
            return [row[0] for row in run.execute(query, (store,))]

    def mark_loaded(self, store: str, sequence: int) -> None:
        """Remember that a store has a shard."""
        with self._database.transaction() as run:
            run.execute("INSERT OR IGNORE INTO loads VALUES (?, ?)", (store, sequence))

    # What a run has seen

    def start_run(self) -> None:
        """Forget what was seen."""
        with self._database.transaction() as run:
            run.execute("DELETE FROM seen")

    def mark_seen(self, documents: Sequence[str]) -> set[str]:
        """Remember documents, and return which of them were remembered before."""
        with self._database.transaction() as run:
            _ask(run, documents)
            before = {row[0] for row in run.execute("SELECT id FROM asked JOIN seen USING (id)")}
            run.execute("INSERT OR IGNORE INTO seen SELECT id FROM asked")
            return before

    def unseen_pages(self, sources: Sequence[str]) -> Iterator[list[str]]:
        """Yield the documents of these sources that were not seen, a page at a time."""
        last = ""
        while True:
            with self._database.transaction() as run:
                _ask(run, sources)
                query = (
                    "SELECT id FROM documents WHERE id > ? AND source IN (SELECT id FROM asked) "
                    "AND id NOT IN (SELECT id FROM seen) ORDER BY id LIMIT ?"
                )
                page = [row[0] for row in run.execute(query, (last, _PAGE))]
            if not page:
                return
            yield page
            last = page[-1]


def _next_sequence(run: sqlite3.Connection) -> int:
    (last,) = run.execute("SELECT coalesce(max(sequence), 0) FROM shards").fetchone()
    return int(last) + 1


def _ask(run: sqlite3.Connection, ids: Iterable[str]) -> None:
    """Put ids where a statement can use them."""
    run.execute("DELETE FROM asked")
    run.executemany("INSERT OR IGNORE INTO asked VALUES (?)", ((i,) for i in ids))
