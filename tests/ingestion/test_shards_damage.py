"""Damage to a folder of shards: what can be made again is, and the rest is never passed over."""

from __future__ import annotations

import resource
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from shard_samples import (
    DIM,
    FINGERPRINT,
    Projection,
    contents,
    document,
    opened,
    put,
    vectors_of,
)

from koe5_integrations.errors import ShardError
from koe5_integrations.ingestion.shards import read_shard
from koe5_integrations.ingestion.shards.files import ShardFile, put_shard

THREE = [document("갑", 0, 3), document("을"), document("병")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shards, of which the store ``s`` has all, left in order."""
    with opened(tmp_path / "folder") as shards:
        put(shards, *THREE)
        put(shards, document("갑", 1, 2), removed=["병"])
        put(shards, document("정"))
        Projection("s").load(shards)
    return tmp_path / "folder"


def stored(folder: Path) -> list[Path]:
    return sorted((folder / "shards").iterdir())


EXPECTED = {p.id: p for some in (document("갑", 1, 2), THREE[1], document("정")) for p in some}


# The index


def garbage(index: Path) -> None:
    index.write_bytes(b"garbage" * 999)


def torn(index: Path) -> None:
    index.write_bytes(index.read_bytes()[:6000])


def empty(index: Path) -> None:
    index.write_bytes(b"")


def of_another_version(index: Path) -> None:
    with closing(sqlite3.connect(index)) as database:
        database.execute("PRAGMA user_version = 9")


def of_other_shards(index: Path) -> None:
    with closing(sqlite3.connect(index)) as database:
        database.execute("UPDATE shards SET name = '00000002-00000000.parquet' WHERE sequence = 2")
        database.commit()


def without_a_table(index: Path) -> None:
    with closing(sqlite3.connect(index)) as database:
        database.execute("DROP TABLE shards")
        database.commit()


def lost_but_its_log(index: Path) -> None:
    index.with_name("index.sqlite-wal").write_bytes(index.read_bytes())
    index.unlink()


def overwritten_within(index: Path) -> None:
    pages = bytearray(index.read_bytes())
    pages[4096:] = np.random.default_rng(0).bytes(len(pages) - 4096)
    index.write_bytes(pages)


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        garbage,
        torn,
        empty,
        of_another_version,
        of_other_shards,
        without_a_table,
        lost_but_its_log,
        overwritten_within,
    ],
)
@pytest.mark.parametrize("clean", [True, False])
def test_a_damaged_index_is_made_again(
    damage: Callable[[Path], None], clean: bool, folder: Path
) -> None:
    """All is there as before, and no store counts as loaded."""
    damage(folder / "index.sqlite")
    if not clean:
        (folder / "clean").unlink()
    with opened(folder) as shards:
        assert contents(shards) == EXPECTED
        assert shards.unloaded("s") == [1, 2, 3]
        assert shards.change(2).removed_ids == ["갑#2", "병"]
        put(shards, document("무"))
    with opened(folder) as shards:
        assert contents(shards) == EXPECTED | {"무": document("무")[0]}


def test_an_index_that_may_be_torn_is_looked_through(folder: Path) -> None:
    """After a kill, damage is found where nobody would have looked for long, too."""
    index = folder / "index.sqlite"
    with closing(sqlite3.connect(index)) as database:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'removals'"
        (page,) = database.execute(query).fetchone()
    pages = bytearray(index.read_bytes())
    pages[(page - 1) * 4096 : page * 4096] = bytes(4096)
    index.write_bytes(pages)
    (folder / "clean").unlink()
    with opened(folder) as shards:
        assert shards.change(2).removed_ids == ["갑#2", "병"]


def test_an_index_damaged_while_it_is_used_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says to run again, and the next run makes it anew."""
    connected = []
    connect = sqlite3.connect

    def remembering(*args: object, **kwargs: object) -> sqlite3.Connection:
        connected.append(connect(*args, **kwargs))
        return connected[-1]

    monkeypatch.setattr(sqlite3, "connect", remembering)
    with opened(folder) as shards:
        connected[0].execute("DROP TABLE documents")
        with pytest.raises(ShardError, match=r"index\.sqlite is damaged .*so run again"):
            put(shards, document("무"))
        with pytest.raises(ShardError, match="has been closed"):
            shards.count()
    with opened(folder) as shards:
        assert contents(shards) == EXPECTED


def test_an_older_index_is_brought_up_to_date(folder: Path) -> None:
    """One from a backup knows the first shards, and keeps what it knows of stores."""
    shutil.copy(folder / "index.sqlite", folder.parent)
    with opened(folder) as shards:
        put(shards, document("무"), removed=["정"])
        expected = contents(shards)
    shutil.copy(folder.parent / "index.sqlite", folder)
    with opened(folder) as shards:
        assert contents(shards) == expected
        assert shards.unloaded("s") == [4]


# Shards


def test_a_shard_that_was_moved_away_takes_only_its_own_along(folder: Path) -> None:
    """What came before it counts again, so that the next ingestion makes good what is missing."""
    stored(folder)[1].unlink()
    with opened(folder) as shards:
        assert contents(shards) == {p.id: p for d in (*THREE, document("정")) for p in d}
        assert shards.unloaded("s") == [1, 3]
        assert put(shards, document("갑", 1, 2), removed=["병"]) == 4
        assert contents(shards) == EXPECTED


@pytest.mark.parametrize("size", [0, 100, -1])
@pytest.mark.parametrize("indexed", [True, False])
def test_a_truncated_shard_is_named(size: int, indexed: bool, folder: Path) -> None:
    """The folder doesn't open until the shard is moved away; then all else is there."""
    if not indexed:
        (folder / "index.sqlite").unlink()
    damaged = stored(folder)[2]
    damaged.write_bytes(damaged.read_bytes()[:size])
    for _ in range(2):
        with pytest.raises(ShardError, match=rf"{damaged.name} is damaged .*: move it out"):
            opened(folder)
    damaged.rename(folder.parent / damaged.name)
    with opened(folder) as shards:
        assert contents(shards) == {i: p for i, p in EXPECTED.items() if i != "정"}


def test_a_shard_with_a_damaged_vector_is_named_when_it_is_read(tmp_path: Path) -> None:
    """Neither loading, reading all, nor re-using vectors passes it over."""
    with opened(tmp_path) as shards:
        put(shards, document("갑"))
        [file] = stored(tmp_path)
        vector = vectors_of(document("갑"))[0].tobytes()
        damaged = file.read_bytes()
        assert damaged.count(vector) == 1
        file.write_bytes(damaged.replace(vector, vector[::-1]))
        reads: list[Callable[[], object]] = [
            lambda: shards.change(1),
            lambda: list(shards.live()),
            lambda: shards.vectors([document("갑")[0].text_hash]),
        ]
        for read in reads:
            with pytest.raises(ShardError, match=f"{file.name} is damaged"):
                read()


def test_files_that_are_no_shards_are_not_passed_over(folder: Path) -> None:
    """Parquet by another name or of something else is named; hidden leftovers just go."""
    leftovers = [folder / "shards" / ".00000004-x.parquet.1.tmp", folder / ".manifest.json.1.tmp"]
    for path in leftovers:
        path.touch()
    (folder / "shards" / "notes.txt").touch()
    with opened(folder) as shards:
        assert contents(shards) == EXPECTED
    assert not any(path.exists() for path in leftovers)
    foreign = shutil.copy(stored(folder)[0], folder / "shards" / "part-0.parquet")
    with pytest.raises(ShardError, match=r"part-0\.parquet does not have the name of a shard"):
        opened(folder)
    foreign.rename(folder / "shards" / "00000004-00000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ShardError, match=r"00000004-00000000\.parquet is damaged or no shard"):
        opened(folder)


def test_a_shard_with_two_passages_of_one_id_is_named(folder: Path) -> None:
    """One that was not written by this package, which refuses to."""
    uid, twice = "f" * 32, [*document("무"), *document("무")]
    path = folder / "shards" / "00000004-ffffffff.parquet"
    put_shard(path, uid, twice, vectors_of(twice), FINGERPRINT, [])
    with pytest.raises(ShardError, match=r"shard 00000004-.* has two passages of one id: move it"):
        opened(folder)
    path.unlink()
    with opened(folder) as shards:
        assert contents(shards) == EXPECTED


def test_shards_of_one_number_follow_each_other_by_name(folder: Path) -> None:
    """Copied together from two folders, they have one order, whatever is lost."""
    with opened(folder.parent / "other") as shards:
        put(shards, document("을", 7))
    [other] = stored(folder.parent / "other")
    other.rename(folder / "shards" / "00000002-ffffffff.parquet")
    for _ in range(2):
        with opened(folder) as shards:
            assert contents(shards) == {**EXPECTED, "을": document("을", 7)[0]}
            assert shards.unloaded("new") == [1, 2, 3, 4]
            assert shards.change(4).passages == document("정")
        (folder / "index.sqlite").unlink()


# A disk that is full


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Fail what writes further into a file than this."""
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full(folder: Path) -> None:
    """The shard is not there, nothing is left of it, and the earlier ones are untouched."""
    many = [document(f"d{n}", chunks=5) for n in range(3000)]
    with opened(folder) as shards:
        before = stored(folder)
        with files_of_at_most(300_000), pytest.raises(ShardError, match="can't be written: File"):
            put(shards, *many)
        assert stored(folder) == before
        assert contents(shards) == EXPECTED
        put(shards, document("무"))
    with opened(folder) as shards:
        assert contents(shards) == EXPECTED | {"무": document("무")[0]}
        assert sum(len(read_shard(path).passages) for path in stored(folder)) == 9


@pytest.mark.parametrize("again", [True, False])
def test_a_disk_that_is_full_before_the_shard_is_indexed(again: bool, folder: Path) -> None:
    """The shard is there, and is taken into the index as soon as there is room."""
    many = [document(f"d{n}", chunks=2) for n in range(200)]
    expected = EXPECTED | {p.id: p for d in many for p in d}
    with opened(folder) as shards:
        with files_of_at_most(40_000), pytest.raises(ShardError, match=r"shards are not touched"):
            put(shards, *many)
        assert contents(shards) == EXPECTED
        if again:
            assert put(shards, document("무")) == 5
            expected["무"] = document("무")[0]
            assert contents(shards) == expected
    with opened(folder) as shards:
        assert contents(shards) == expected


def test_a_write_that_is_interrupted_is_finished_by_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C amid the shard's way into the index neither loses, halves nor doubles anything."""
    narrow = ShardFile.narrow

    def interrupted(shard: ShardFile) -> Iterator[object]:
        yield from narrow(shard)
        raise KeyboardInterrupt

    with opened(folder) as shards:
        monkeypatch.setattr(ShardFile, "narrow", interrupted)
        with pytest.raises(KeyboardInterrupt):
            put(shards, document("갑", 5))
        monkeypatch.setattr(ShardFile, "narrow", narrow)
        assert contents(shards) == EXPECTED
        assert put(shards, document("을", 5)) == 5
        expected = {p.id: p for d in (document("갑", 5), document("을", 5)) for p in d}
        assert contents(shards) == {**expected, "정": document("정")[0]}
    assert [int(path.name[:8]) for path in stored(folder)] == [1, 2, 3, 4, 5]


def test_no_dimension_is_lost_to_an_empty_change(folder: Path) -> None:
    """A shard nothing of which counts any more changes nothing."""
    with opened(folder) as shards:
        put(shards, document("정", 1))
        change = shards.change(3)
        assert (change.passages, change.vectors.shape, change.removed_ids) == ([], (0, DIM), [])
