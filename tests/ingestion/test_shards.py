"""Tests of koe5_integrations.ingestion.shards.folder: what a folder of shards holds.

``KOE5_LONG_TESTS=1 pytest tests/ingestion -k shards`` runs the long versions.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from shard_samples import (
    DIM,
    FINGERPRINT,
    LONG,
    Projection,
    by_id,
    contents,
    document,
    opened,
    put,
    vectors_of,
)

from koe5_integrations.errors import ShardError
from koe5_integrations.ingestion.passages import text_hash
from koe5_integrations.ingestion.shards import ShardFolder

# Versions


def test_what_is_written_is_there_and_stays(tmp_path: Path) -> None:
    """Passages come back as they were, at once and for whoever opens the folder next."""
    one = document("갑", chunks=3, title="제목", n=1, share=0.5, good=True)
    two = document("을")
    with opened(tmp_path / "new" / "shards") as folder:
        assert folder.count() == (0, 0)
        assert list(folder.live()) == list(folder.ids()) == []
        assert put(folder, one, two) == 1
        assert contents(folder) == by_id(one, two)
    with ShardFolder.existing(folder.path) as folder:
        assert (folder.fingerprint, folder.dim) == (FINGERPRINT, DIM)
        assert contents(folder) == by_id(one, two)


def test_the_latest_version_of_a_document_counts(tmp_path: Path) -> None:
    """A document is replaced as a whole, also by the same version, and removed as a whole."""
    with opened(tmp_path) as folder:
        put(folder, document("갑", 0, 3), document("을"), document("병"))
        put(folder, document("갑", 1, 2))
        assert contents(folder) == by_id(document("갑", 1, 2), document("을"), document("병"))
        put(folder, document("을"), removed=["병", "없음", "병"])
        assert contents(folder) == by_id(document("갑", 1, 2), document("을"))
        put(folder, document("병", 2), removed=["갑", "을"])
        put(folder, document("갑", 0, 3))
        expected = by_id(document("병", 2), document("갑", 0, 3))
        assert contents(folder) == expected
    (tmp_path / "index.sqlite").unlink()
    with opened(tmp_path) as folder:
        assert contents(folder) == expected


ODD = ["가 나", "a#1", "a#2#0", "줄\n바꿈\r\t", "x\0y", "x", "'\"%_", "가" * 3000, " ", "😀", "ﾊﾞ"]


def test_any_string_is_an_id(tmp_path: Path) -> None:
    """Spaces, '#', line ends, NUL and ten thousand bytes are kept apart and come back."""
    documents = [document(id, chunks=1 + n % 2, title=id) for n, id in enumerate(ODD)]
    with opened(tmp_path) as folder:
        put(folder, *documents)
        assert contents(folder) == by_id(*documents)
        put(folder, document(ODD[4], 1), removed=[ODD[1], ODD[7]])
        kept = [d for d in documents if d[0].document_id not in (ODD[1], ODD[4], ODD[7])]
        assert contents(folder) == by_id(*kept, document(ODD[4], 1))
        assert folder.mark_seen(ODD) == set()
        assert folder.mark_seen([*ODD, "neu"]) == set(ODD)


def test_an_id_belongs_to_one_document(tmp_path: Path) -> None:
    """A passage whose id another document has is refused, unless that gives it up."""
    with opened(tmp_path) as folder:
        put(folder, document("갑", chunks=2))
        with pytest.raises(ShardError, match=r"passage '갑#1' of document '갑#1' has .* '갑'"):
            put(folder, document("갑#1"))
        assert contents(folder) == by_id(document("갑", chunks=2))
        put(folder, document("갑#1"), document("갑", 1))
        assert contents(folder) == by_id(document("갑#1"), document("갑", 1))
        put(folder, document("갑", 2, chunks=2), removed=["갑#1"])
        assert contents(folder) == by_id(document("갑", 2, chunks=2))


def test_in_a_history_with_a_hole_the_later_document_keeps_an_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the shard between them was moved away, the earlier document is gone, with notice."""
    with opened(tmp_path) as folder:
        put(folder, document("갑", chunks=2))
        put(folder, removed=["갑"])
        put(folder, document("갑#1"))
    next((tmp_path / "shards").glob("00000002-*")).unlink()
    with opened(tmp_path) as folder:
        assert contents(folder) == by_id(document("갑#1"))
        store = Projection("s")
        store.load(folder)
        assert store.passages == contents(folder)
        assert folder.change(3).removed_ids == ["갑#0"]
    assert "document '갑', which is therefore gone" in caplog.text


# Vectors known by their texts


def test_vectors_are_found_by_text_in_any_shard(tmp_path: Path) -> None:
    """Also those of replaced and removed documents; unknown texts are left out."""
    first = [document(f"d{n}") for n in range(2500)]
    with opened(tmp_path) as folder:
        put(folder, *first)
        put(folder, document("d7", 1), removed=["d8"])
        passages = [first[n][0] for n in (0, 7, 8, 1023, 1024, 2499)] + document("d7", 1)
        found = folder.vectors([*(p.text_hash for p in passages), text_hash("unknown")])
        assert len(found) == len(passages)
        for passage in passages:
            expected = vectors_of([passage])[0]
            np.testing.assert_array_equal(found[passage.text_hash], expected)
        assert folder.vectors([]) == {}


# Stores


def test_each_store_is_loaded_with_what_it_lacks(tmp_path: Path) -> None:
    """A store behind by any number of shards comes to hold what the folder holds."""
    early, late = Projection("early"), Projection("late")
    with opened(tmp_path) as folder:
        put(folder, document("갑", 0, 3), document("을"))
        early.load(folder)
        put(folder, document("갑", 1, 2), removed=["을"])
        put(folder, document("을", 1, 2), document("병"))
        early.load(folder)
        put(folder, document("병", 1), removed=["갑"])
        assert (folder.unloaded("early"), folder.unloaded("late")) == ([4], [1, 2, 3, 4])
        for store in (early, late):
            store.load(folder)
            assert store.passages == contents(folder)
            assert folder.unloaded(store.key) == []
    with opened(tmp_path) as folder:
        assert folder.unloaded("early") == folder.unloaded("late") == []
        assert folder.unloaded("new") == [1, 2, 3, 4]


def test_a_change_is_what_counts_now(tmp_path: Path) -> None:
    """Of an older shard only what is current comes, and no id is deleted that lives again."""
    with opened(tmp_path) as folder:
        put(folder, document("갑", 0, 3), document("을"))
        put(folder, document("병"), removed=["갑"])
        assert folder.change(2).removed_ids == ["갑#0", "갑#1", "갑#2"]
        put(folder, document("갑", 1, 2))
        assert folder.change(1).passages == document("을")
        assert folder.change(2).removed_ids == ["갑#2"]
        assert folder.change(3).removed_ids == []
        assert folder.change(1).vectors.shape == (1, DIM)
        put(folder, removed=["을", "갑"])
        assert folder.change(1).vectors.shape == (0, DIM)
        assert [folder.change(n).removed_ids for n in (2, 3, 4)] == [
            ["갑#0", "갑#1", "갑#2"],
            [],
            ["갑#0", "갑#1", "을"],
        ]
        put(folder, document("을", 0, 2))
        put(folder, document("을", 1, 3))
        put(folder, removed=["을"])
        assert [folder.change(n).removed_ids for n in (5, 6)] == [[], []]
        with pytest.raises(ShardError, match="there is no shard 9"):
            folder.change(9)


def test_one_thread_loads_while_another_writes(tmp_path: Path) -> None:
    """The store ends as the folder does, and every mark and count is right meanwhile."""
    store = Projection("s")
    finished = threading.Event()

    def write() -> None:
        for n in range(40):
            documents = [document(f"d{k}", n, 1 + (n + k) % 3) for k in range(n % 5, 20, 3)]
            put(folder, *documents, removed=[f"d{n % 5 + 1}"])
        finished.set()

    def load() -> None:
        while not finished.is_set():
            store.load(folder)
            folder.count()

    with opened(tmp_path) as folder, ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(write), pool.submit(load)]:
            done.result()
        store.load(folder)
        assert store.passages == contents(folder)


# Runs


def test_what_a_run_has_not_seen(tmp_path: Path) -> None:
    """Of the sources asked for, in pages, also while they are removed; a run begins anew."""
    documents = [document(f"d{n:05}", source=f"s{n % 3}") for n in range(3000)]
    ids = [d[0].id for d in documents]
    with opened(tmp_path) as folder:
        put(folder, *documents)
        folder.start_run()
        assert folder.mark_seen(ids[:30]) == set()
        assert folder.mark_seen([*ids[20:35], "new"]) == set(ids[20:30])
        removed = []
        for page in folder.unseen(["s0", "s1", "unknown"]):
            assert 0 < len(page) <= 1000
            put(folder, removed=page)
            removed += page
        assert removed == [id for n, id in enumerate(ids) if n >= 35 and n % 3 < 2]
        assert folder.count() == (3000 - len(removed),) * 2
        assert list(folder.unseen(["s0", "s1"])) == list(folder.unseen([])) == []
        folder.start_run()
        assert folder.mark_seen(ids[:30]) == set()


# Many


def test_any_number_of_removals_in_one_shard(tmp_path: Path) -> None:
    """They are one shard like any other; the long version has a million."""
    many = 1_000_000 if LONG else 100_000
    with opened(tmp_path) as folder:
        put(folder, document("갑"), document("을"))
        put(folder, removed=["을", *(f"어디/문서-{n}.md" for n in range(many))])
        assert contents(folder) == by_id(document("갑"))
        assert folder.change(2).removed_ids == ["을"]
