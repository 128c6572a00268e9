"""Tests of koe5_integrations.scheduling: one worker per loaded model."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from held_backend import WAIT, HeldBackend, submit, values_of

import koe5_integrations.handle
from koe5_integrations import KoE5Encoder, release_models
from koe5_integrations.errors import EncoderClosedError
from koe5_integrations.scheduling import shared_worker


def worker_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "koe5-worker"]


class CountLoads:
    """Stands before load_backend, counts its calls and can slow them down."""

    def __init__(self, load: Callable[..., Any], seconds: float = 0) -> None:
        self.load, self.seconds, self.calls = load, seconds, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        time.sleep(self.seconds)
        return self.load(*args, **kwargs)


@pytest.fixture
def loads(fresh_models: None, monkeypatch: pytest.MonkeyPatch) -> CountLoads:
    count = CountLoads(koe5_integrations.handle.load_backend)
    monkeypatch.setattr(koe5_integrations.handle, "load_backend", count)
    return count


def test_one_key_is_loaded_once_however_many_ask(fresh_models: None) -> None:
    """Threads that ask for a model at the same moment share one load."""
    calls: list[bool] = []

    def load(forked: bool) -> list[HeldBackend]:
        calls.append(forked)
        time.sleep(0.05)
        return [HeldBackend()]

    with ThreadPoolExecutor(16) as pool:
        workers = list(pool.map(lambda _: shared_worker("a key", "state", load), range(64)))
    assert len({id(worker) for worker in workers}) == 1
    assert calls == [False]


def test_a_load_that_fails_is_tried_again(fresh_models: None) -> None:
    """After a failed load the next caller loads anew."""

    def fail(forked: bool) -> list[HeldBackend]:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        shared_worker("a key", "state", fail)
    assert shared_worker("a key", "state", lambda forked: [HeldBackend()]).alive


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_child_forked_during_a_load_can_load(fresh_models: None) -> None:
    """A child forked while another thread loads a model starts anew, knowing it was forked."""
    loading, may_end = threading.Event(), threading.Event()

    def slow_load(forked: bool) -> list[HeldBackend]:
        loading.set()
        assert may_end.wait(WAIT)
        return [HeldBackend()]

    def load_in_child(forked: bool) -> list[HeldBackend]:
        assert forked
        return [HeldBackend()]

    with ThreadPoolExecutor(1) as pool:
        parent = pool.submit(shared_worker, "a key", "state", slow_load)
        assert loading.wait(WAIT)
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(WAIT)  # rather than wait for ever
                worker = shared_worker("a key", "state", load_in_child)
                assert values_of(submit(worker, 1, 2)) == [1, 2]
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        may_end.set()
        assert parent.result(WAIT).alive


def test_encoders_of_one_model_share_it(loads: CountLoads, static_model: Path) -> None:
    """Prompts, policies and batch sizes are the encoder's; the loaded model is shared."""
    for options in (
        {},
        {"query_prompt": "Q: "},
        {"batch_size": 2, "on_prefixed": "error", "on_truncation": "ignore"},
        {"normalize_unicode": False},
    ):
        KoE5Encoder(static_model, **options).encode_queries(["파이썬"])
    assert loads.calls == 1
    assert len(worker_threads()) == 1


def test_encoders_of_different_models_do_not(
    loads: CountLoads, static_model: Path, xlm_roberta: Path
) -> None:
    """What changes how the model is loaded makes another one."""
    KoE5Encoder(static_model).encode_queries(["파이썬"])
    KoE5Encoder(static_model, max_seq_length=3, on_truncation="ignore").encode_queries(["파이썬"])
    KoE5Encoder(xlm_roberta).encode_queries(["파이썬"])
    KoE5Encoder(xlm_roberta, precision="bf16").encode_queries(["파이썬"])
    assert loads.calls == 4


def test_released_models_come_back(loads: CountLoads, static_model: Path) -> None:
    """After a release no thread is left, and the same encoder loads the model again."""
    encoder = KoE5Encoder(static_model)
    before = encoder.encode_queries(["파이썬"])
    assert worker_threads()
    release_models()
    assert worker_threads() == []
    np.testing.assert_array_equal(encoder.encode_queries(["파이썬"]), before)
    assert loads.calls == 2
    release_models()
    release_models()
    assert worker_threads() == []


def test_a_released_model_is_let_go() -> None:
    """After a release nothing keeps the model in memory, not even who still holds its worker."""
    release_models()
    backend = HeldBackend()
    gone = weakref.ref(backend)
    held = [backend]
    worker = shared_worker("a key", "state", lambda forked: [held.pop()])
    del backend
    gc.collect()
    assert gone() is not None
    release_models()
    gc.collect()
    assert gone() is None
    with pytest.raises(EncoderClosedError, match="call the encoder again"):
        _ = worker.backend


def test_releasing_while_others_encode(fresh_models: None, static_model: Path) -> None:
    """Under releases in between, a call returns right vectors or says the model was released."""
    encoder = KoE5Encoder(static_model)
    expected = encoder.encode_queries(["파이썬"])
    stop = threading.Event()

    def encode() -> int:
        done = 0
        while not stop.is_set():
            try:
                vectors = encoder.encode_queries(["파이썬"])
            except EncoderClosedError:
                continue
            np.testing.assert_array_equal(vectors, expected)
            done += 1
        return done

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(encode) for _ in range(4)]
        for _ in range(20):
            time.sleep(0.01)
            release_models()
        stop.set()
        assert sum(future.result(WAIT) for future in futures) > 0


def test_a_model_loaded_from_older_files_ends_with_its_last_user() -> None:
    """Another state of the files is loaded anew, and the older one lives as long as it is used."""
    old_backend = HeldBackend()
    freed = weakref.ref(old_backend)
    held = [old_backend]
    old = shared_worker("a key", "state 1", lambda forked: [held.pop()])
    del old_backend
    (thread,) = old._threads
    new = shared_worker("a key", "state 2", lambda forked: [HeldBackend()])
    assert new is not old
    assert values_of(submit(old, 1)) == [1]
    del old
    thread.join(timeout=WAIT)
    gc.collect()
    assert not thread.is_alive()
    assert freed() is None
