"""``koe5 bench``: its tables, its files, its exit codes, and what it leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from typer.testing import Result

Invoke = Callable[..., Result]
Koe5 = Callable[..., "subprocess.CompletedProcess[str]"]

SMALL = ("--lengths", "16", "--callers", "1,2", "--seconds", "0.01", "--rounds", "1", "--quick")


def test_the_bundled_model(koe5: Koe5, tmp_path: Path) -> None:
    """One command in a new process prints tables and a recommendation, and writes its files."""
    done = koe5("bench", "koe5-mini", *SMALL, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for part in ("koe5-mini (dim 1024)", "Passages a second", "8,192 (own)", "2 callers", "cosine"):
        assert part in done.stdout
    assert "KoE5Encoder('koe5-mini', backend='static')" in done.stdout
    assert done.stderr.startswith(f"written to {tmp_path / 'out'}")
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_json_on_stdout(invoke: Invoke, static_model: Path) -> None:
    """With --json stdout is one JSON object, of any model folder."""
    result = invoke("bench", static_model, *SMALL, "--json")
    stored = json.loads(result.stdout)
    assert stored["model"]["model"] == str(static_model)
    assert stored["settings"]["lengths"] == [16]


def test_a_failed_configuration_is_shown_with_its_reason(
    invoke: Invoke, static_model: Path
) -> None:
    """Where something ran, the command succeeds; where nothing did, it ends with 3."""
    both = invoke("bench", static_model, *SMALL, "--backend", "static", "--backend", "torch")
    assert both.exit_code == 0
    assert "failed: torch fp32: backend='torch' can't run" in both.stdout
    none = invoke("bench", static_model, *SMALL, "--backend", "torch")
    assert none.exit_code == 3
    assert "No recommendation: no configuration could be measured." in none.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no/such-model"], "no/such-model"),
        (["koe5-mini", "--backend", "jax"], "--backend 'jax'"),
        (["koe5-mini", "--lengths", "16,x"], "--lengths '16,x'"),
        (["koe5-mini", "--callers", "0"], "--callers 0"),
        (["koe5-mini", "--seconds", "0"], "--seconds 0"),
        (["koe5-mini", "--device", "cuda"], "nothing that runs koe5-mini"),
    ],
)
def test_mistakes_are_named(invoke: Invoke, arguments: list[str], said: str) -> None:
    """What can't be done ends with 2 and says which option is wrong."""
    result = invoke("bench", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_what_is_not_installed_is_said_first(koe5: Koe5, tmp_path: Path) -> None:
    """Without psutil, or matplotlib where a plot is wanted, the pip line is shown at once."""
    for missing, arguments in (("psutil", ()), ("matplotlib", ("--output", tmp_path / "out"))):
        done = koe5("bench", "koe5-mini", *SMALL, *arguments, without=(missing,))
        assert done.returncode == 2
        assert 'pip install "koe5-integrations[bench]"' in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent in another way there")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_leaves_no_process(static_model: Path, sent: signal.Signals, code: int) -> None:
    """Ctrl-C and SIGTERM in the middle of a measurement end every process of the benchmark."""
    command = [sys.executable, "-m", "koe5_integrations", "bench", str(static_model)]
    with subprocess.Popen(
        [*command, "--seconds", "30", "--lengths", "16"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        started = psutil.Process(process.pid)
        until = time.monotonic() + 40
        while not (left := started.children(recursive=True)) and time.monotonic() < until:
            time.sleep(0.05)
        assert left
        process.send_signal(sent)
        assert process.wait(20) == code
    assert psutil.wait_procs(left, timeout=20)[1] == []
