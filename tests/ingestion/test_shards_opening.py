"""Tests of who may open a folder of shards, and what its manifest and files say of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_samples import DIM, FINGERPRINT, by_id, contents, document, opened, put, vectors_of

from koe5_integrations.errors import FingerprintMismatchError, LockedError, ShardError
from koe5_integrations.ingestion.shards import ShardFolder, read_shard


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
