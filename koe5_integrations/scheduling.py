"""One worker per loaded model, shared by everything in the process that uses that model."""

from __future__ import annotations

import atexit
import os
import queue
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from koe5_integrations.backends import Backend, Tokens
from koe5_integrations.errors import EncoderClosedError
from koe5_integrations.types import Vectors

__all__ = ["Worker", "plan_batches", "release_models", "shared_worker"]


def plan_batches(
    lengths: Sequence[int], batch_tokens: int, batch_size: int | None = None
) -> list[npt.NDArray[np.intp]]:
    """Cut texts of these lengths into batches of similar length.

    Longest first, so that memory peaks in the first batch rather than after an hour's work.

    Args:
        lengths: tokens of each text.
        batch_tokens: most tokens in a batch, padding included; a longer text gets a batch of its
            own.
        batch_size: most texts in a batch.

    Returns:
        Positions of each batch's texts; every position exactly once.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches = []
    start = 0
    while start < len(order):
        longest = max(1, lengths[order[start]])
        size = max(1, batch_tokens // longest)
        if batch_size is not None:
            size = min(size, batch_size)
        batches.append(order[start : start + size])
        start += size
    return batches


@dataclass
class _Job:
    tokens: Sequence[Tokens]
    batches: list[npt.NDArray[np.intp]]
    finish: Callable[[Vectors], Vectors]
    progress: Callable[[int], None] | None
    future: Future[Vectors] = field(default_factory=Future)

    def run(self, backend: Backend, stop: threading.Event) -> None:
        out: Vectors | None = None
        try:
            for batch in self.batches:
                if self.future.cancelled():
                    return
                if stop.is_set():
                    raise EncoderClosedError("the model was released while this work was under way")
                vectors = backend.forward([self.tokens[i] for i in batch])
                if out is None:
                    out = np.empty((len(self.tokens), vectors.shape[1]), dtype=np.float32)
                out[batch] = vectors
                if self.progress is not None:
                    self.progress(len(batch))
            assert out is not None  # submit() refuses empty work
            result = self.finish(out)
        except BaseException as error:
            if self.future.set_running_or_notify_cancel():
                self.future.set_exception(error)
            return
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(result)


class Worker:
    """A thread that owns a loaded model and runs the work given to it, first come first served.

    Args:
        backend: the loaded model.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
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
        batches = plan_batches(
            [len(t.ids) for t in tokens], batch_tokens or self.backend.batch_tokens, batch_size
        )
        job = _Job(tokens, batches, finish, progress)
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


def _run(jobs: queue.SimpleQueue[_Job | None], backend: Backend, stop: threading.Event) -> None:
    while (job := jobs.get()) is not None:
        job.run(backend, stop)
        # Don't keep the last caller's texts and vectors alive while waiting for the next.
        del job


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
