"""What goes through a model together, and in which order."""

from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from koe5_integrations.backends import Tokens
from koe5_integrations.types import Vectors

__all__ = ["MOST_WAITING", "Job", "Positions", "Share", "Waiting", "halve", "plan_batches"]

Positions = npt.NDArray[np.intp]
"""Which of a job's texts, shape (n,)."""

MOST_WAITING = 65_536
"""Texts of one kind, short or long work, that wait at most: 270 MB of KoE5's vectors."""


def plan_batches(
    lengths: npt.ArrayLike,
    batch_tokens: int,
    batch_size: int | None = None,
    *,
    pass_tokens: int = sys.maxsize,
) -> list[Positions]:
    """Cut texts of these lengths into batches of similar length.

    Longest first, so that memory peaks in the first batch rather than after an hour's work.

    Args:
        lengths: tokens of each text.
        batch_tokens: most tokens in a batch, padding included; a longer text gets a batch of its
            own.
        batch_size: most texts in a batch.
        pass_tokens: what a batch costs before its first token, in tokens; a batch is cut where
            that saves more padding than this.

    Returns:
        Positions of each batch's texts, longest first; every position exactly once.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    lengths = lengths[order]
    batches = []
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[start]))
        size = min(max(1, batch_tokens // longest), batch_size or sys.maxsize, len(order) - start)
        while True:
            # What a second batch from each text on would save.
            padding = (longest - lengths[start : start + size]) * np.arange(size, 0, -1)
            cut = int(padding.argmax())
            if cut == 0 or padding[cut] <= pass_tokens:
                break
            size = cut
        batches.append(order[start : start + size])
        start += size
    return batches


@dataclass(eq=False)
class Job:
    """Texts one caller waits for. Several threads may :meth:`store` and :meth:`fail` at once.

    Args:
        tokens: at least one text.
        batch_tokens: most tokens in a pass, padding included.
        batch_size: most texts in a pass.
        finish: applied to the raw vectors, shape (n, dim) in the order of ``tokens``.
        progress: called with the number of texts done since the last call, by one thread at a time.
        positions: of the texts in the caller's list, if it is another: for errors.
    """

    tokens: Sequence[Tokens]
    batch_tokens: int
    batch_size: int | None
    finish: Callable[[Vectors], Vectors]
    progress: Callable[[int], None] | None
    positions: Sequence[int] | Positions | None = None
    future: Future[Vectors] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.lengths = np.array([len(tokens.ids) for tokens in self.tokens], dtype=np.int64)
        # About one pass's work: a question, a few passages.
        size = self.batch_size or sys.maxsize
        self.short = len(self.tokens) <= size and int(self.lengths.sum()) <= self.batch_tokens
        self._left = len(self.tokens)
        self._out: Vectors | None = None
        self._lock = threading.Lock()
        self._answered = False

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more: answered, failed or cancelled."""
        return self.future.done()

    def store(self, batch: Positions, vectors: Vectors) -> None:
        """Take the vectors of a batch, and answer the caller after the last."""
        try:
            with self._lock:
                if self.over:
                    return
                if self._out is None:
                    self._out = np.empty((len(self.tokens), vectors.shape[1]), dtype=np.float32)
                self._out[batch] = vectors
                if self.progress is not None:
                    self.progress(len(batch))
                self._left -= len(batch)
                if self._left:
                    return
            result = self.finish(self._out)
        except BaseException as error:
            self.fail(error)
            return
        if self._is_mine_to_answer():
            self.future.set_result(result)

    def fail(self, error: BaseException, text: int | None = None) -> None:
        """Tell the caller, if it still waits, and which text it was; the rest is not done."""
        if text is not None:
            position = text if self.positions is None else self.positions[text]
            error.add_note(f"raised while texts[{position}] was embedded")
        if self._is_mine_to_answer():
            self.future.set_exception(error)

    def _is_mine_to_answer(self) -> bool:
        with self._lock:
            if self._answered:
                return False
            self._answered = True
        return self.future.set_running_or_notify_cancel()


class Share(NamedTuple):
    """One job's part of a pass: some of its texts, longest first."""

    job: Job
    batch: Positions

    @property
    def longest(self) -> int:
        """Tokens of its longest text."""
        return int(self.job.lengths[self.batch[0]])


def halve(shares: Sequence[Share]) -> tuple[list[Share], list[Share]]:
    """Cut a pass of two texts or more into two of as many texts, in the same order."""
    left = sum(len(share.batch) for share in shares) // 2
    first, second = [], []
    for job, batch in shares:
        if left > 0:
            first.append(Share(job, batch[:left]))
        if left < len(batch):
            second.append(Share(job, batch[max(0, left) :]))
        left -= len(batch)
    return first, second


class Waiting:
    """Texts that have not been handed out, in the order of their turns.

    Short work goes before the next batch of long work, together with other short work of like
    length; after each such pass long work that waits gets a turn, so that neither kind holds up the
    other. Long jobs take turns among themselves.

    Args:
        pass_tokens: what a pass costs before its first token, in tokens.
    """

    def __init__(self, pass_tokens: int) -> None:
        self._pass_tokens = pass_tokens
        self._most_tokens = sys.maxsize
        self._short: deque[Share] = deque()
        self._long: deque[deque[Share]] = deque()  # one deque a job
        self._texts = {True: 0, False: 0}  # by Job.short
        self._long_is_next = False

    def has_room(self, job: Job) -> bool:
        """Whether what waits of this job's kind leaves room for it; one alone always has it."""
        texts = self._texts[job.short]
        return texts == 0 or texts + len(job.tokens) <= MOST_WAITING

    def add(self, job: Job) -> None:
        """Take a job in."""
        shares = list(self._plan(job, np.arange(len(job.tokens))))
        if job.short:
            self._short.extend(shares)
        else:
            self._long.append(deque(shares))
        self._texts[job.short] += len(job.tokens)

    def clear(self) -> set[Job]:
        """Forget all that waits and return whose it was."""
        jobs = {share.job for shares in (self._short, *self._long) for share in shares}
        self._short.clear()
        self._long.clear()
        self._texts = {True: 0, False: 0}
        return jobs

    def lower(self, most_tokens: int) -> None:
        """Bound every pass from now on, whatever jobs ask for."""
        if most_tokens >= self._most_tokens:
            return
        self._most_tokens = most_tokens
        for shares in (self._short, *self._long):
            smaller = [part for share in shares for part in self._plan(*share)]
            shares.clear()
            shares.extend(smaller)

    def next_pass(self) -> list[Share]:
        """Hand out what to run now; nothing if nothing waits that anyone still wants."""
        while self._long and self._long[0][0].job.over:
            for share in self._long.popleft():
                self._hand_out(share)
        while self._short and self._short[0].job.over:
            self._hand_out(self._short.popleft())
        if not self._long or (self._short and not self._long_is_next):
            self._long_is_next = bool(self._long)
            return self._take_short()
        self._long_is_next = False
        shares = self._long.popleft()
        share = shares.popleft()
        if shares:
            self._long.append(shares)
        return [self._hand_out(share)]

    def _plan(self, job: Job, positions: Positions) -> Iterator[Share]:
        for batch in plan_batches(
            job.lengths[positions],
            min(job.batch_tokens, self._most_tokens),
            job.batch_size,
            pass_tokens=self._pass_tokens,
        ):
            yield Share(job, positions[batch])

    def _hand_out(self, share: Share) -> Share:
        self._texts[share.job.short] -= len(share.batch)
        return share

    def _take_short(self) -> list[Share]:
        """Take what has waited longest, and what is behind it that shares its pass well."""
        taken: list[Share] = []
        left: deque[Share] = deque()
        texts = longest = 0
        most_tokens, most_texts = math.inf, math.inf
        for share in self._short:
            if share.job.over:
                self._hand_out(share)
                continue
            width = max(longest, share.longest)
            count = texts + len(share.batch)
            tokens_limit = min(most_tokens, share.job.batch_tokens, self._most_tokens)
            texts_limit = min(most_texts, share.job.batch_size or math.inf)
            # Two passes, if it is not padded to the others' length or they to its.
            apart = texts * longest + len(share.batch) * share.longest + self._pass_tokens
            fits = count * width <= min(tokens_limit, apart) and count <= texts_limit
            if taken and not fits:
                left.append(share)
                continue
            taken.append(self._hand_out(share))
            texts, longest = count, width
            most_tokens, most_texts = tokens_limit, texts_limit
        self._short = left
        return taken
