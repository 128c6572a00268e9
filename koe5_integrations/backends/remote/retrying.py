"""What is tried again, how often and when: full jitter, within a deadline."""

from __future__ import annotations

import email.utils
import logging
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import Literal

__all__ = ["Again", "Passing", "Patience", "seconds_to_wait"]

_log = logging.getLogger("koe5_integrations")

# After so many failures of one request, somebody may wonder what takes so long.
_WORTH_A_WARNING = 3


@dataclass(frozen=True)
class Patience:
    """How long a request goes on being tried.

    Attributes:
        attempts: at most, in all: the server can't be reached, is overloaded or restarts.
        unusable: of these so many at most that end in what is no answer.
        broken: and so many at which it fails inside (500, NaN), which may be one text's fault.
        deadline: seconds after which no further attempt is begun.
        first_wait: the wait after the first attempt is up to so many seconds, each further one up
            to twice the last: chosen at random between 0 and that, so that clients spread.
        longest_wait: at most so many seconds.
        connect: seconds to wait for a connection.
        read: seconds to wait for an answer; a server on CPUs may have a long queue.
    """

    attempts: int = 10
    unusable: int = 6
    broken: int = 4
    deadline: float = 600
    first_wait: float = 0.25
    longest_wait: float = 30
    connect: float = 5
    read: float = 300


class Passing(Exception):
    """What may be over when it is tried again.

    Attributes:
        kind: the limit of :class:`Patience` that it counts for, besides the one in all.
        after: seconds the server asks to wait.
    """

    def __init__(
        self,
        problem: str,
        kind: Literal["attempts", "unusable", "broken"] = "attempts",
        *,
        after: float | None = None,
    ) -> None:
        super().__init__(problem)
        self.kind = kind
        self.after = after


class Again:
    """Decides after each failure whether and when to try again: full jitter, and a deadline.

    Args:
        url: of the request, for the log.
        patience: with it.

    Attributes:
        failures: so far.
    """

    def __init__(self, url: str, patience: Patience) -> None:
        self._url = url
        self._patience = patience
        self._start = time.monotonic()
        self.failures = 0
        self._of_kind: Counter[str] = Counter()

    def __call__(self, error: Exception) -> bool | float:
        """Return the seconds to wait, or False to give up."""
        if not isinstance(error, Passing):
            return False
        self.failures += 1
        self._of_kind[error.kind] += 1
        patience = self._patience
        used_up = self.failures >= patience.attempts
        used_up = used_up or self._of_kind[error.kind] >= getattr(patience, error.kind)
        longest = patience.first_wait * 2 ** (self.failures - 1)
        wait = random.uniform(0, min(longest, patience.longest_wait))
        if error.after is not None:
            wait += error.after
        late = time.monotonic() - self._start + wait > patience.deadline
        if late or used_up:
            return False
        level = logging.WARNING if self.failures >= _WORTH_A_WARNING else logging.INFO
        _log.log(level, "%s: %s; trying again in %.1f s", self._url, error, wait)
        return wait


def seconds_to_wait(value: str) -> float | None:
    """Read the header ``Retry-After``: seconds, or a date; None if it is neither."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds)
