"""Tests of what is taken into a folder of shards, and what is refused before it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_samples import DIM, FINGERPRINT, by_id, contents, document, opened, put, vectors_of

from koe5_integrations.errors import FingerprintMismatchError, ShardError
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.ingestion.shards import write_shard

NONE = np.empty((0, DIM), dtype=np.float32)

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
    "no string": ([replace(GOOD[0], text=None)], NONE, [], "has a text that is not a string: None"),
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
