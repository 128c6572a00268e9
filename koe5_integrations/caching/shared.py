"""One cache per fingerprint and place, shared by all encoders of this process that ask for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from koe5_integrations.caching import text_keys
from koe5_integrations.caching.disk import DiskCache
from koe5_integrations.caching.memory import MemoryCache
from koe5_integrations.types import Role

__all__ = ["NO_CACHES", "Caches", "open_caches"]


@dataclass(frozen=True)
class Caches:
    """Where an encoder looks for embeddings: first in memory, then on disk.

    Attributes:
        fingerprint: digest of the encoder's; nothing of another is found here.
    """

    fingerprint: str
    memory: MemoryCache | None
    disk: DiskCache | None

    def keys(self, role: Role, prompted: Sequence[str]) -> list[bytes]:
        """Return what texts with their prompts are kept under; nothing if none are kept."""
        if self.memory is None and self.disk is None:
            return []
        return text_keys(self.fingerprint, role, prompted)


NO_CACHES = Caches("", None, None)

# Held by the encoders that use them, and gone with the last.
_shared: WeakValueDictionary[object, MemoryCache | DiskCache] = WeakValueDictionary()
_lock = threading.Lock()


def open_caches(fingerprint: str, *, size: int | None, folder: str | None) -> Caches:
    """Return the caches of a fingerprint.

    Args:
        fingerprint: the encoder's digest.
        size: embeddings to keep in memory; None for no such cache. Encoders that share one and ask
            for different sizes get the largest.
        folder: of the cache on disk; None for none.
    """
    memory = disk = None
    if size is not None:
        memory = _share(fingerprint, MemoryCache)
        memory.hold(size)
    if folder is not None:
        place = Path(folder).expanduser().absolute()
        disk = _share((fingerprint, place), lambda: DiskCache(place, fingerprint))
    return Caches(fingerprint, memory, disk)


def _share(key: object, make: Callable[[], Any]) -> Any:
    with _lock:
        cache = _shared.get(key)
        if cache is None:
            cache = _shared[key] = make()
        return cache


def _forget_after_fork() -> None:
    """A forked child starts with empty caches, and connections of its own."""
    global _lock
    _lock = threading.Lock()
    for cache in list(_shared.values()):
        cache.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which can't fork
    os.register_at_fork(after_in_child=_forget_after_fork)
