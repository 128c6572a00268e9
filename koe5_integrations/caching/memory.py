"""The embeddings used last, in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from koe5_integrations.caching import Embedded, Rows
from koe5_integrations.types import Vectors

__all__ = ["MemoryCache"]


class _Entry(NamedTuple):
    vector: Vectors
    read: int
    uncut: int


class MemoryCache:
    """So many embeddings of one fingerprint; the one unused for longest goes first.

    Safe to use from any thread.
    """

    def __init__(self) -> None:
        self._capacity = 0
        self.forget()

    def __len__(self) -> int:
        """How many embeddings are kept."""
        return len(self._entries)

    def forget(self) -> None:
        """Drop all; also right after a fork, where another thread may have held the lock."""
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def hold(self, capacity: int) -> None:
        """Keep so many, or as many as an earlier user of this cache asked for, if that is more."""
        self._capacity = max(self._capacity, capacity)

    def fill(self, keys: Sequence[bytes], rows: Rows, into: Embedded) -> Rows:
        """Write what is known of these rows' keys into them; return the rows it doesn't know."""
        missing = []
        for row in rows.tolist():
            # Taken for each, so that a question doesn't wait for a bulk job's 100,000.
            with self._lock:
                entry = self._entries.get(keys[row])
                if entry is not None:
                    self._entries.move_to_end(keys[row])
            if entry is None:
                missing.append(row)
            else:
                into.vectors[row], into.read[row], into.uncut[row] = entry
        return np.array(missing, dtype=np.intp)

    def store(self, keys: Sequence[bytes], rows: Rows, embedded: Embedded) -> None:
        """Keep these rows; none if there are more than fit, as they would push each other out."""
        if len(rows) > self._capacity:
            return
        for row in rows.tolist():
            entry = _Entry(
                embedded.vectors[row].copy(), int(embedded.read[row]), int(embedded.uncut[row])
            )
            with self._lock:
                self._entries[keys[row]] = entry
                self._entries.move_to_end(keys[row])
                if len(self._entries) > self._capacity:
                    self._entries.popitem(last=False)
