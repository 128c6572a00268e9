"""Many callers at once: every vector is right, nobody is starved, nothing is left behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import KOREAN

import koe5_integrations.passes
from koe5_integrations import KoE5Encoder, release_models
from koe5_integrations.backends import Tokens
from koe5_integrations.backends.static import StaticBackend
from koe5_integrations.errors import DeviceMemoryError
from koe5_integrations.scheduling import Worker
from koe5_integrations.types import Vectors

WAIT = 60
SENTENCES = KOREAN[:5]


def worker_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "koe5-worker"]


# The scheduler alone


class Sums:
    """A backend that returns each text's id, length and sum, and has so much memory and no more."""

    batch_tokens = 512
    pass_tokens = 32

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.running = threading.Lock()

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        raise NotImplementedError

    def forward(self, batch: Sequence[Tokens]) -> Vectors:
        assert self.running.acquire(blocking=False), "one replica ran two passes at once"
        try:
            if len(batch) * max(len(text.ids) for text in batch) > self.memory:
                raise DeviceMemoryError("too much at once")
            if any(text.uncut < 0 for text in batch):
                raise ValueError("poison")
            return np.array([[t.uncut, len(t.ids), t.ids.sum()] for t in batch], dtype=np.float32)
        finally:
            self.running.release()


def some_texts(seed: int, count: int, longest: int = 80) -> tuple[list[Tokens], Vectors]:
    """Texts of random lengths, and the vectors that belong to them."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(0, 1000, size=n, dtype=np.int32) for n in rng.integers(1, longest, count)]
    expected = [[i, len(each), each.sum()] for i, each in enumerate(ids)]
    return [Tokens(each, i) for i, each in enumerate(ids)], np.array(expected, dtype=np.float32)


def ident(vectors: Vectors) -> Vectors:
    return vectors


JOBS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**16),
        "count": st.integers(1, 5) | st.integers(1, 400),
        "batch_tokens": st.none() | st.integers(1, 2000),
        "batch_size": st.none() | st.integers(1, 50),
        "fate": st.sampled_from(["wanted", "wanted", "cancelled", "poisoned"]),
    }
)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(
    callers=st.lists(st.lists(JOBS, min_size=1, max_size=4), min_size=1, max_size=6),
    replicas=st.integers(1, 3),
    memory=st.sampled_from([90, 200, 10_000]),
)
def test_everyone_gets_their_own(
    callers: list[list[dict[str, Any]]], replicas: int, memory: int
) -> None:
    """Whatever is asked for at once, cancelled and failing work included, each result is right."""
    worker = Worker([Sums(memory) for _ in range(replicas)])

    def call(jobs: list[dict[str, Any]]) -> None:
        asked: list[tuple[str, Future[Vectors], Vectors, list[int]]] = []
        for job in jobs:
            tokens, expected = some_texts(job["seed"], job["count"])
            if job["fate"] == "poisoned":
                tokens[-1] = Tokens(tokens[-1].ids, -1)
            seen: list[int] = []
            future = worker.submit(
                tokens,
                finish=ident,
                progress=seen.append,
                batch_tokens=job["batch_tokens"],
                batch_size=job["batch_size"],
            )
            if job["fate"] == "cancelled":
                future.cancel()
            asked.append((job["fate"], future, expected, seen))
        for fate, future, expected, seen in asked:
            if fate == "poisoned":
                with pytest.raises(ValueError, match="poison") as raised:
                    future.result(WAIT)
                place = len(expected) - 1
                assert raised.value.__notes__ == [f"raised while texts[{place}] was embedded"]
            elif fate == "wanted" or not future.cancelled():
                np.testing.assert_array_equal(future.result(WAIT), expected)
                assert sum(seen) == len(expected)

    with ThreadPoolExecutor(len(callers)) as pool:
        list(pool.map(call, callers))
    worker.close()
    assert not any(thread.is_alive() for thread in worker._threads)


@pytest.mark.parametrize("count", [1, 2, 999, 10_000])
def test_any_number_of_texts_comes_back_in_order(count: int) -> None:
    """One text or ten thousand, of any lengths, on one replica or two."""
    tokens, expected = some_texts(count, count, longest=600)
    for replicas in (1, 2):
        worker = Worker([Sums(10_000) for _ in range(replicas)])
        np.testing.assert_array_equal(worker.submit(tokens, finish=ident).result(WAIT), expected)
        worker.close()


# The whole encoder


@pytest.mark.parametrize("device", ["cpu", "cpu,cpu"], ids=["one replica", "two replicas"])
def test_threads_tasks_and_a_bulk_job_get_their_own_vectors(
    fresh_models: None, xlm_roberta: Path, device: str
) -> None:
    """64 threads and 64 tasks beside a bulk job: each vector is the one it has alone."""
    encoder = KoE5Encoder(xlm_roberta, device=device, batch_tokens=512)
    questions = [f"{SENTENCES[i % 5][: 4 + i % 20]} {i}" for i in range(128)]
    passages = [f"{' '.join(SENTENCES)[: 5 + 11 * (i % 13)]} {i}" for i in range(300)]
    questions_alone = np.concatenate([encoder.encode_queries([text]) for text in questions])
    passages_alone = np.concatenate([encoder.encode_passages([text]) for text in passages])

    async def tasks() -> tuple[Vectors, list[Vectors]]:
        bulk, *found = await asyncio.gather(
            encoder.aencode_passages(passages),
            *(encoder.aencode_queries([text]) for text in questions[64:]),
        )
        return bulk, found

    with ThreadPoolExecutor(65) as pool:
        beside = pool.submit(asyncio.run, tasks())
        threads = list(pool.map(lambda text: encoder.encode_queries([text]), questions[:64]))
        bulk, found = beside.result(WAIT)
    np.testing.assert_allclose(np.concatenate([*threads, *found]), questions_alone, atol=1e-5)
    np.testing.assert_allclose(bulk, passages_alone, atol=1e-5)


async def test_bulk_in_line_leaves_the_event_loops_threads_to_questions(
    fresh_models: None, static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more bulk tasks waiting for room than asyncio has threads, a question waits for none."""
    monkeypatch.setattr(koe5_integrations.passes, "MOST_WAITING", 100)
    passes, forward = [], StaticBackend.forward

    def slow(self: StaticBackend, batch: Sequence[Tokens]) -> Vectors:
        passes.append(len(batch))
        time.sleep(0.002)
        return forward(self, batch)

    monkeypatch.setattr(StaticBackend, "forward", slow)
    encoder = KoE5Encoder(static_model, batch_size=10)
    passages = [f"{i} 번째 헌법" for i in range(100)]
    bulk = [asyncio.create_task(encoder.aencode_passages(passages)) for _ in range(100)]
    while len(passes) < 50:
        await asyncio.sleep(0.01)
    await encoder.aencode_queries(["헌법"])
    assert not all(task.done() for task in bulk)
    assert len(passes) < 500
    bulk[-1].cancel()
    *found, cancelled = await asyncio.gather(*bulk, return_exceptions=True)
    assert isinstance(cancelled, asyncio.CancelledError)
    for vectors in found:
        np.testing.assert_allclose(vectors, found[0], atol=1e-6)


def test_nothing_is_left_behind(fresh_models: None, static_model: Path) -> None:
    """Once models are released no thread is left, whether or not their encoders still live."""
    before = set(threading.enumerate())
    kept = KoE5Encoder(static_model, max_seq_length=8, on_truncation="ignore")
    for encoder in (kept, KoE5Encoder(static_model, on_truncation="ignore")):
        encoder.encode_passages([f"{text} {i}" for text in SENTENCES for i in range(50)])
    del encoder
    assert len(worker_threads()) == 2
    release_models()
    assert set(threading.enumerate()) == before


SCRIPT = """
import asyncio, contextlib, threading, time
from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import EncoderClosedError
from koe5_integrations.backends.static import StaticBackend

forward = StaticBackend.forward

def slow(self, batch):
    print("running", flush=True)
    time.sleep(0.05)
    return forward(self, batch)

StaticBackend.forward = slow
encoder = KoE5Encoder({model!r}, batch_size=1)
bulk = [f"{{i}} 번째 헌법" for i in range(3000)]
"""


def start(script: str, model: Path) -> subprocess.Popen[str]:
    """Start a script, and return once it is in the midst of a bulk job of minutes."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(model=str(model)) + script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return process


@pytest.mark.parametrize(
    "script",
    [
        """
def work():
    with contextlib.suppress(EncoderClosedError):
        encoder.encode_passages(bulk)

threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
""",
        """
async def main():
    task = asyncio.create_task(encoder.aencode_passages(bulk))
    await asyncio.sleep(0.5)

asyncio.run(main())
""",
    ],
    ids=["a daemon thread's", "a task's"],
)
def test_a_process_ends_in_the_midst_of_a_bulk_job(static_model: Path, script: str) -> None:
    """A process that ends while a bulk job runs does so cleanly, and not after minutes."""
    process = start(script, static_model)
    _, errors = process.communicate(timeout=WAIT)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't send Ctrl-C to one process")
def test_ctrl_c_ends_a_bulk_job(static_model: Path) -> None:
    """Ctrl-C during a bulk job is a KeyboardInterrupt at once, and the encoder works on."""
    script = """
try:
    encoder.encode_passages(bulk)
except KeyboardInterrupt:
    print(encoder.encode_queries(["헌법"]).shape, flush=True)
"""
    process = start(script, static_model)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=WAIT)
    assert (process.returncode, errors) == (0, "")
    assert output.splitlines()[-1] == "(1, 16)"
    assert output.count("running") < 100
