"""Tests of koe5_integrations.ingestion.locking."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from koe5_integrations.errors import ConfigError, LockedError
from koe5_integrations.ingestion.locking import FolderLock

HOLD = """
import sys
from koe5_integrations.errors import LockedError
from koe5_integrations.ingestion.locking import FolderLock
sys.stdin.readline()
try:
    with FolderLock(sys.argv[1], "시험"):
        print("held", flush=True)
        sys.stdin.readline()
except LockedError as error:
    print(error, flush=True)
"""


@contextmanager
def process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that takes the lock at the first line it is sent, and gives it back at another."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1"},
    ) as child:
        yield child
        child.kill()


def go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def said(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_another_process_is_refused_100_of_100(tmp_path: Path) -> None:
    """The refusal names the folder, the holder's process, machine and purpose, and since when."""
    with process(tmp_path) as holder:
        go(holder)
        assert said(holder) == "held"
        for _ in range(100):
            with pytest.raises(LockedError, match="시험") as refused:
                FolderLock(tmp_path, "second").acquire()
        message = str(refused.value)
        since = json.loads((tmp_path / ".koe5.lock.json").read_text(encoding="utf-8"))["since"]
        for part in (str(tmp_path), f"process {holder.pid} on {platform.node()}", since):
            assert part in message


def test_of_two_that_start_at_once_one_is_refused(tmp_path: Path) -> None:
    """Exactly one gets the lock, and the other learns which."""
    with process(tmp_path) as one, process(tmp_path) as two:
        go(one)
        go(two)
        answers = {said(one): one.pid, said(two): two.pid}
        winner = answers.pop("held")
        [(refusal, _)] = answers.items()
        assert f"process {winner} on" in refusal


def test_kill_9_releases_it(tmp_path: Path) -> None:
    """What a killed holder has left is in nobody's way."""
    with process(tmp_path) as holder:
        go(holder)
        assert said(holder) == "held"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert (tmp_path / ".koe5.lock.json").exists()
    with FolderLock(tmp_path, "after"):
        assert json.loads((tmp_path / ".koe5.lock.json").read_text())["pid"] == os.getpid()


def test_one_process_gets_it_once(tmp_path: Path) -> None:
    """Neither another object nor the one that holds it gets it a second time."""
    with FolderLock(tmp_path / "made" / "for it", "first") as first:
        for again in (FolderLock(first.folder, "second"), first):
            with pytest.raises(LockedError, match=r"this very process .first, since"):
                again.acquire()
    with FolderLock(first.folder, "third"), pytest.raises(LockedError):
        first.acquire()
    first.release()  # and giving back what one does not hold is no error
    with first:
        pass


def test_who_does_not_say_who_it_is_holds_it_nevertheless(tmp_path: Path) -> None:
    """Without its note, or with a damaged one, the lock is refused with less to say."""
    with FolderLock(tmp_path, "first"):
        for note in (None, b"\xff", b"[]"):
            (tmp_path / ".koe5.lock.json").unlink(missing_ok=True)
            if note is not None:
                (tmp_path / ".koe5.lock.json").write_bytes(note)
            with pytest.raises(LockedError, match="has not said who it is"):
                FolderLock(tmp_path, "second").acquire()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """The error names the folder and what the system says."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file.*can't be locked for writing: (File exists|Not)"):
        FolderLock(tmp_path / "file", "test").acquire()
    with pytest.raises(ConfigError, match="can't be locked for writing: Not a directory"):
        FolderLock(tmp_path / "file" / "below", "test").acquire()
