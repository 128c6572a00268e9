"""The processes that measure: what they answer, and that none is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from koe5_integrations import KoE5Encoder
from koe5_integrations.bench.processes import WorkerError, WorkerProcess
from koe5_integrations.bench.workload import make_workload


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def load(process: WorkerProcess, model: Path) -> None:
    process.ask("load", encoder={"model": str(model), "local_files_only": True})


def test_its_vectors_are_the_encoders(static_model: Path, tmp_path: Path) -> None:
    """What a process measures with is the encoder this process would use, text by text."""
    encoder = KoE5Encoder(static_model)
    workload = make_workload(encoder, [32])
    workload.write(tmp_path / "workload.json")
    with WorkerProcess() as process:
        load(process, static_model)
        process.ask("prepare", workload=str(tmp_path / "workload.json"))
        process.ask("vectors", path=str(tmp_path / "vectors.npy"))
    compared = workload.compared
    expected = [encoder.encode_queries([text]) for text in compared["query"]]
    expected += [encoder.encode_passages([text]) for text in compared["passage"]]
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), np.concatenate(expected), 0, 1e-6)


def test_memory_is_its_own(static_model: Path) -> None:
    """A process does not count what the one that started it has ever held."""
    ballast = np.ones(40_000_000)  # 320 MB
    with WorkerProcess() as process:
        loaded = process.ask("load", encoder={"model": str(static_model)})
        peak = process.ask("finish")["peak"]
    assert loaded["resident"] <= peak < ballast.nbytes


def test_an_error_is_an_answer(static_model: Path) -> None:
    """A refused configuration says why, and the process goes on."""
    with WorkerProcess() as process:
        with pytest.raises(WorkerError, match="use backend='static'"):
            process.ask("load", encoder={"model": str(static_model), "backend": "torch"})
        load(process, static_model)


def test_a_bug_is_named_with_its_type(static_model: Path) -> None:
    """An unforeseen error keeps the name that tells what it is."""
    with WorkerProcess() as process, pytest.raises(WorkerError, match=r"^TypeError: "):
        process.ask("load", encoder={"model": str(static_model), "no_such_option": 1})


def test_a_killed_process_is_reported(static_model: Path) -> None:
    """A process ended from outside, as by a system short of memory, is an error that says so."""
    with WorkerProcess() as process:
        load(process, static_model)
        for child in children():
            child.kill()
        with pytest.raises(WorkerError, match=r"ended by SIGKILL.*memory"):
            process.ask("finish")


def test_leaving_ends_it_whatever_it_does(static_model: Path) -> None:
    """An exception in the block leaves no process behind."""

    def interrupted() -> None:
        with WorkerProcess() as process:
            load(process, static_model)
            assert len(children()) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert children() == []


def test_it_ends_with_its_parent() -> None:
    """A process whose parent was killed, with no chance to end it, ends by itself."""
    code = (
        "import time\n"
        "from koe5_integrations.bench.processes import WorkerProcess\n"
        "process = WorkerProcess()\n"
        "process.ask('load', encoder={'model': 'koe5-mini'})\n"
        "print('loaded', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"loaded\n"
        left = psutil.Process(parent.pid).children()
        parent.kill()
    assert len(left) == 1
    gone, alive = psutil.wait_procs(left, timeout=20)
    assert (len(gone), alive) == (1, [])


def test_what_a_library_prints_is_no_answer() -> None:
    """Commands and answers have a channel that nothing else writes to."""
    code = (
        "import os\n"
        "from koe5_integrations.bench import worker\n"
        "worker._Session.finish = lambda self: print('noise') or os.write(1, b'more') and {}\n"
        "worker.main()\n"
    )
    command = json.dumps({"do": "finish"}) + "\n"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(command)
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {}
        process.stdin.close()
        assert process.wait(20) == 0
