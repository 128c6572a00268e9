"""Tests of an encoder at work: for threads and tasks at once, cancelled, and with its progress."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoder_samples import TEXTS

import koe5_integrations.handle
from koe5_integrations import KoE5Encoder
from koe5_integrations.backends import Tokens
from koe5_integrations.backends.static import StaticBackend
from koe5_integrations.types import Vectors

WAIT = 20


def slow_down(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[int]:
    """Make every pass of a static model slow, and return how many texts each has embedded."""
    seen: list[int] = []
    forward = StaticBackend.forward

    def slow(self: StaticBackend, batch: Sequence[Tokens]) -> Vectors:
        seen.append(len(batch))
        time.sleep(seconds)
        return forward(self, batch)

    monkeypatch.setattr(StaticBackend, "forward", slow)
    return seen


@pytest.fixture(params=["transformer", "static"])
def busy_encoder(request: pytest.FixtureRequest, xlm_roberta: Path, static_model: Path) -> Any:
    path = xlm_roberta if request.param == "transformer" else static_model
    return KoE5Encoder(path, on_truncation="ignore", batch_tokens=256)


def numbered(n: int) -> list[str]:
    return [f"{i} 번째 {TEXTS[i % 3]}" for i in range(n)]


def test_threads_get_their_own_vectors(busy_encoder: KoE5Encoder) -> None:
    """Eight threads that encode fifty times each all get what they asked for."""
    texts = numbered(40)
    expected = busy_encoder.encode_passages(texts)
    start = threading.Barrier(8)

    def work(seed: int) -> float:
        rng = np.random.default_rng(seed)
        start.wait(WAIT)
        worst = 0.0
        for _ in range(50):
            picks = rng.integers(0, len(texts), size=rng.integers(1, 6))
            vectors = busy_encoder.encode_passages([texts[i] for i in picks])
            worst = max(worst, float(np.abs(vectors - expected[picks]).max()))
        return worst

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(work, range(8))) < 1e-5


async def test_tasks_get_their_own_vectors_beside_a_bulk_job(busy_encoder: KoE5Encoder) -> None:
    """Sixty-four tasks and a bulk job at once all get what they asked for."""
    texts = numbered(400)
    passages = busy_encoder.encode_passages(texts)
    queries = busy_encoder.encode_queries(texts[:64])
    bulk, *single = await asyncio.gather(
        busy_encoder.aencode_passages(texts),
        *(busy_encoder.aencode_queries([text]) for text in texts[:64]),
    )
    np.testing.assert_allclose(bulk, passages, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(single), queries, atol=1e-5)


async def test_the_event_loop_keeps_ticking(
    fresh_models: None, static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a slow model loads and runs, for a second in all, other tasks get their turns."""
    slow_down(monkeypatch, 0.05)
    load = koe5_integrations.handle.load_backend

    def slow_load(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.5)
        return load(*args, **kwargs)

    monkeypatch.setattr(koe5_integrations.handle, "load_backend", slow_load)
    encoder = KoE5Encoder(static_model, batch_size=1)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticker = asyncio.create_task(tick())
    await encoder.aencode_passages(numbered(10))
    ticker.cancel()
    assert ticks > 20  # on the loop, loading and running would leave it no turn at all


def test_one_encoder_serves_several_event_loops(static_model: Path) -> None:
    """An encoder is bound to no event loop."""
    encoder = KoE5Encoder(static_model)
    first = asyncio.run(encoder.aencode_queries(TEXTS))
    with ThreadPoolExecutor(2) as pool:
        others = list(
            pool.map(lambda _: asyncio.run(encoder.aencode_queries(TEXTS)), range(2), timeout=WAIT)
        )
    for vectors in others:
        np.testing.assert_array_equal(vectors, first)


# Cancellation


async def test_cancelling_a_task_stops_its_work(
    static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled call stops at the next pass, and the encoder goes on with the next one."""
    encoder = KoE5Encoder(static_model, batch_size=1)
    expected = encoder.encode_queries(["헌법"])
    seen = slow_down(monkeypatch, 0.02)
    task = asyncio.create_task(encoder.aencode_passages(numbered(200)))
    while not seen:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    np.testing.assert_array_equal(await encoder.aencode_queries(["헌법"]), expected)
    assert len(seen) < 20


@pytest.mark.alone
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no such signal")
def test_an_interrupted_call_stops_its_work(
    static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C the rest of a long job is not embedded."""
    encoder = KoE5Encoder(static_model, batch_size=1)
    encoder.encode_queries(["헌법"])
    seen = slow_down(monkeypatch, 0.02)
    here = threading.get_ident()
    # What a shell starts in the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt = threading.Timer(0.1, signal.pthread_kill, [here, signal.SIGINT])
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        encoder.encode_passages(numbered(500))
    interrupt.join(WAIT)
    signal.signal(signal.SIGINT, before)
    encoder.encode_queries(["헌법"])
    assert len(seen) < 100


async def test_cancelling_while_the_model_loads_embeds_nothing(
    fresh_models: None, static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call cancelled before its work was queued never runs; the load is not wasted."""
    started, may_load = threading.Event(), threading.Event()
    load = koe5_integrations.handle.load_backend

    def held(*args: Any, **kwargs: Any) -> Any:
        started.set()
        assert may_load.wait(WAIT)
        return load(*args, **kwargs)

    monkeypatch.setattr(koe5_integrations.handle, "load_backend", held)
    seen = slow_down(monkeypatch, 0.02)
    encoder = KoE5Encoder(static_model, batch_size=1)
    task = asyncio.create_task(encoder.aencode_passages(numbered(200)))
    assert await asyncio.to_thread(started.wait, WAIT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == []
    may_load.set()
    for _ in range(3):
        assert (await encoder.aencode_queries(["헌법"])).shape == (1, 16)
        await asyncio.sleep(0.1)
    assert len(seen) <= 4  # the three questions, and a pass that may have begun


async def test_a_timeout_is_a_cancellation(
    static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio.timeout() ends a call in time."""
    encoder = KoE5Encoder(static_model, batch_size=1)
    encoder.encode_queries(["헌법"])
    seen = slow_down(monkeypatch, 0.02)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await encoder.aencode_passages(numbered(500))
    await encoder.aencode_queries(["헌법"])
    assert len(seen) < 100


# Progress


@pytest.fixture
def stderr_only(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    def read() -> str:
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return read


def test_progress_is_drawn_on_stderr_if_asked(
    static_model: Path, stderr_only: Callable[[], str]
) -> None:
    """A progress bar counts texts up to the last one, and is silent by default."""
    encoder = KoE5Encoder(static_model, batch_size=1)
    encoder.encode_passages(numbered(4))
    assert stderr_only() == ""
    encoder.encode_passages(numbered(4), show_progress=True)
    drawn = stderr_only()
    assert "embedding passage" in drawn
    assert "4/4" in drawn
    assert drawn.endswith("\n")
    asyncio.run(encoder.aencode_queries(numbered(3), show_progress=True))
    assert "3/3" in stderr_only()
    encoder.encode_passages(numbered(3) * 2, show_progress=True)
    assert "6/6" in stderr_only()
