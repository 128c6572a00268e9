"""Shards into a store: what it has not been given yet, in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.ingestion.shards import ShardFolder
from koe5_integrations.ingestion.stores import Store
from koe5_integrations.types import Vectors

__all__ = ["Loader", "load_all"]

_MOST_HELD = 2


class Loader:
    """Loads shards one after the other while the next are being made.

    Leaving the context waits for the shard at hand, not for those that wait: the next run loads
    them.

    Args:
        shards: where they are.
        store: where they go.
        told: called in the loader's thread with how many passages were loaded.
    """

    def __init__(self, shards: ShardFolder, store: Store, told: Callable[[int], None]) -> None:
        self._shards = shards
        self._store = store
        self._told = told
        self._failed = False
        self._futures: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="koe5-loader")

    def __enter__(self) -> Self:
        """Begin with what an earlier run left unloaded."""
        for sequence in self._shards.unloaded(self._store.key):
            self.add(sequence)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End after the shard at hand."""
        self._thread.shutdown(cancel_futures=True)

    def add(self, sequence: int, held: tuple[Sequence[Passage], Vectors] | None = None) -> None:
        """Have a shard loaded.

        Args:
            sequence: the shard's.
            held: its passages and vectors, to spare reading them again.

        Raises:
            StoreError: an earlier one could not be.
        """
        # Where the store is slower than the model, memory must not fill with what waits for it.
        kept = held if len(self._futures) < _MOST_HELD else None
        self._futures.append(self._thread.submit(self._load, sequence, kept))
        while self._futures and self._futures[0].done():
            self._futures.popleft().result()

    def finish(self, waiting: Callable[[], None]) -> None:
        """Wait until all are loaded.

        Args:
            waiting: called now and then meanwhile.

        Raises:
            StoreError: one could not be.
        """
        while self._futures:
            wait([self._futures[0]], timeout=0.2)
            waiting()
            if self._futures[0].done():
                self._futures.popleft().result()

    def _load(self, sequence: int, held: tuple[Sequence[Passage], Vectors] | None) -> None:
        # What follows a shard that failed would hide that from the store's users.
        if self._failed:
            return
        try:
            change = self._shards.change(sequence, held)
            # In this order, so that no text is missing while its document changes.
            if change.passages:
                self._store.upsert(change.passages, change.vectors)
            if change.removed_ids:
                self._store.delete(change.removed_ids)
            self._shards.mark_loaded(self._store.key, sequence)
        except BaseException:
            self._failed = True
            raise
        self._told(len(change.passages))


def load_all(shards: ShardFolder, store: Store, told: Callable[[int], None]) -> None:
    """Give a store every current passage, whatever it was given before.

    Raises:
        StoreError: it refused.
    """
    for passages, vectors in shards.live():
        store.upsert(passages, vectors)
        told(len(passages))
    for sequence in shards.unloaded(store.key):
        shards.mark_loaded(store.key, sequence)
