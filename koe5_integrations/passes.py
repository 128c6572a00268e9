"""What goes through a model together, and in which order."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from koe5_integrations.backends import Tokens
from koe5_integrations.types import Vectors

__all__ = ["Job", "Share", "Waiting", "plan_batches"]

# What a pass costs before its first token (reading the weights, starting the kernels), in tokens:
# two jobs share one unless padding them to one length costs more than this saves.
_PASS = 128


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


@dataclass(eq=False)
class Job:
    """Texts one caller waits for.

    Args:
        tokens: at least one text.
        batch_tokens: most tokens in a pass, padding included.
        batch_size: most texts in a pass.
        finish: applied to the raw vectors, shape (n, dim) in the order of ``tokens``.
        progress: called with the number of texts done since the last call.
    """

    tokens: Sequence[Tokens]
    batch_tokens: int
    batch_size: int | None
    finish: Callable[[Vectors], Vectors]
    progress: Callable[[int], None] | None
    future: Future[Vectors] = field(default_factory=Future)

    def __post_init__(self) -> None:
        lengths = [len(tokens.ids) for tokens in self.tokens]
        self.longest = max(lengths)
        self.batches = deque(plan_batches(lengths, self.batch_tokens, self.batch_size))
        self._out: Vectors | None = None

    def store(self, batch: npt.NDArray[np.intp], vectors: Vectors) -> None:
        """Take the vectors of a batch, and answer the caller after the last."""
        try:
            if self._out is None:
                self._out = np.empty((len(self.tokens), vectors.shape[1]), dtype=np.float32)
            self._out[batch] = vectors
            if self.progress is not None:
                self.progress(len(batch))
            if self.batches:
                return
            result = self.finish(self._out)
        except BaseException as error:
            self.fail(error)
            return
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Give up the rest and tell the caller, if it still waits."""
        self.batches.clear()
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Share(NamedTuple):
    """One job's part of a pass."""

    job: Job
    batch: npt.NDArray[np.intp]


class Waiting:
    """Jobs that have not been answered.

    A job of a single batch (a question, a few passages) goes before the next batch of a longer one,
    together with others like it; after each such pass a longer job that waits gets its turn, so
    that neither kind holds up the other.
    """

    def __init__(self) -> None:
        self._short: deque[Job] = deque()
        self._long: deque[Job] = deque()
        self._long_is_next = False

    def __bool__(self) -> bool:
        """Whether any job waits."""
        return bool(self._short or self._long)

    def add(self, job: Job) -> None:
        """Take a job in."""
        (self._short if len(job.batches) == 1 else self._long).append(job)

    def clear(self) -> list[Job]:
        """Return all jobs and forget them."""
        jobs = [*self._short, *self._long]
        self._short.clear()
        self._long.clear()
        return jobs

    def next_pass(self) -> list[Share]:
        """Return what to run now; nothing if all that waited was cancelled."""
        self._drop_cancelled()
        if self._long and (self._long_is_next or not self._short):
            self._long_is_next = False
            job = self._long[0]
            batch = job.batches.popleft()
            if not job.batches:
                self._long.popleft()
            return [Share(job, batch)]
        self._long_is_next = bool(self._long)
        return [Share(job, job.batches.popleft()) for job in self._take_short()]

    def _drop_cancelled(self) -> None:
        for jobs in (self._short, self._long):
            if any(job.future.done() for job in jobs):
                kept = [job for job in jobs if not job.future.done()]
                jobs.clear()
                jobs.extend(kept)

    def _take_short(self) -> list[Job]:
        """Take the job that has waited longest, and those behind it that share its pass well."""
        taken: list[Job] = []
        left: list[Job] = []
        texts = longest = 0
        most_tokens, most_texts = math.inf, math.inf
        for job in self._short:
            width = max(longest, job.longest)
            count = texts + len(job.tokens)
            tokens_limit = min(most_tokens, job.batch_tokens)
            texts_limit = min(most_texts, job.batch_size or math.inf)
            apart = texts * longest + len(job.tokens) * job.longest + _PASS
            fits = count * width <= min(tokens_limit, apart) and count <= texts_limit
            if taken and not fits:
                left.append(job)
                continue
            taken.append(job)
            texts, longest = count, width
            most_tokens, most_texts = tokens_limit, texts_limit
        self._short = deque(left)
        return taken
