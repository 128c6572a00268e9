"""Tests of koe5_integrations.ingestion.shards.folder: what a folder of shards holds.

``KOE5_LONG_TESTS=1 pytest tests/ingestion -k shards`` runs the long versions.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_samples import (
    DIM,
    FINGERPRINT,
    LONG,
    Projection,
    contents,
    document,
    opened,
    put,
    vectors_of,
)

from koe5_integrations.errors import FingerprintMismatchError, LockedError, ShardError
from koe5_integrations.ingestion.passages import Passage, text_hash
from koe5_integrations.ingestion.shards import ShardFolder, read_shard, write_shard

NONE = np.empty((0, DIM), dtype=np.float32)


def by_id(*documents: list[Passage]) -> dict[str, Passage]:
    return {passage.id: passage for some in documents for passage in some}


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


# Refused before anything is written

GOOD = document("갑", chunks=3)
REFUSED: dict[str, tuple[list[Passage], Any, list[str], str]] = {
    "nothing": ([], NONE, [], "nothing to write"),
    "a passage is missing": (GOOD[:2], None, [], "'갑' is incomplete: passage 2 of 3 is missing"),
    "a passage comes twice": ([*GOOD, GOOD[1]], None, [], "'갑#1' comes twice"),
    "two documents with one passage": (
        [*document("을"), replace(document("병")[0], id="을")],
        None,
        [],
        "comes twice: in document '을' and in '병'",
    ),
    "a number comes twice": (
        [*GOOD[:2], replace(GOOD[1], id="another")],
        None,
        [],
        "'another' is number 1 of 3",
    ),
    "a number out of range": ([replace(document("을")[0], chunk=1)], None, [], "is number 1 of 1"),
    "a number below 0": ([replace(document("을")[0], chunk=-1)], None, [], "is number -1 of 1"),
    "two versions": (
        [*GOOD[:2], replace(GOOD[2], document_hash="f" * 32)],
        None,
        [],
        "'갑#2' is of another version of document '갑'",
    ),
    "written and removed": (GOOD, None, ["갑"], "'갑' is both written and removed"),
    "NaN": (GOOD, [[0.0] * 4, [0, 0, np.nan, 0], [0.0] * 4], [], "passage '갑#1' holds NaN"),
    "infinity": (GOOD, [[np.inf] * 4, [0.0] * 4, [0.0] * 4], [], "passage '갑#0' holds NaN or inf"),
    "too few vectors": (GOOD, np.zeros((2, 4), np.float32), [], r"float32 of shape \(3, 4\)"),
    "other dimensions": (GOOD, np.zeros((3, 5), np.float32), [], r"not float32 of shape \(3, 5\)"),
    "other numbers": (GOOD, np.zeros((3, 4)), [], "not float64 of shape"),
    "no array": (GOOD, "vectors", [], "not str"),
    "a surrogate in an id": (document("\ud800"), NONE, [], "lone surrogate"),
    "a surrogate in a text": ([replace(GOOD[0], text="글\udfff")], None, [], "lone surrogate"),
    "a surrogate in a removed id": ([], NONE, ["\ud800"], "lone surrogate"),
    "a surrogate in metadata": (document("을", title="\ud800"), None, [], "can't be written"),
    "an empty id": (document(""), None, [], "has no id"),
    "no string": ([replace(GOOD[0], text=None)], NONE, [], "has a text that is not a string: None"),  # type: ignore[arg-type]
    "metadata that are no JSON": (document("을", when=object()), None, [], "not JSON serializable"),
    "metadata that are not finite": (document("을", share=float("nan")), None, [], "Out of range"),
}


@pytest.mark.parametrize(
    ("passages", "vectors", "removed", "problem"), REFUSED.values(), ids=REFUSED.keys()
)
def test_what_is_not_as_it_must_be_is_refused(
    passages: list[Passage], vectors: Any, removed: list[str], problem: str, tmp_path: Path
) -> None:
    """The error names the passage or document; nothing is written, and the folder can be used."""
    if vectors is None:
        vectors = np.zeros((len(passages), DIM), np.float32)
    elif isinstance(vectors, list):
        vectors = np.array(vectors, np.float32)
    elif len(passages) != len(vectors) and vectors is NONE:
        vectors = np.zeros((len(passages), DIM), np.float32)
    with opened(tmp_path) as folder:
        put(folder, document("먼저"))
        with pytest.raises(ShardError, match=problem):
            folder.write(passages, vectors, removed=removed)
        assert len(list((tmp_path / "shards").iterdir())) == 1
        assert put(folder, document("다음")) == 2
        assert contents(folder) == by_id(document("먼저"), document("다음"))


def test_a_question_with_a_surrogate_is_refused(tmp_path: Path) -> None:
    """Nothing stored can have such an id; the error says so."""
    with opened(tmp_path) as folder, pytest.raises(ShardError, match="lone surrogate"):
        folder.hashes(["가", "\ud800"])


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


def test_more_removals_than_a_file_can_say_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says so before anything is written."""
    monkeypatch.setattr("koe5_integrations.ingestion.shards.files._REMOVED_LIMIT", 1000)
    with opened(tmp_path) as folder:
        with pytest.raises(ShardError, match="1000 documents are too many to remove at once"):
            put(folder, removed=[f"문서-{n}.md" for n in range(1000)])
        assert list((tmp_path / "shards").iterdir()) == []


# Shards written elsewhere


def elsewhere(path: Path, *documents: list[Passage], **other: Any) -> Path:
    passages = [passage for some in documents for passage in some]
    options = {"fingerprint": FINGERPRINT, **other}
    write_shard(path, passages, vectors_of(passages), **options)
    return path


def test_a_shard_written_elsewhere_is_moved_in(tmp_path: Path) -> None:
    """It becomes the latest, with its removals; a second copy of it is only taken away."""
    file = elsewhere(tmp_path / "part-0.parquet", document("갑", 1), removed=["을"])
    copy = file.read_bytes()
    with opened(tmp_path / "folder") as folder:
        put(folder, document("갑", 0, 2), document("을"))
        assert folder.adopt(file) == 2
        assert not file.exists()
        put(folder, document("갑", 2))
        file.write_bytes(copy)
        assert folder.adopt(file) == 2
        assert not file.exists()
        stored = next((tmp_path / "folder" / "shards").glob("00000002-*"))
        assert folder.adopt(stored) == 2
        assert contents(folder) == by_id(document("갑", 2))
    with opened(tmp_path / "folder") as folder:
        file.write_bytes(copy)
        assert folder.adopt(file) == 2
        assert contents(folder) == by_id(document("갑", 2))


def test_a_shard_from_another_drive_is_copied_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where renaming can't do it, the file is copied, and taken away when the copy is there."""
    file = elsewhere(tmp_path / "part.parquet", document("갑"))
    rename = Path.replace

    def refusing(self: Path, target: Path) -> Path:
        if self == file:
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", refusing)
    with opened(tmp_path / "folder") as folder:
        assert folder.adopt(file) == 1
        assert not file.exists()
        assert contents(folder) == by_id(document("갑"))


def test_what_can_not_be_adopted_stays_where_it_is(tmp_path: Path) -> None:
    """Another model or dim, a taken id, a damaged or missing file: the folder is as before."""
    with opened(tmp_path / "folder") as folder:
        put(folder, document("갑", chunks=2))
        file = tmp_path / "part.parquet"
        other = replace(FINGERPRINT, pooling="cls")
        with pytest.raises(FingerprintMismatchError, match="pooling: 'cls' there, 'mean' here"):
            folder.adopt(elsewhere(file, document("을"), fingerprint=other))
        write_shard(file, [], np.empty((0, 9), np.float32), fingerprint=FINGERPRINT, removed=["을"])
        with pytest.raises(ShardError, match="vectors of 9 dimensions, not 4"):
            folder.adopt(file)
        with pytest.raises(ShardError, match="'갑#0' has the id of a passage of document '갑'"):
            folder.adopt(elsewhere(file, document("갑#0")))
        elsewhere(file, document("을"))
        file.write_bytes(file.read_bytes()[:-20])
        with pytest.raises(ShardError, match=r"part\.parquet is damaged or no shard"):
            folder.adopt(file)
        assert file.exists()
        with pytest.raises(ShardError, match="there is no such shard"):
            folder.adopt(tmp_path / "nothing.parquet")
        assert contents(folder) == by_id(document("갑", chunks=2))
        assert folder.adopt(elsewhere(file, document("을"))) == 2


# Who may open a folder, and what it is called


def test_another_fingerprint_is_refused_with_both_sides(tmp_path: Path) -> None:
    """Any field that changes a vector counts, and dim; the model's name does not."""
    with opened(tmp_path) as folder:
        put(folder, document("갑"))
    changed: list[dict[str, Any]] = [
        {"weights": "1" * 32},
        {"query_prompt": ""},
        {"passage_prompt": "document: "},
        {"pooling": "cls"},
        {"normalize": False},
        {"max_seq_length": None},
        {"truncate_dim": 2},
        {"precision": "fp16"},
        {"unicode": "none"},
    ]
    for change in changed:
        [(name, value)] = change.items()
        other = replace(FINGERPRINT, **change)
        with pytest.raises(FingerprintMismatchError) as refused:
            ShardFolder(tmp_path, fingerprint=other, dim=DIM)
        assert f"{name}: {getattr(FINGERPRINT, name)!r} there, {value!r} here" in str(refused.value)
    with pytest.raises(ShardError, match="vectors of 4 dimensions, not 5"):
        ShardFolder(tmp_path, fingerprint=FINGERPRINT, dim=5)
    moved = replace(FINGERPRINT, model="elsewhere/koe5-mini")
    with ShardFolder(tmp_path, fingerprint=moved, dim=DIM) as folder:
        assert contents(folder) == by_id(document("갑"))


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """As long as the first has the folder open, also to look at."""
    with opened(tmp_path):
        with pytest.raises(LockedError, match="writing vector shards"):
            opened(tmp_path)
        with pytest.raises(LockedError):
            ShardFolder.existing(tmp_path)
    with opened(tmp_path):
        pass


def test_a_closed_folder_says_so(tmp_path: Path) -> None:
    """It can be closed twice, and neither read nor written."""
    with opened(tmp_path) as folder:
        put(folder, document("갑"))
        folder.close()
        with pytest.raises(ShardError, match="has been closed"):
            put(folder, document("을"))
        with pytest.raises(ShardError, match="has been closed"):
            folder.count()
        with opened(tmp_path) as another:
            folder.close()
            assert not (tmp_path / "clean").exists()
            assert contents(another) == by_id(document("갑"))


def test_clean_is_what_ended_in_order(tmp_path: Path) -> None:
    """A new folder is; after an exception it is not, and to look at it doesn't make it so."""
    with opened(tmp_path) as folder:
        assert folder.clean
    for _ in range(2):
        with ShardFolder.existing(tmp_path) as folder:
            assert folder.clean
    folder = opened(tmp_path)
    assert folder.clean
    folder.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    for _ in range(2):
        with ShardFolder.existing(tmp_path) as folder:
            assert not folder.clean
    with opened(tmp_path) as folder:
        assert not folder.clean
    with opened(tmp_path) as folder:
        assert folder.clean


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """Nothing is put into it, and the error names what is there."""
    (tmp_path / "논문.pdf").touch()
    with pytest.raises(ShardError, match=r"is no folder of shards, but holds '논문\.pdf'"):
        opened(tmp_path)
    with pytest.raises(ShardError, match=r"has no manifest\.json"):
        ShardFolder.existing(tmp_path)
    with pytest.raises(ShardError, match="is a file"):
        opened(tmp_path / "논문.pdf")
    assert [p.name for p in tmp_path.iterdir()] == ["논문.pdf"]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "quarantine.jsonl").touch()
    with opened(tmp_path / "new"):
        pass


def test_a_lost_manifest_is_written_again(tmp_path: Path) -> None:
    """By an encoder of the same fingerprint; by another it is not."""
    with opened(tmp_path) as folder:
        put(folder, document("갑"))
    manifest = (tmp_path / "manifest.json").read_text()
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ShardError, match=r"has no manifest\.json"):
        ShardFolder.existing(tmp_path)
    with pytest.raises(FingerprintMismatchError, match="truncate_dim: None there, 4 here"):
        ShardFolder(tmp_path, fingerprint=replace(FINGERPRINT, truncate_dim=4), dim=DIM)
    with opened(tmp_path) as folder:
        assert contents(folder) == by_id(document("갑"))
    assert (tmp_path / "manifest.json").read_text() == manifest


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format_version": 2}, "format version 2, and this koe5-integrations reads 1"),
        ({"fingerprint_fields": {"model": "m"}}, "another version of koe5-integrations"),
        ({"fingerprint": "f" * 32}, "is damaged: its fingerprint is ffff"),
        ({"dim": "viel"}, r"manifest\.json is damaged"),
        (None, r"manifest\.json is damaged"),
    ],
)
def test_a_manifest_of_another_version_or_damaged(
    change: dict[str, Any] | None, problem: str, tmp_path: Path
) -> None:
    """The error says what is there and what to do."""
    with opened(tmp_path):
        pass
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text("[]" if change is None else json.dumps(manifest | change))
    with pytest.raises(ShardError, match=problem):
        ShardFolder.existing(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ShardError, match=r"manifest\.json can't be read: Is a directory"):
        ShardFolder.existing(tmp_path)


def test_files_of_the_folder_are_shards_of_their_own(tmp_path: Path) -> None:
    """Whoever reads them needs nothing else; they tell what they remove."""
    with opened(tmp_path) as folder:
        put(folder, document("갑", chunks=2), removed=["을"])
    [file] = (tmp_path / "shards").iterdir()
    shard = read_shard(file)
    assert shard.passages == document("갑", chunks=2)
    np.testing.assert_array_equal(shard.vectors, vectors_of(shard.passages))
    assert (shard.removed, shard.fingerprint) == (["을"], FINGERPRINT)
