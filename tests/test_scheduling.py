"""Tests of koe5_integrations.scheduling."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import koe5_integrations.handle
from koe5_integrations import KoE5Encoder, release_models
from koe5_integrations.backends import Tokens
from koe5_integrations.errors import EncoderClosedError
from koe5_integrations.passes import Job, Waiting, plan_batches
from koe5_integrations.scheduling import Worker, shared_worker
from koe5_integrations.types import Vectors

WAIT = 20
LENGTHS = st.lists(st.integers(0, 600), max_size=300)


def texts(*values: int) -> list[Tokens]:
    """Texts of one token, which the fake backend turns into vectors of that value."""
    return [Tokens(np.array([value], dtype=np.int32), 1) for value in values]


class FakeBackend:
    """Returns each text's first token as its vector; can be held, and fails on a token of -1."""

    batch_tokens = 1_000_000

    def __init__(self) -> None:
        self.passes: list[list[int]] = []
        self.started = threading.Semaphore(0)
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        raise NotImplementedError

    def forward(self, batch: Sequence[Tokens]) -> Vectors:
        self.passes.append([int(t.ids[0]) for t in batch])
        self.started.release()
        assert self.may_go_on.wait(WAIT)
        if -1 in self.passes[-1]:
            raise ValueError("the fake backend fails")
        return np.array([[t.ids[0], 0] for t in batch], dtype=np.float32)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def worker(backend: FakeBackend) -> Iterator[Worker]:
    worker = Worker(backend)
    yield worker
    backend.may_go_on.set()
    worker.close()


def submit(worker: Worker, *values: int, **options: Any) -> Future[Vectors]:
    return worker.submit(texts(*values), finish=lambda vectors: vectors, **options)


def values_of(future: Future[Vectors]) -> list[int]:
    return [int(row[0]) for row in future.result(WAIT)]


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


@settings(derandomize=True, deadline=None, max_examples=200)
@given(LENGTHS, st.integers(1, 5000), st.none() | st.integers(1, 50))
def test_plans_every_text_once_within_the_budget(
    lengths: list[int], batch_tokens: int, batch_size: int | None
) -> None:
    """Every position is in exactly one batch; padded batches hold the budget; longest first."""
    batches = plan_batches(lengths, batch_tokens, batch_size)
    positions = [int(i) for batch in batches for i in batch]
    assert sorted(positions) == list(range(len(lengths)))
    ordered = [lengths[i] for i in positions]
    assert ordered == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) > 0
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= batch_tokens
        assert batch_size is None or len(batch) <= batch_size


@settings(derandomize=True, deadline=None, max_examples=100)
@given(LENGTHS, st.integers(1, 5000))
def test_plans_no_more_batches_than_it_must(lengths: list[int], batch_tokens: int) -> None:
    """A batch is closed only when the next text would break the budget."""
    batches = plan_batches(lengths, batch_tokens)
    for batch in batches[:-1]:
        longest = max(1, lengths[batch[0]])
        assert (len(batch) + 1) * longest > batch_tokens


def test_pads_little() -> None:
    """On texts of mixed length less than 5% of what runs is padding."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(4, 1, size=5000), 3, 512).astype(int).tolist()
    batches = plan_batches(lengths, 2048)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded / sum(lengths) < 1.05


def test_returns_vectors_in_the_order_of_the_texts(worker: Worker, backend: FakeBackend) -> None:
    """However texts are batched, each one's vector is at its position."""
    tokens = [Tokens(np.full(n, n, dtype=np.int32), n) for n in (3, 9, 1, 9, 5)]
    done = worker.submit(tokens, finish=lambda vectors: vectors, batch_tokens=10)
    assert values_of(done) == [3, 9, 1, 9, 5]
    assert backend.passes == [[9], [9], [5, 3], [1]]


def hold(worker: Worker, backend: FakeBackend) -> Future[Vectors]:
    """Keep the worker busy with a pass of its own until ``may_go_on``."""
    backend.may_go_on.clear()
    future = submit(worker, 0)
    assert backend.started.acquire(timeout=WAIT)
    return future


def test_short_work_that_waits_shares_a_pass(worker: Worker, backend: FakeBackend) -> None:
    """What came while a pass was running goes together in the next, each to its own caller."""
    hold(worker, backend)
    futures = [submit(worker, i, 100 + i) for i in range(1, 20)]
    backend.may_go_on.set()
    assert [values_of(future) for future in futures] == [[i, 100 + i] for i in range(1, 20)]
    assert backend.passes == [[0], [n for i in range(1, 20) for n in (i, 100 + i)]]


def test_short_work_goes_before_the_next_batch_of_long_work(
    worker: Worker, backend: FakeBackend
) -> None:
    """A question waits for one batch of a bulk job, and the bulk job for one pass of questions."""
    hold(worker, backend)
    bulk = submit(worker, 10, 11, 12, batch_size=1)
    questions = [submit(worker, i) for i in (1, 2)]
    late: list[Future[Vectors]] = []
    questions[0].add_done_callback(lambda _: late.append(submit(worker, 3)))
    backend.may_go_on.set()
    assert values_of(bulk) == [10, 11, 12]
    assert [values_of(future) for future in (*questions, *late)] == [[1], [2], [3]]
    assert backend.passes == [[0], [1, 2], [10], [3], [11], [12]]


def test_a_failing_text_in_a_shared_pass_fails_its_own_caller_only(
    worker: Worker, backend: FakeBackend
) -> None:
    """A pass that fails is run again caller by caller."""
    hold(worker, backend)
    good, bad, also_good = submit(worker, 1), submit(worker, -1), submit(worker, 2)
    backend.may_go_on.set()
    assert (values_of(good), values_of(also_good)) == ([1], [2])
    with pytest.raises(ValueError, match="the fake backend fails"):
        bad.result(WAIT)


def test_a_shared_pass_keeps_everyones_bounds(worker: Worker, backend: FakeBackend) -> None:
    """No caller's batch_size or batch_tokens is exceeded by company, and order is kept."""
    hold(worker, backend)
    futures = [submit(worker, i, batch_size=2 if i == 3 else None) for i in range(1, 6)]
    backend.may_go_on.set()
    assert [values_of(future) for future in futures] == [[i] for i in range(1, 6)]
    assert backend.passes[1:] == [[1, 2, 4, 5], [3]]


def test_texts_of_very_different_lengths_share_no_pass() -> None:
    """A question is not padded to the length of a long passage."""

    def job(length: int) -> Job:
        return Job([Tokens(np.zeros(length, dtype=np.int32), length)], 10_000, None, ident, None)

    def ident(vectors: Vectors) -> Vectors:
        return vectors

    passage, question, another = job(500), job(12), job(400)
    waiting = Waiting()
    for each in (passage, question, another):
        waiting.add(each)
    assert [share.job for share in waiting.next_pass()] == [passage, another]
    assert [share.job for share in waiting.next_pass()] == [question]
    assert not waiting


def test_options_bound_the_pass(worker: Worker, backend: FakeBackend) -> None:
    """batch_size and batch_tokens bound what runs at once."""
    submit(worker, 1, 2, 3, 4, 5, batch_size=2).result(WAIT)
    assert [len(done) for done in backend.passes] == [2, 2, 1]
    submit(worker, 1, 2, 3, 4, 5, batch_tokens=3).result(WAIT)
    assert [len(done) for done in backend.passes[3:]] == [3, 2]


def test_reports_progress(worker: Worker) -> None:
    """Progress is the number of texts done since the last report."""
    seen: list[int] = []
    submit(worker, 1, 2, 3, 4, 5, batch_size=2, progress=seen.append).result(WAIT)
    assert seen == [2, 2, 1]


def test_a_failing_job_does_not_hurt_the_next(worker: Worker) -> None:
    """An error of the backend or of what finishes the vectors reaches its own caller only."""

    def fail(vectors: Vectors) -> Vectors:
        raise ZeroDivisionError

    bad_pass = submit(worker, -1)
    bad_finish = worker.submit(texts(1), finish=fail)
    good = submit(worker, 7)
    with pytest.raises(ValueError, match="the fake backend fails"):
        bad_pass.result(WAIT)
    with pytest.raises(ZeroDivisionError):
        bad_finish.result(WAIT)
    assert values_of(good) == [7]


def test_cancelling_stops_at_the_next_batch(worker: Worker, backend: FakeBackend) -> None:
    """A job cancelled while it runs ends after its current pass, and the next one runs."""
    backend.may_go_on.clear()
    long = submit(worker, *range(100), batch_size=1)
    assert backend.started.acquire(timeout=WAIT)
    assert long.cancel()
    after = submit(worker, 500)
    backend.may_go_on.set()
    assert values_of(after) == [500]
    assert len(backend.passes) == 2
    with pytest.raises(CancelledError):
        long.result(WAIT)


def test_cancelled_before_its_turn_never_runs(worker: Worker, backend: FakeBackend) -> None:
    """A job cancelled while it waits costs nothing."""
    hold(worker, backend)
    second, third = submit(worker, 2), submit(worker, 3)
    assert second.cancel()
    backend.may_go_on.set()
    assert values_of(third) == [3]
    assert backend.passes == [[0], [3]]


def test_closing_fails_the_work_that_waits(backend: FakeBackend) -> None:
    """What runs ends after its pass; what waits, and what comes later, fails at once."""
    worker = Worker(backend)
    backend.may_go_on.clear()
    running = submit(worker, 1, 2, batch_size=1)
    assert backend.started.acquire(timeout=WAIT)
    waiting = submit(worker, 3)
    closing = threading.Thread(target=worker.close)
    closing.start()
    while worker.alive:
        time.sleep(0.001)
    backend.may_go_on.set()
    closing.join(WAIT)
    assert not closing.is_alive()
    for future in (running, waiting):
        with pytest.raises(EncoderClosedError):
            future.result(WAIT)
    with pytest.raises(EncoderClosedError, match="call the encoder again"):
        submit(worker, 4)
    assert backend.passes == [[1]]
    worker.close()  # closing twice is no error


def test_the_worker_can_close_itself(backend: FakeBackend) -> None:
    """Closing from the worker's own thread does not wait for itself."""
    worker = Worker(backend)

    def finish(vectors: Vectors) -> Vectors:
        worker.close()
        return vectors

    assert worker.submit(texts(1), finish=finish).result(WAIT).shape == (1, 2)
    assert not worker.alive


def test_texts_are_let_go_once_done(worker: Worker) -> None:
    """The worker keeps nothing of a job while it waits for the next."""

    class Marker:
        def __call__(self, vectors: Vectors) -> Vectors:
            return vectors

    marker = Marker()
    gone = weakref.ref(marker)
    worker.submit(texts(1), finish=marker).result(WAIT)
    del marker
    deadline = time.monotonic() + WAIT
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.001)
    assert gone() is None


def test_one_key_is_loaded_once_however_many_ask(fresh_models: None) -> None:
    """Threads that ask for a model at the same moment share one load."""
    calls: list[bool] = []

    def load(forked: bool) -> FakeBackend:
        calls.append(forked)
        time.sleep(0.05)
        return FakeBackend()

    with ThreadPoolExecutor(16) as pool:
        workers = list(pool.map(lambda _: shared_worker("a key", "state", load), range(64)))
    assert len({id(worker) for worker in workers}) == 1
    assert calls == [False]


def test_a_load_that_fails_is_tried_again(fresh_models: None) -> None:
    """After a failed load the next caller loads anew."""

    def fail(forked: bool) -> FakeBackend:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        shared_worker("a key", "state", fail)
    assert shared_worker("a key", "state", lambda forked: FakeBackend()).alive


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_child_forked_during_a_load_can_load(fresh_models: None) -> None:
    """A child forked while another thread loads a model starts anew, knowing it was forked."""
    loading, may_end = threading.Event(), threading.Event()

    def slow_load(forked: bool) -> FakeBackend:
        loading.set()
        assert may_end.wait(WAIT)
        return FakeBackend()

    def load_in_child(forked: bool) -> FakeBackend:
        assert forked
        return FakeBackend()

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
        KoE5Encoder(static_model, **options).encode_queries(["파이썬"])  # type: ignore[arg-type]
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
    """After a release nothing keeps the model in memory."""
    release_models()
    backend = FakeBackend()
    gone = weakref.ref(backend)
    shared_worker("a key", "state", lambda forked, held=[backend]: held.pop())  # type: ignore[misc]
    del backend
    gc.collect()
    assert gone() is not None
    release_models()
    gc.collect()
    assert gone() is None


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
    old_backend = FakeBackend()
    freed = weakref.ref(old_backend)
    held = [old_backend]
    old = shared_worker("a key", "state 1", lambda forked: held.pop())
    del old_backend
    thread = old._thread
    new = shared_worker("a key", "state 2", lambda forked: FakeBackend())
    assert new is not old
    assert values_of(submit(old, 1)) == [1]
    del old
    thread.join(timeout=WAIT)
    gc.collect()
    assert not thread.is_alive()
    assert freed() is None
