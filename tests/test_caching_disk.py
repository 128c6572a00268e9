"""Tests of koe5_integrations.caching.disk."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from koe5_integrations.caching import Embedded
from koe5_integrations.caching.disk import DiskCache, check_folder
from koe5_integrations.errors import CacheWarning, ConfigError

WAIT = 60
DIM = 8
NAME = "a" * 32


def keys(numbers: Sequence[int]) -> list[bytes]:
    return [number.to_bytes(32, "little") for number in numbers]


def embedded(numbers: Sequence[int]) -> Embedded:
    """Row by row a vector and counts that tell whose they are."""
    column = np.array(numbers, dtype=np.int64)
    vectors = np.repeat(column[:, None], DIM, axis=1).astype(np.float32)
    return Embedded(vectors, column + 1, column + 2)


def put(cache: DiskCache, numbers: Sequence[int]) -> None:
    cache.store(keys(numbers), np.arange(len(numbers)), embedded(numbers))


def known(cache: DiskCache, numbers: Sequence[int]) -> set[int]:
    """Return which of these are kept, after checking that they are whole."""
    into = Embedded.empty(len(numbers), DIM)
    missing = set(cache.fill(keys(numbers), np.arange(len(numbers)), into).tolist())
    rows = [row for row in range(len(numbers)) if row not in missing]
    expected = embedded(numbers)
    np.testing.assert_array_equal(into.vectors[rows], expected.vectors[rows])
    np.testing.assert_array_equal(into.read[rows], expected.read[rows])
    np.testing.assert_array_equal(into.uncut[rows], expected.uncut[rows])
    return {numbers[row] for row in rows}


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "cache", NAME)


def database(cache: DiskCache) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(cache.file))


# What is kept


def test_entries_outlive_the_cache_that_wrote_them(cache: DiskCache) -> None:
    """What one cache has written, another of the same place finds; nothing else."""
    assert known(cache, [1, 2]) == set()
    put(cache, [1, 2])
    assert known(DiskCache(cache.folder, NAME), [0, 1, 2, 3]) == {1, 2}
    assert known(DiskCache(cache.folder, "b" * 32), [1, 2]) == set()
    assert known(DiskCache(cache.folder / "elsewhere", NAME), [1, 2]) == set()


def test_only_the_rows_asked_for_are_touched(cache: DiskCache) -> None:
    """Other rows are neither read, written nor stored."""
    cache.store(keys([1, 2, 3]), np.array([0, 2]), embedded([1, 2, 3]))
    assert known(cache, [1, 2, 3]) == {1, 3}
    into = Embedded.empty(2, DIM)
    into.vectors[:] = 7
    assert cache.fill(keys([1, 3]), np.array([1]), into).tolist() == []
    assert into.vectors.tolist() == [[7] * DIM, [3] * DIM]


def test_more_than_fit_into_one_statement(cache: DiskCache) -> None:
    """Thousands of keys are looked up, a third of them there."""
    numbers = range(5000)
    put(cache, numbers[::3])
    assert known(cache, numbers) == set(numbers[::3])


# Damage


@pytest.mark.parametrize(
    "damage",
    ["zeroblob(length(embedding))", "substr(embedding, 1, 7)", "x''", "'text'", "5"],
)
def test_damaged_entries_are_missing(cache: DiskCache, damage: str) -> None:
    """An entry that fails its checksum is not returned, can be replaced, and the others stay."""
    put(cache, [1, 2, 3])
    cache.close()
    with database(cache) as damaging:
        damaging.execute(f"UPDATE embeddings SET embedding = {damage} WHERE rowid = 2")
        damaging.commit()
    assert known(cache, [1, 2, 3]) == {1, 3}
    put(cache, [2])
    assert known(cache, [1, 2, 3]) == {1, 2, 3}


def test_swapped_entries_are_noticed(cache: DiskCache) -> None:
    """A sound vector under another key is not taken for that key's own."""
    put(cache, [1, 2])
    with database(cache) as damaging:
        damaging.execute(
            "UPDATE embeddings SET embedding = (SELECT embedding FROM embeddings WHERE rowid = 1)"
        )
        damaging.commit()
    assert known(cache, [1, 2]) == {1}


def test_vectors_of_another_length_are_missing(cache: DiskCache) -> None:
    """An entry with more or fewer dimensions than asked for is no answer."""
    put(cache, [1])
    for dim in (DIM - 1, DIM + 1, DIM + 2):
        assert cache.fill(keys([1]), np.arange(1), Embedded.empty(1, dim)).tolist() == [0]


@pytest.mark.parametrize("keep", [0, 100, 5000])
@pytest.mark.parametrize("write_first", [False, True])
def test_a_damaged_file_is_set_aside(cache: DiskCache, keep: int, write_first: bool) -> None:
    """A file that is no database any more is kept under another name, and a new one begun."""
    numbers = range(400)
    put(cache, numbers)
    cache.close()
    cache.file.write_bytes(cache.file.read_bytes()[:keep] + b"damage" * 3000)
    with pytest.warns(CacheWarning, match="set aside"):
        put(cache, [1]) if write_first else known(cache, numbers)
    assert cache.file.with_suffix(".damaged").exists()
    put(cache, numbers)
    assert known(cache, numbers) == set(numbers)


def test_a_file_that_another_has_set_aside_is_left_alone(cache: DiskCache) -> None:
    """Of two that find the damage, the second goes on with the file the first has begun."""
    put(cache, range(400))
    other = DiskCache(cache.folder, NAME)
    assert known(other, [1]) == {1}
    cache.close()
    other.close()
    damaged = cache.file.read_bytes()[:100] + b"damage" * 3000
    cache.file.write_bytes(damaged)
    with pytest.warns(CacheWarning):
        put(cache, [7])
    other._set_aside(sqlite3.DatabaseError("as the other found it"))
    assert known(cache, [7]) == known(other, [7]) == {7}
    assert cache.file.with_suffix(".damaged").read_bytes() == damaged


# Places that can't be used


@pytest.mark.parametrize("folder", ["", __file__])
def test_no_folder_is_refused(folder: str) -> None:
    """A file, or nothing, where the folder's name should be is named."""
    with pytest.raises(ConfigError, match="must be a folder"):
        check_folder(folder)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A folder below a file is an error that names it and says what to do."""
    (tmp_path / "file").touch()
    cache = DiskCache(tmp_path / "file" / "below", NAME)
    for use in (known, put):
        with pytest.raises(ConfigError, match=r"file/below.*choose another folder"):
            use(cache, [1])


@pytest.fixture
def unprivileged_folder() -> Iterator[Path]:
    """A folder that may be read but not written to, also if the tests are run by root."""
    with tempfile.TemporaryDirectory() as folder:
        put(DiskCache(folder, NAME), [1])
        Path(folder).chmod(0o555)
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)
            Path(folder).chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are others there")
def test_a_folder_without_permission_to_write(unprivileged_folder: Path) -> None:
    """It is said before anything is computed for it, and again when it is to be stored."""
    cache = DiskCache(unprivileged_folder, NAME)
    for use in (known, put):
        with pytest.raises(ConfigError, match="see to space and permissions"):
            use(cache, [2])


FULL = """
import resource, signal, sys
from test_caching_disk import DiskCache, NAME, known, put
from koe5_integrations.errors import ConfigError
cache = DiskCache(sys.argv[1], NAME)
put(cache, range(10))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    put(cache, range(10, 20_000))
except ConfigError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert known(cache, range(20_000)) == set(range(10))
put(cache, range(10, 20))
assert known(cache, range(20)) == set(range(20))
"""


def run_python(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_a_full_disk(tmp_path: Path) -> None:
    """Running out of room is an error with a remedy, takes nothing away, and can be overcome."""
    out, err = run_python(FULL, tmp_path).communicate(timeout=WAIT)
    assert err == ""
    assert "see to space" in out


# Several at once


def test_threads_use_one_cache_at_once(cache: DiskCache) -> None:
    """Sixty-four threads that store and look up find whole entries only, and lose none."""
    start = threading.Barrier(64)

    def work(number: int) -> None:
        start.wait(WAIT)
        for i in range(3):
            put(cache, [number * 3 + i])
            assert known(cache, [number * 3 + i]) == {number * 3 + i}

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(work, range(64)))
    assert known(cache, range(192)) == set(range(192))


WRITER = """
import sys
from test_caching_disk import DiskCache, NAME, known, put
folder, first = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + 20):
    cache = DiskCache(folder, NAME)
    put(cache, [number, 10_000])
    assert known(cache, [number, 10_000]) == {number, 10_000}
"""


def test_processes_write_one_file_at_once(tmp_path: Path) -> None:
    """Processes that begin a file together, and open and close it all the time, lose nothing."""
    writers = [run_python(WRITER, tmp_path, first) for first in range(0, 80, 20)]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        assert writer.communicate(timeout=WAIT)[1] == ""
    assert known(DiskCache(tmp_path, NAME), range(80)) == set(range(80))


KILLED = """
import itertools, sys
from test_caching_disk import DiskCache, NAME, put
cache = DiskCache(sys.argv[1], NAME)
for start in itertools.count(0, 500):
    put(cache, range(start, start + 500))
    print(start + 500, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
def test_a_killed_writer_leaves_what_it_had_written(tmp_path: Path) -> None:
    """After kill -9 in the middle of writing the file is sound and holds every finished part."""
    for _ in range(3):
        writer = run_python(KILLED, tmp_path)
        assert writer.stdout is not None
        for _ in range(4):
            stored = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        # The kill may have cut the last line short.
        *lines, _ = writer.communicate(timeout=WAIT)[0].split("\n")
        stored = int((lines or [stored])[-1])
        cache = DiskCache(tmp_path, NAME)
        assert known(cache, range(stored)) == set(range(stored))
        later = known(cache, range(stored, stored + 1000))
        assert len(later) in (0, 500)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_forked_child_opens_the_file_anew(cache: DiskCache) -> None:
    """Parent and child go on writing the same file after a fork, each by its own connection."""
    put(cache, [1])
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            cache.forget()
            put(cache, [2])
            assert known(cache, [1, 2]) == {1, 2}
            status = 0
        finally:
            os._exit(status)
    put(cache, [3])
    assert os.waitpid(pid, 0)[1] == 0
    put(cache, [4])
    assert known(cache, range(5)) == {1, 2, 3, 4}


def test_nothing_is_left_open(tmp_path: Path) -> None:
    """A cache nobody holds any more closes its file, and leaves no other beside it."""
    cache = DiskCache(tmp_path, NAME)
    put(cache, [1])
    assert len(list(tmp_path.iterdir())) > 1
    del cache
    assert [file.name for file in tmp_path.iterdir()] == [f"{NAME}.sqlite3"]
