"""One worker per loaded model, shared by everything in the process that uses that model."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from koe5_integrations.backends import Backend, Tokens
from koe5_integrations.desk import RELEASED, Desk
from koe5_integrations.errors import (
    ConfigError,
    DeviceMemoryError,
    EmbeddingServerError,
    EncoderClosedError,
)
from koe5_integrations.passes import Job, Positions, Share, halve
from koe5_integrations.types import Vectors

__all__ = ["Queued", "Worker", "release_models", "shared_worker"]

_log = logging.getLogger("koe5_integrations")


class Queued(NamedTuple):
    """Work given to a worker."""

    room: Future[None]
    """Done when it has been taken in: time to give the worker more."""

    vectors: Future[Vectors]
    """The result; cancelling it stops the work at the next batch."""


class Worker:
    """Threads that own a loaded model, one to each of its replicas, and run the work given to it.

    What waits at the same time and is short goes through the model together, and before the next
    batch of anything long: see :class:`~koe5_integrations.passes.Waiting`.

    Args:
        backends: the loaded model, at least once: on several devices, each takes the next pass when
            it has done one.
        most_texts: in a pass, whatever their length; None is any number.
        elsewhere: another machine runs the model, so that nothing here is damaged if the process
            ends during a pass.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        *,
        most_texts: int | None = None,
        elsewhere: bool = False,
    ) -> None:
        self._backend: Backend | None = backends[0]
        self._batch_tokens = backends[0].batch_tokens
        self._most_texts = most_texts
        self._elsewhere = elsewhere
        self._desk = Desk(backends[0].pass_tokens, len(backends))
        self._pid = os.getpid()
        # Daemons, so that interpreter exit doesn't wait for a queue of work nobody will read; the
        # atexit hook below lets the passes that are running end first.
        # They don't know their worker, so that one nobody holds any more ends and frees its model.
        self._threads = [
            threading.Thread(
                target=_run, args=(backend, self._desk), name="koe5-worker", daemon=True
            )
            for backend in backends
        ]
        for thread in self._threads:
            thread.start()
        weakref.finalize(self, self._desk.end).atexit = False

    @property
    def alive(self) -> bool:
        """Whether work can be given to it: neither ended nor inherited through a fork."""
        return not self._desk.closed and self._pid == os.getpid()

    @property
    def backend(self) -> Backend:
        """The model's first replica.

        Raises:
            EncoderClosedError: the worker was closed.
        """
        backend = self._backend
        if backend is None:
            raise EncoderClosedError(RELEASED)
        return backend

    def submit(
        self,
        tokens: Sequence[Tokens],
        *,
        finish: Callable[[Vectors], Vectors],
        progress: Callable[[int], None] | None = None,
        batch_tokens: int | None = None,
        batch_size: int | None = None,
        positions: Sequence[int] | Positions | None = None,
    ) -> Future[Vectors]:
        """Queue texts for embedding, waiting for room; arguments and errors as :meth:`enqueue`."""
        queued = self.enqueue(
            tokens,
            finish=finish,
            progress=progress,
            batch_tokens=batch_tokens,
            batch_size=batch_size,
            positions=positions,
        )
        # Its own threads are what makes room: they never wait for it.
        if threading.current_thread() not in self._threads:
            try:
                queued.room.result()
            except BaseException:
                queued.vectors.cancel()  # Ctrl-C included: nobody will ask for them
                raise
        return queued.vectors

    def enqueue(
        self,
        tokens: Sequence[Tokens],
        *,
        finish: Callable[[Vectors], Vectors],
        progress: Callable[[int], None] | None = None,
        batch_tokens: int | None = None,
        batch_size: int | None = None,
        positions: Sequence[int] | Positions | None = None,
    ) -> Queued:
        """Queue texts for embedding without waiting, and say when there is room for more.

        Room is for :data:`~koe5_integrations.passes.MOST_WAITING` texts; what comes when it is full
        stands in line. Long and short work have each their own room and line, so that no question
        waits for bulk.

        Args:
            tokens: at least one text.
            finish: applied to the raw vectors, shape (n, dim) in the order of ``tokens``, in one of
                the worker's threads; for different calls perhaps in several at once.
            progress: called likewise, with the number of texts done since the last call.
            batch_tokens: most tokens in a pass; None is the backend's own choice.
            batch_size: most texts in a pass.
            positions: of the texts in the caller's list, if it is another: for errors.

        Raises:
            EncoderClosedError: the worker was closed; if that comes later, both futures raise it.
        """
        if not self.alive:
            raise EncoderClosedError(RELEASED)
        batch_tokens = batch_tokens or self._batch_tokens
        if self._most_texts is not None:
            batch_size = min(batch_size or self._most_texts, self._most_texts)
        job = Job(tokens, batch_tokens, batch_size, finish, progress, positions)
        return Queued(self._desk.put(job), job.future)

    def close(self) -> None:
        """End after the passes that are running; the rest fails with EncoderClosedError.

        The model is let go, also by who still holds this worker. Passes elsewhere are not waited
        for: a server may take minutes to answer.
        """
        if not self.alive:
            return
        self._backend = None
        self._desk.close()
        if threading.current_thread() not in self._threads and not self._elsewhere:
            for thread in self._threads:
                thread.join()


def _run(backend: Backend, desk: Desk) -> None:
    """Run passes until told to end."""
    while desk.wait_for_work():
        # The shares are held by no name here: the last caller's texts and vectors must not stay
        # alive while the next is waited for.
        while _run_pass(desk.next_pass(), backend, desk):
            pass


def _run_pass(shares: Sequence[Share], backend: Backend, desk: Desk) -> bool:
    """Run shares of jobs through the model together; return whether there were any.

    A pass that fails is run again in halves, until what fails is one text: with less at once it may
    fit into memory, and one text's fault is its own caller's alone. What no text can be at fault
    for fails all of them at once.
    """
    wanted = [share for share in shares if not share.job.over]
    texts = [job.tokens[i] for job, batch in wanted for i in batch]
    if not texts:
        return bool(shares)
    try:
        vectors = backend.forward(texts)
    except (EmbeddingServerError, ConfigError) as error:
        for job, _ in wanted:
            job.fail(error)
        return True
    except BaseException as error:
        if len(texts) == 1:
            ((job, batch),) = wanted
            job.fail(error, int(batch[0]))
            return True
        tokens = len(texts) * max(share.longest for share in wanted)
        if isinstance(error, DeviceMemoryError):
            desk.lower(tokens // 2)
        _log.warning(
            "a pass of %d texts, %d tokens with padding, failed and is run again in halves: %s",
            *(len(texts), tokens, error),
        )
    else:
        start = 0
        for job, batch in wanted:
            job.store(batch, vectors[start : start + len(batch)])
            start += len(batch)
        return True
    # Not while the error is handled: it keeps what the failed pass has put into memory.
    for half in halve(wanted):
        _run_pass(half, backend, desk)
    return True


# The models this process has loaded, by what was asked for, with the state of the files then.
_workers: dict[Hashable, tuple[Hashable, Worker]] = {}
_lock = threading.Lock()
_forked = False


def shared_worker(
    key: Hashable,
    state: Hashable,
    load: Callable[[bool], Sequence[Backend]],
    *,
    most_texts: int | None = None,
    elsewhere: bool = False,
) -> Worker:
    """Return the process's worker for a model, loading it on first use and when its files change.

    Args:
        key: what tells this loaded model from every other.
        state: of its files. One loaded from another state lives on with the encoders that use it.
        load: called with whether this process was forked, and returns the model's replicas; may
            take long. Callers for any model wait meanwhile.
        most_texts: as of :class:`Worker`.
        elsewhere: as of :class:`Worker`.
    """
    with _lock:
        loaded_from, worker = _workers.get(key, (None, None))
        if worker is not None and worker.alive and loaded_from == state:
            return worker
        worker = Worker(load(_forked), most_texts=most_texts, elsewhere=elsewhere)
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
