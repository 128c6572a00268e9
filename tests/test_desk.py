"""Tests of koe5_integrations.desk: room in the queue, and who waits for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from held_backend import WAIT, HeldBackend, ident, submit, texts, until, values_of

import koe5_integrations.passes
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


@pytest.fixture
def full(worker: Worker, backend: HeldBackend, monkeypatch: pytest.MonkeyPatch) -> Future[Vectors]:
    """A bulk job that leaves no room behind it, held in its first pass."""
    monkeypatch.setattr(koe5_integrations.passes, "MOST_WAITING", 1000)
    backend.may_go_on.clear()
    future = submit(worker, *range(2000), batch_size=200)
    assert backend.started.acquire(timeout=WAIT)
    return future


def in_line(worker: Worker) -> int:
    return sum(len(line) for line in worker._desk._lines.values())


def wait_in_line(worker: Worker, *values: int) -> threading.Thread:
    """Start a thread that submits long work, and return when it stands in line."""
    thread = threading.Thread(target=submit, args=(worker, *values), kwargs={"batch_size": 1})
    thread.start()
    until(lambda: in_line(worker) == 1)
    return thread


def test_bulk_waits_for_room_and_questions_do_not(
    worker: Worker, backend: HeldBackend, full: Future[Vectors]
) -> None:
    """With the queue full a bulk caller waits until a batch is done; a question goes straight in.

    Nobody in line is overtaken by who came later.
    """
    queued = [worker.enqueue(texts(*range(n)), finish=ident, batch_size=200) for n in (600, 201)]
    question = submit(worker, 5)
    assert not any(each.room.done() for each in queued)
    backend.may_go_on.set()
    assert values_of(question) == [5]
    assert [len(done) for done in backend.passes[:2]] == [200, 1]
    queued[1].room.result(WAIT)
    assert queued[0].room.done()
    assert values_of(full) == list(range(2000))
    assert [values_of(each.vectors) for each in queued] == [list(range(600)), list(range(201))]


def test_closing_wakes_who_waits_for_room(
    worker: Worker, backend: HeldBackend, full: Future[Vectors]
) -> None:
    """A caller in line is told at once that the model was released."""
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            submit(worker, 1, 2, batch_size=1)
        except EncoderClosedError as error:
            errors.append(error)

    waiting = [threading.Thread(target=wait) for _ in range(3)]
    for thread in waiting:
        thread.start()
    until(lambda: in_line(worker) == 3)
    closing = threading.Thread(target=worker.close)
    closing.start()
    for thread in waiting:
        thread.join(WAIT)
    assert len(errors) == 3
    backend.may_go_on.set()
    closing.join(WAIT)
    with pytest.raises(EncoderClosedError):
        full.result(WAIT)


def test_cancelled_work_makes_room(
    worker: Worker, backend: HeldBackend, full: Future[Vectors]
) -> None:
    """Once the bulk job is cancelled, who stands in line comes in."""
    thread = wait_in_line(worker, 1, 2)
    full.cancel()
    backend.may_go_on.set()
    thread.join(WAIT)
    assert not thread.is_alive()


@pytest.mark.alone
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no such signal")
def test_ctrl_c_leaves_the_line(
    worker: Worker, backend: HeldBackend, full: Future[Vectors]
) -> None:
    """A caller who is interrupted while it waits for room never runs, and holds up nobody."""
    # What a shell starts in the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt = threading.Timer(0.2, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        submit(worker, -1, -1, batch_size=1)
    interrupt.join(WAIT)
    signal.signal(signal.SIGINT, before)
    thread = wait_in_line(worker, 1, 2)
    backend.may_go_on.set()
    thread.join(WAIT)
    assert not thread.is_alive()
    full.result(WAIT)
    assert all(-1 not in done for done in backend.passes)


def test_the_workers_own_thread_never_waits_for_room(
    worker: Worker, backend: HeldBackend, full: Future[Vectors]
) -> None:
    """What a callback submits stands in line, and the thread that runs it goes on."""
    more: list[Future[Vectors]] = []
    question = submit(worker, 5)
    question.add_done_callback(lambda _: more.append(submit(worker, 1, 2, batch_size=1)))
    backend.may_go_on.set()
    assert values_of(full) == list(range(2000))
    assert values_of(more[0]) == [1, 2]
