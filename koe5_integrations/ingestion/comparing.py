"""What a verification reads of shards, and remembers: ids, on disk, and a few passages."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np

from koe5_integrations.errors import shorten
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.ingestion.shards import ShardFolder
from koe5_integrations.types import Vectors

__all__ = ["AGAIN", "Finding", "IdSets", "Sample", "Truth"]

Finding: TypeAlias = tuple[bool | None, str]
"""Whether something is as it must be (None: it could not be checked), and a sentence about it."""

AGAIN = "run the same koe5 ingest again"

_SAME_LENGTH = 1e-3


class IdSets:
    """The ids of the shards and of the store, compared without holding either in memory."""

    def __init__(self) -> None:
        # A name of nothing is a file in the system's folder for temporary ones, gone when closed.
        self._database = sqlite3.connect("")
        for table in ("shards", "store"):
            self._database.execute(f"CREATE TABLE {table} (id BLOB PRIMARY KEY) WITHOUT ROWID")

    def add(self, side: str, ids: Iterable[str]) -> None:
        """Add ids to ``shards`` or ``store``."""
        # As bytes, because text in SQLite ends at a NUL for some of its functions.
        rows = [(id.encode(),) for id in ids]
        self._database.executemany(f"INSERT OR IGNORE INTO {side} VALUES (?)", rows)

    def lacking(self, side: str, other: str, most: int = 3) -> tuple[int, list[str]]:
        """Count the ids that only ``other`` has, and return the first few."""
        only = f"SELECT id FROM {other} EXCEPT SELECT id FROM {side}"
        [(count,)] = self._database.execute(f"SELECT count(*) FROM ({only})")
        first = self._database.execute(f"{only} ORDER BY id LIMIT {most}")
        return count, [id.decode() for (id,) in first]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()


class Sample:
    """So many of any number of passages, each with the same chance, and the same ones every time.

    Args:
        size: how many at most.
    """

    def __init__(self, size: int) -> None:
        self.passages: list[Passage] = []
        self._vectors: list[Vectors] = []
        self._size = size
        self._seen = 0
        self._random = random.Random(0)

    @property
    def vectors(self) -> Vectors:
        """The vectors of :attr:`passages`, shape (n, dim)."""
        return np.stack(self._vectors)

    def add(self, passages: Sequence[Passage], vectors: Vectors) -> None:
        """Take passages with their vectors, or not."""
        for passage, vector in zip(passages, vectors, strict=True):
            self._seen += 1
            if len(self.passages) < self._size:
                self.passages.append(passage)
                self._vectors.append(vector.copy())
                continue
            place = self._random.randrange(self._seen)
            if place < self._size:
                self.passages[place] = passage
                self._vectors[place] = vector.copy()


@dataclass
class Truth:
    """The shards, and what is remembered of them.

    Attributes:
        path: of their folder.
        ids: of their passages, under ``shards``.
        sample: some of their passages.
        opened: closes the folder, in the end.
        passages: how many there are.
        folder: opened by :meth:`read`, as the others are filled by it.
    """

    path: Path
    ids: IdSets
    sample: Sample
    opened: ExitStack
    passages: int = 0
    folder: ShardFolder = field(init=False)

    def read(self) -> Finding:
        """Read all shards.

        Raises:
            ShardError: there are none, or one is damaged.
            LockedError: another process is writing there.
        """
        self.folder = self.opened.enter_context(ShardFolder.existing(self.path))
        unit = self.folder.fingerprint.normalize
        for passages, vectors in self.folder.live():
            self.passages += len(passages)
            self.ids.add("shards", (passage.id for passage in passages))
            self.sample.add(passages, vectors)
            lengths = np.linalg.norm(vectors, axis=1)
            # In this way round, because nothing is true of NaN.
            good = np.abs(lengths - 1) < _SAME_LENGTH if unit else np.isfinite(lengths)
            if not good.all():
                bad = passages[int(good.argmin())].id
                return False, (
                    f"the vector of passage {shorten(bad)} is not "
                    f"{'of unit length' if unit else 'finite'}: ingest into a new folder of shards"
                )
        documents, passages_counted = self.folder.count()
        if self.passages != passages_counted:
            return False, (
                f"{self.path} has {self.passages:,} passages, but its index counts "
                f"{passages_counted:,}: remove index.sqlite there, and {AGAIN}"
            )
        kind = "finite and of unit length" if unit else "finite"
        return True, (
            f"{documents:,} documents in {self.passages:,} passages can be read, all vectors {kind}"
        )
