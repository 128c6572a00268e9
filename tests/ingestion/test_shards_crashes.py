"""kill -9 and power failures at every point of a folder's life: a shard is wholly there, or not.

``KOE5_LONG_TESTS=1 pytest tests/ingestion -k shards`` tries every point rather than some.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shard_samples import (
    FINGERPRINT,
    LONG,
    Disk,
    Projection,
    after_kill,
    contents,
    document,
    opened,
    put,
    steps,
    vectors_of,
)

from koe5_integrations.errors import ShardError
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.ingestion.shards import ShardFolder, durable, write_shard

# What each step leaves, by document.
HISTORY: list[dict[str, list[Passage]]] = [
    {},
    {"갑": document("갑", 0, 3), "을": document("을")},
    {"갑": document("갑", 1, 2), "병": document("병", 0, 2)},
    {"갑": document("갑", 1, 2), "병": document("병", 1), "정": document("정")},
    {"병": document("병", 1), "정": document("정"), "을": document("을", 2, 2)},
    {},
]
STATES = [{p.id: p for d in state.values() for p in d} for state in HISTORY]


def live_through(root: Path, done: Callable[[int], None]) -> None:
    """Make, change, close, reopen and empty a folder, telling after each step that it is done."""
    with opened(root / "folder") as folder:
        put(folder, *HISTORY[1].values())
        done(1)
        put(folder, HISTORY[2]["갑"], HISTORY[2]["병"], removed=["을"])
        done(2)
        Projection("s").load(folder)
    with opened(root / "folder") as folder:
        passages = HISTORY[3]["병"] + HISTORY[3]["정"]
        write_shard(root / "part", passages, vectors_of(passages), fingerprint=FINGERPRINT)
        folder.adopt(root / "part")
        done(3)
        put(folder, HISTORY[4]["을"], removed=["갑"])
        done(4)
        put(folder, removed=["병", "정", "을"])
        done(5)


def check_survived(root: Path, done: int) -> None:
    """What was done is there, and what was being done is there or not; all goes on from it."""
    store = Projection("new")
    with opened(root / "folder") as folder:
        found = contents(folder)
        assert found in STATES[done : done + 2]
        if (part := root / "part").exists():
            # A shard that was being moved in is in one place at least, and whole.
            try:
                folder.adopt(part)
            except ShardError:
                assert done < 3  # written just now, and lost to the power failure
            found = contents(folder)
            assert found in STATES[done : done + 3]
        put(folder, document("무", 9))
        expected = found | {"무": document("무", 9)[0]}
        store.load(folder)
        assert store.passages == expected
    (root / "folder" / "index.sqlite").unlink()
    with opened(root / "folder") as folder:
        assert contents(folder) == expected


def test_power_failures(tmp_path: Path) -> None:
    """Whatever the disk had not been waited for is lost; nothing that was acknowledged is."""
    images: list[tuple[Path, int]] = []
    acknowledged = [0]
    root = tmp_path / "disk"
    root.mkdir()
    disk = Disk(root)

    def fail() -> None:
        image = tmp_path / f"image{len(images)}"
        disk.after_power_failure(image)
        images.append((image, acknowledged[-1]))

    with disk.watched(), steps(fail, statements=False):
        live_through(root, acknowledged.append)
    assert len(images) > 50
    for image, done in images[:: 1 if LONG else 5]:
        if done in (1, 3, 4):  # amid what somebody writes
            assert not (image / "folder" / "clean").exists()
        check_survived(image, done)


def test_kills_as_the_system_sees_them(tmp_path: Path) -> None:
    """All that the system was told stays, also in the midst of the index's transactions."""
    images: list[tuple[Path, int]] = []
    acknowledged, passed = [0], [0]
    root = tmp_path / "disk"
    root.mkdir()

    def copy() -> None:
        passed[0] += 1
        if LONG or passed[0] % 23 == 0:
            image = tmp_path / f"image{passed[0]}"
            after_kill(root, image)
            images.append((image, acknowledged[-1]))

    with steps(copy):
        live_through(root, acknowledged.append)
    assert len(images) > 10
    for image, done in images:
        check_survived(image, done)


KILLED = """
import os, signal, sys
from pathlib import Path
from shard_samples import steps
sys.path.insert(0, {tests!r})
from test_shards_crashes import live_through

def run(root, kill_at):
    passed = 0

    def step():
        nonlocal passed
        passed += 1
        if passed == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    root.mkdir()
    acknowledged = os.open(root / "acknowledged", os.O_WRONLY | os.O_CREAT)
    with steps(step):
        live_through(root, lambda n: os.pwrite(acknowledged, bytes([n]), 0))
    return passed

total = run(Path("whole"), 0)
wanted = {wanted} or total
for kill_at in range(1, total, total // wanted):
    pid = os.fork()
    if not pid:
        run(Path(str(kill_at)), kill_at)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
"""


def test_kill_9(tmp_path: Path) -> None:
    """Real processes, really killed: the lock is free, and what was acknowledged is there."""
    script = KILLED.format(tests=str(Path(__file__).parent), wanted=0 if LONG else 8)
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
    )
    roots = list(tmp_path.iterdir())
    assert len(roots) > 8
    for root in roots:
        said = (root / "acknowledged").read_bytes()
        check_survived(root, said[0] if said else 0)


def test_power_fails_after_a_kill(tmp_path: Path) -> None:
    """What a killed writer had named and not waited for is waited for by who counts it in."""
    root = tmp_path / "disk"
    root.mkdir()
    disk = Disk(root)
    with disk.watched():
        folder = opened(root / "folder")
        put(folder, document("갑"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(durable, "sync_folder", _killed)
            with pytest.raises(KeyboardInterrupt):
                put(folder, document("을"))
        folder.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        with opened(root / "folder") as folder:
            found = contents(folder)
            assert found.keys() == {"갑", "을"}
            disk.after_power_failure(tmp_path / "image")
    with opened(tmp_path / "image" / "folder") as folder:
        assert contents(folder) == found


def _killed(_: Path) -> None:
    raise KeyboardInterrupt


def test_nothing_is_acknowledged_before_the_disk_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write waits for the file, names it, and waits for the folder, in this order."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def syncing(handle: int) -> None:
        calls.append("folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "file")
        fsync(handle)

    def renaming(*paths: Any) -> None:
        calls.append("replace")
        replace(*paths)

    passages = document("을")
    write_shard(tmp_path / "part", passages, vectors_of(passages), fingerprint=FINGERPRINT)
    with opened(tmp_path / "folder") as folder:
        monkeypatch.setattr(os, "fsync", syncing)
        monkeypatch.setattr(os, "replace", renaming)
        put(folder, document("갑"))
        assert calls == ["file", "replace", "folder"]
        calls.clear()
        folder.adopt(tmp_path / "part")
        assert calls == ["file", "replace", "folder", "folder"]


def test_a_folder_that_was_being_made(tmp_path: Path) -> None:
    """Without a manifest and without shards it is a new one."""
    (tmp_path / "shards").mkdir()
    with opened(tmp_path) as folder:
        assert folder.clean
        put(folder, document("갑"))
    with ShardFolder.existing(tmp_path) as folder:
        assert contents(folder) == {"갑": document("갑")[0]}
