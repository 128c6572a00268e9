"""Tests of koe5_integrations.scheduling: a worker and its callers."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

import numpy as np
import pytest
from held_backend import WAIT, HeldBackend, ident, submit, texts, until, values_of

from koe5_integrations.backends import Tokens
from koe5_integrations.errors import EncoderClosedError
from koe5_integrations.scheduling import Worker
from koe5_integrations.types import Vectors


@pytest.fixture
def backend() -> HeldBackend:
    return HeldBackend()


@pytest.fixture
def worker(backend: HeldBackend) -> Iterator[Worker]:
    worker = Worker([backend])
    yield worker
    backend.may_go_on.set()
    worker.close()


def test_returns_vectors_in_the_order_of_the_texts(worker: Worker, backend: HeldBackend) -> None:
    """However texts are batched, each one's vector is at its position."""
    tokens = [Tokens(np.full(n, n, dtype=np.int32), n) for n in (3, 9, 1, 9, 5)]
    done = worker.submit(tokens, finish=ident, batch_tokens=10)
    assert values_of(done) == [3, 9, 1, 9, 5]
    assert backend.passes == [[9], [9], [5, 3], [1]]


def hold(worker: Worker, backend: HeldBackend) -> Future[Vectors]:
    """Keep the worker busy with a pass of its own until ``may_go_on``."""
    backend.may_go_on.clear()
    future = submit(worker, 0)
    assert backend.started.acquire(timeout=WAIT)
    return future


def test_short_work_that_waits_shares_a_pass(worker: Worker, backend: HeldBackend) -> None:
    """What came while a pass was running goes together in the next, each to its own caller."""
    hold(worker, backend)
    futures = [submit(worker, i, 100 + i) for i in range(1, 20)]
    backend.may_go_on.set()
    assert [values_of(future) for future in futures] == [[i, 100 + i] for i in range(1, 20)]
    assert backend.passes == [[0], [n for i in range(1, 20) for n in (i, 100 + i)]]


def test_short_work_goes_before_the_next_batch_of_long_work(
    worker: Worker, backend: HeldBackend
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
    worker: Worker, backend: HeldBackend
) -> None:
    """A pass that fails is run again in halves, down to the text that fails."""
    hold(worker, backend)
    good, bad, also_good = submit(worker, 1), submit(worker, -1, 5), submit(worker, 2)
    backend.may_go_on.set()
    assert (values_of(good), values_of(also_good)) == ([1], [2])
    with pytest.raises(ValueError, match="the held backend fails"):
        bad.result(WAIT)


def test_a_failing_text_is_named(worker: Worker) -> None:
    """The error says which of its caller's texts it was, however they were batched."""
    values = [*range(700), -1, *range(300)]
    for positions, named in ((None, 700), (range(1000, 2001), 1700)):
        failing = submit(worker, *values, batch_size=64, positions=positions)
        with pytest.raises(ValueError, match="the held backend fails") as raised:
            failing.result(WAIT)
        assert raised.value.__notes__ == [f"raised while texts[{named}] was embedded"]


def test_a_shared_pass_keeps_everyones_bounds(worker: Worker, backend: HeldBackend) -> None:
    """No caller's batch_size or batch_tokens is exceeded by company, and order is kept."""
    hold(worker, backend)
    futures = [submit(worker, i, batch_size=2 if i == 3 else None) for i in range(1, 6)]
    backend.may_go_on.set()
    assert [values_of(future) for future in futures] == [[i] for i in range(1, 6)]
    assert backend.passes[1:] == [[1, 2, 4, 5], [3]]


def test_options_bound_the_pass(worker: Worker, backend: HeldBackend) -> None:
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
    with pytest.raises(ValueError, match="the held backend fails"):
        bad_pass.result(WAIT)
    with pytest.raises(ZeroDivisionError):
        bad_finish.result(WAIT)
    assert values_of(good) == [7]


def test_cancelling_stops_at_the_next_batch(worker: Worker, backend: HeldBackend) -> None:
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


def test_cancelled_before_its_turn_never_runs(worker: Worker, backend: HeldBackend) -> None:
    """A job cancelled while it waits costs nothing."""
    hold(worker, backend)
    second, third = submit(worker, 2), submit(worker, 3)
    assert second.cancel()
    backend.may_go_on.set()
    assert values_of(third) == [3]
    assert backend.passes == [[0], [3]]


def test_closing_fails_the_work_that_waits(backend: HeldBackend) -> None:
    """What runs ends after its pass; what waits, and what comes later, fails at once."""
    worker = Worker([backend])
    backend.may_go_on.clear()
    running = submit(worker, 1, 2, batch_size=1)
    assert backend.started.acquire(timeout=WAIT)
    waiting = submit(worker, 3)
    closing = threading.Thread(target=worker.close)
    closing.start()
    until(lambda: not worker.alive)
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


def test_the_worker_can_close_itself(backend: HeldBackend) -> None:
    """Closing from the worker's own thread does not wait for itself."""
    worker = Worker([backend])

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
    until(lambda: gc.collect() >= 0 and gone() is None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_child_forked_while_the_worker_is_busy_is_told_so() -> None:
    """In a child the parent's worker refuses work at once, whatever its threads were at."""
    backends = [HeldBackend(), HeldBackend()]
    worker = Worker(backends)
    bulk = submit(worker, *range(5000), batch_size=1)
    for _ in range(5):
        assert backends[0].started.acquire(timeout=WAIT)
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(WAIT)  # rather than wait for ever
                with pytest.raises(EncoderClosedError):
                    submit(worker, 1)
                worker.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
    assert bulk.result(WAIT)[:, 0].tolist() == list(range(5000))
    worker.close()
