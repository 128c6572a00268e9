"""A backend that can be held in a pass, and how the scheduler's tests use it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from koe5_integrations.backends import Tokens
from koe5_integrations.scheduling import Worker
from koe5_integrations.types import Vectors

WAIT = 20


def texts(*values: int) -> list[Tokens]:
    """Texts of one token, which the held backend turns into vectors of that value."""
    return [Tokens(np.array([value], dtype=np.int32), 1) for value in values]


class HeldBackend:
    """Returns each text's first token as its vector; can be held, and fails on a token of -1."""

    batch_tokens = 1_000_000
    pass_tokens = 128

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
            raise ValueError("the held backend fails")
        return np.array([[t.ids[0], 0] for t in batch], dtype=np.float32)


def ident(vectors: Vectors) -> Vectors:
    return vectors


def submit(worker: Worker, *values: int, **options: Any) -> Future[Vectors]:
    return worker.submit(texts(*values), finish=ident, **options)


def values_of(future: Future[Vectors]) -> list[int]:
    return [int(row[0]) for row in future.result(WAIT)]


def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)
