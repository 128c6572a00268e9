"""One worker per loaded model, shared by everything in the process that uses that model."""

from __future__ import annotations

import atexit
import os
import queue
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future

from koe5_integrations.backends import Backend, Tokens
from koe5_integrations.errors import EncoderClosedError
from koe5_integrations.passes import Job, Share, Waiting
from koe5_integrations.types import Vectors

__all__ = ["Worker", "release_models", "shared_worker"]


class Worker:
    """A thread that owns a loaded model and runs the work given to it.

    What waits at the same time and is short goes through the model together, and before the next
    batch of anything long: see :class:`~koe5_integrations.passes.Waiting`.

    Args:
        backend: the loaded model.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._pid = os.getpid()
        # A daemon, so that interpreter exit doesn't wait for a queue of work nobody will read; the
        # atexit hook below lets the pass that is running end first.
        # It doesn't know its worker, so that one nobody holds any more ends and frees its model.
        self._thread = threading.Thread(
            target=_run, args=(self._jobs, backend, self._stop), name="koe5-worker", daemon=True
        )
        self._thread.start()
        weakref.finalize(self, self._jobs.put, None).atexit = False

    @property
    def alive(self) -> bool:
        """Whether work can be given to it: neither ended nor inherited through a fork."""
        return not self._stop.is_set() and self._pid == os.getpid()

    def submit(
        self,
        tokens: Sequence[Tokens],
        *,
        finish: Callable[[Vectors], Vectors],
        progress: Callable[[int], None] | None = None,
        batch_tokens: int | None = None,
        batch_size: int | None = None,
    ) -> Future[Vectors]:
        """Queue texts for embedding; cancelling the future stops them at the next batch.

        Args:
            tokens: at least one text.
            finish: applied to the raw vectors, shape (n, dim) in the order of ``tokens``, in the
                worker.
            progress: called in the worker with the number of texts done since the last call.
            batch_tokens: most tokens in a pass; None is the backend's own choice.
            batch_size: most texts in a pass.

        Raises:
            EncoderClosedError: the worker was closed.
        """
        job = Job(tokens, batch_tokens or self.backend.batch_tokens, batch_size, finish, progress)
        with self._lock:
            if self._stop.is_set():
                raise EncoderClosedError(
                    "the model was released; call the encoder again to reload it"
                )
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """End after the pass that is running; work still queued fails with EncoderClosedError."""
        with self._lock:
            if self._stop.is_set():
                return
            self._stop.set()
            self._jobs.put(None)
        if self._pid == os.getpid() and threading.current_thread() is not self._thread:
            self._thread.join()


def _run(jobs: queue.SimpleQueue[Job | None], backend: Backend, stop: threading.Event) -> None:
    """Run passes until None comes, then what is left, or fail it if the worker is to stop."""
    waiting = Waiting()
    ending = False
    while waiting or not ending:
        ending |= _take_in(jobs, waiting, block=not waiting)
        if stop.is_set():
            for job in waiting.clear():
                job.fail(EncoderClosedError("the model was released before this work was done"))
            continue
        # Held by no name here: the last caller's texts and vectors must not stay alive while the
        # next is waited for.
        _run_pass(waiting.next_pass(), backend)


def _take_in(jobs: queue.SimpleQueue[Job | None], waiting: Waiting, *, block: bool) -> bool:
    """Take in all that has come, waiting for the first if asked; return whether None was there."""
    ended = False
    while True:
        try:
            job = jobs.get(block=block)
        except queue.Empty:
            return ended
        block = False
        if job is None:
            ended = True
        else:
            waiting.add(job)


def _run_pass(shares: list[Share], backend: Backend) -> None:
    """Run shares of jobs through the model together; none if all that waited was cancelled."""
    if not shares:
        return
    try:
        vectors = backend.forward([job.tokens[i] for job, batch in shares for i in batch])
    except BaseException as error:
        if len(shares) == 1:
            shares[0].job.fail(error)
            return
        # One text of several callers' may be at fault: only its own caller is to know.
        for share in shares:
            _run_pass([share], backend)
        return
    start = 0
    for job, batch in shares:
        job.store(batch, vectors[start : start + len(batch)])
        start += len(batch)


# The models this process has loaded, by what was asked for, with the state of the files then.
_workers: dict[Hashable, tuple[Hashable, Worker]] = {}
_lock = threading.Lock()
_forked = False


def shared_worker(key: Hashable, state: Hashable, load: Callable[[bool], Backend]) -> Worker:
    """Return the process's worker for a model, loading it on first use and when its files change.

    Args:
        key: what tells this loaded model from every other.
        state: of its files. One loaded from another state lives on with the encoders that use it.
        load: called with whether this process was forked; may take long. Callers for any model wait
            meanwhile.
    """
    with _lock:
        loaded_from, worker = _workers.get(key, (None, None))
        if worker is not None and worker.alive and loaded_from == state:
            return worker
        worker = Worker(load(_forked))
        _workers[key] = (state, worker)
        return worker


def release_models() -> None:
    """Free every model this process has loaded; encoders load theirs again when next used."""
    with _lock:
        workers = [worker for _, worker in _workers.values()]
        _workers.clear()
    for worker in workers:
        worker.close()


def _forget_after_fork() -> None:
    """A forked child has the memory of the models but not the threads that run them."""
    global _lock, _forked
    _lock = threading.Lock()
    _forked = True
    _workers.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which can't fork
    os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(release_models)
