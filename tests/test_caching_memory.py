"""Tests of koe5_integrations.caching.memory, and of how caches are shared."""

from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from koe5_integrations.caching import Embedded, Rows
from koe5_integrations.caching.memory import MemoryCache
from koe5_integrations.caching.shared import open_caches

WAIT = 20
DIM = 3


def keys(*numbers: int) -> list[bytes]:
    return [number.to_bytes(32, "little") for number in numbers]


def embedded(*numbers: int) -> Embedded:
    """Row by row a vector and counts that tell whose they are."""
    column = np.array(numbers, dtype=np.int64)
    vectors = np.repeat(column[:, None], DIM, axis=1).astype(np.float32)
    return Embedded(vectors, column + 1, column + 2)


def every(n: int) -> Rows:
    return np.arange(n)


def put(cache: MemoryCache, *numbers: int) -> None:
    cache.store(keys(*numbers), every(len(numbers)), embedded(*numbers))


def known(cache: MemoryCache, *numbers: int) -> set[int]:
    """Return which of these are kept, after checking that they are whole."""
    into = Embedded.empty(len(numbers), DIM)
    missing = set(cache.fill(keys(*numbers), every(len(numbers)), into).tolist())
    rows = [row for row in range(len(numbers)) if row not in missing]
    expected = embedded(*numbers)
    np.testing.assert_array_equal(into.vectors[rows], expected.vectors[rows])
    np.testing.assert_array_equal(into.read[rows], expected.read[rows])
    np.testing.assert_array_equal(into.uncut[rows], expected.uncut[rows])
    return {numbers[row] for row in rows}


def held(capacity: int) -> MemoryCache:
    cache = MemoryCache()
    cache.hold(capacity)
    return cache


def test_the_longest_unused_goes_first() -> None:
    """A full cache drops what was neither stored nor asked for since."""
    cache = held(3)
    put(cache, 1, 2, 3)
    assert known(cache, 1) == {1}
    put(cache, 4)
    assert known(cache, 1, 2, 3, 4) == {1, 3, 4}
    put(cache, 3)
    put(cache, 5)
    assert known(cache, 1, 3, 4, 5) == {3, 4, 5}
    assert len(cache) == 3


def test_more_than_fit_push_nothing_out() -> None:
    """A bulk job larger than the cache leaves it as it was."""
    cache = held(3)
    put(cache, 1, 2)
    put(cache, 3, 4, 5, 6)
    assert known(cache, *range(7)) == {1, 2}


def test_only_the_rows_asked_for_are_touched() -> None:
    """Other rows are neither read, written nor stored."""
    cache = held(9)
    cache.store(keys(1, 2, 3), np.array([0, 2]), embedded(1, 2, 3))
    assert known(cache, 1, 2, 3) == {1, 3}
    into = Embedded.empty(2, DIM)
    into.vectors[:] = 7
    assert cache.fill(keys(1, 3), np.array([1]), into).tolist() == []
    assert into.vectors.tolist() == [[7] * DIM, [3] * DIM]


def test_what_is_kept_is_a_copy() -> None:
    """Writing into vectors that were stored or returned changes nothing that is kept."""
    cache = held(2)
    mine = embedded(1)
    cache.store(keys(1), every(1), mine)
    mine.vectors[:] = 9
    into = Embedded.empty(1, DIM)
    cache.fill(keys(1), every(1), into)
    into.vectors[:] = 9
    assert known(cache, 1) == {1}


def test_threads_use_one_cache_at_once() -> None:
    """Sixty-four threads that store and look up find whole entries only, and no more than fit."""
    cache = held(40)
    start = threading.Barrier(64)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        start.wait(WAIT)
        for _ in range(50):
            numbers = rng.integers(0, 80, size=5).tolist()
            put(cache, *numbers)
            known(cache, *numbers)

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(work, range(64)))
    assert len(cache) == 40


def test_one_per_fingerprint_for_as_long_as_it_is_used() -> None:
    """Equal fingerprints share a cache of the largest size asked for; it goes with its users."""
    one = open_caches("a" * 32, size=1, folder=None)
    two = open_caches("a" * 32, size=2, folder=None)
    other = open_caches("b" * 32, size=2, folder=None)
    assert one == two
    assert one.memory is two.memory is not other.memory
    assert two.memory is not None
    put(two.memory, 1, 2)
    assert known(two.memory, 1, 2) == {1, 2}
    del one, two
    gc.collect()
    again = open_caches("a" * 32, size=2, folder=None)
    assert again.memory is not None
    assert len(again.memory) == 0


def test_a_place_on_disk_is_one_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative and an absolute path of the same folder share its file; home is known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    caches = [
        open_caches("a" * 32, size=None, folder=folder)
        for folder in ("cache", "~/cache", str(tmp_path / "cache"))
    ]
    assert len({id(each.disk) for each in caches}) == 1
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_forked_child_starts_empty() -> None:
    """A child forked while a thread holds the lock has an empty cache that works."""
    caches = open_caches("a" * 32, size=5, folder=None)
    assert caches.memory is not None
    put(caches.memory, 1)
    with caches.memory._lock:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                assert known(caches.memory, 1) == set()
                put(caches.memory, 2)
                assert known(caches.memory, 2) == {2}
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
    assert known(caches.memory, 1, 2) == {1}
