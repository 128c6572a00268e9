"""``koe5 embed`` stopped: by a closed pipe, by Ctrl-C, and by SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def _start(*args: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "koe5_integrations", *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")
def test_a_closed_pipe_is_quiet(static_model: Path) -> None:
    """``koe5 embed | head`` ends without a word, having streamed while input was still open."""
    process = _start("embed", "--model", static_model, "--role", "query", "--quiet")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        process.stdin.write("겨울\n".encode() * 5000)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == "stdin:1"
        process.stdout.close()
        process.stdin.write("겨울\n".encode() * 5000)
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")
@pytest.mark.parametrize("format", ["jsonl", "npy", "parquet"])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_leaves_nothing(
    static_model: Path, tmp_path: Path, format: str, signum: signal.Signals, code: int
) -> None:
    """Ctrl-C and SIGTERM end it with their exit codes, and no file remains."""
    folder = tmp_path / "out"
    folder.mkdir()
    args = ("--role", "passage", "--out", folder / f"vectors.{format}")
    process = _start("embed", "--model", static_model, *args)
    assert process.stdin is not None
    assert process.stderr is not None
    with process:
        process.stdin.write("겨울\n".encode() * 5000)
        process.stdin.flush()
        # The first slice is in the file.
        deadline = time.monotonic() + 30
        while not any(folder.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [path.suffix for path in folder.iterdir()] == [".tmp"]
        process.send_signal(signum)
        process.wait(timeout=30)
        said = process.stderr.read().decode()
    assert process.returncode == code
    assert said == ("interrupted\n" if signum == signal.SIGINT else "")
    assert list(folder.iterdir()) == []
