"""Where a worker's threads get their work, and its callers leave it."""

from __future__ import annotations

import queue
import threading
from collections import deque
from concurrent.futures import Future

from koe5_integrations.errors import EncoderClosedError
from koe5_integrations.passes import Job, Share, Waiting

__all__ = ["RELEASED", "Desk"]

RELEASED = "the model was released; call the encoder again to reload it"
_UNDONE = "the model was released before this work was done"


class Desk:
    """What a worker shares with its threads, which must not know the worker itself.

    Args:
        pass_tokens: what a pass costs before its first token, in tokens.
        threads: how many draw passes from it.
    """

    def __init__(self, pass_tokens: int, threads: int) -> None:
        self.closed = False
        self._threads = threads
        self._lock = threading.Lock()  # no callback of a future runs while it is held
        self._waiting = Waiting(pass_tokens)
        self._lines: dict[bool, deque[tuple[Job, Future[None]]]] = {True: deque(), False: deque()}
        # Idle threads wait for a note: look what there is to do, or (False) end. A queue, because
        # the garbage collector ends a worker, at any moment and in any thread, the one that holds
        # the lock included, and only SimpleQueue.put() may be called so.
        self._notes: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def put(self, job: Job) -> Future[None]:
        """Let a job stand in line; the future is done once it has been taken in."""
        room: Future[None] = Future()
        with self._lock:
            if self.closed:
                raise EncoderClosedError(RELEASED)
            self._lines[job.short].append((job, room))
            taken_in = self._take_in()
        self._tell(taken_in)
        return room

    def next_pass(self) -> list[Share]:
        """Hand out what to run now; nothing if there is nothing."""
        with self._lock:
            shares = self._waiting.next_pass()
            taken_in = self._take_in()
            shares = shares or self._waiting.next_pass()
        self._tell(taken_in)
        return shares

    def lower(self, most_tokens: int) -> None:
        """Bound every pass from now on."""
        with self._lock:
            self._waiting.lower(most_tokens)

    def wait_for_work(self) -> bool:
        """Wait until there may be something to do; return False to end."""
        return self._notes.get()

    def close(self) -> None:
        """Take nothing in any more, and fail what waits."""
        with self._lock:
            self.closed = True
            in_line = [queued for line in self._lines.values() for queued in line]
            jobs = self._waiting.clear().union(job for job, _ in in_line)
            for line in self._lines.values():
                line.clear()
        self.end()
        for _, room in in_line:
            if room.set_running_or_notify_cancel():
                room.set_exception(EncoderClosedError(_UNDONE))
        for job in jobs:
            job.fail(EncoderClosedError(_UNDONE))

    def end(self) -> None:
        """Let the threads end when all that waits is done."""
        self._note(False)

    def _take_in(self) -> list[Future[None]]:
        """Take in who stands first in each line, as long as there is room."""
        taken_in = []
        for line in self._lines.values():
            while line and (line[0][0].over or self._waiting.has_room(line[0][0])):
                job, room = line.popleft()
                if not job.over:
                    self._waiting.add(job)
                taken_in.append(room)
        return taken_in

    def _tell(self, taken_in: list[Future[None]]) -> None:
        if taken_in:
            self._note(True)
        for room in taken_in:
            if room.set_running_or_notify_cancel():
                room.set_result(None)

    def _note(self, go_on: bool) -> None:
        for _ in range(self._threads):
            self._notes.put(go_on)
