"""Tests of koe5_integrations.scheduling: too little memory, and several devices."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from held_backend import WAIT, HeldBackend, ident, submit, values_of

from koe5_integrations.backends import Tokens
from koe5_integrations.errors import DeviceMemoryError
from koe5_integrations.scheduling import Worker
from koe5_integrations.types import Vectors


class SmallMemory:
    """A backend whose device holds so many tokens at once, padding included."""

    batch_tokens = 4096
    pass_tokens = 128

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.passes: list[tuple[int, int]] = []
        self.computed: Counter[int] = Counter()

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        raise NotImplementedError

    def forward(self, batch: Sequence[Tokens]) -> Vectors:
        longest = max(len(text.ids) for text in batch)
        if len(batch) * longest > self.tokens:
            raise DeviceMemoryError(f"{len(batch)} texts of {longest} tokens do not fit")
        self.passes.append((len(batch), longest))
        self.computed.update(int(text.ids[0]) for text in batch)
        return np.array([[text.ids[0], len(text.ids)] for text in batch], dtype=np.float32)


def of_lengths(lengths: Sequence[int]) -> list[Tokens]:
    """Texts of these lengths, each with its position as its tokens."""
    return [Tokens(np.full(n, i, dtype=np.int32), n) for i, n in enumerate(lengths)]


def test_what_does_not_fit_into_memory_is_run_in_less_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Out of memory, a pass is halved until it fits, no text runs twice, and less is tried after.

    The first pass and its halves find the measure: later ones, of this job and the next, never
    fail.
    """
    backend = SmallMemory(900)
    worker = Worker([backend])
    lengths = np.random.default_rng(0).integers(1, 400, size=300).tolist()
    first = worker.submit(of_lengths(lengths), finish=ident).result(WAIT)
    np.testing.assert_array_equal(first, np.column_stack([np.arange(300), lengths]))
    assert set(backend.computed.values()) == {1}
    assert [record.args[0] for record in caplog.records] == [10, 5, 3, 5, 3]
    caplog.clear()
    worker.submit(of_lengths(lengths), finish=ident, batch_tokens=10**6).result(WAIT)
    assert caplog.records == []
    assert max(texts * longest for texts, longest in backend.passes) <= 900
    worker.close()


def test_a_text_too_large_for_the_memory_fails_its_own_caller_only() -> None:
    """What fits not even alone is an error of who asked for it; others get their vectors."""
    backend = SmallMemory(900)
    worker = Worker([backend])
    too_large = worker.submit(of_lengths([10, 1000, 20]), finish=ident)
    others = [worker.submit(of_lengths([n, 5]), finish=ident) for n in (300, 30, 500)]
    with pytest.raises(DeviceMemoryError, match="1 texts of 1000 tokens") as raised:
        too_large.result(WAIT)
    assert raised.value.__notes__ == ["raised while texts[1] was embedded"]
    for n, future in zip((300, 30, 500), others, strict=True):
        np.testing.assert_array_equal(future.result(WAIT), [[0, n], [1, 5]])
    worker.close()


def test_replicas_share_the_work() -> None:
    """Two replicas run passes of one job at the same time, and each row is at its place."""
    together = threading.Barrier(2, timeout=WAIT)

    class Replica(SmallMemory):
        def forward(self, batch: Sequence[Tokens]) -> Vectors:
            together.wait()
            return super().forward(batch)

    replicas = [Replica(4096), Replica(4096)]
    worker = Worker(replicas)
    assert worker.backend is replicas[0]
    seen: list[int] = []
    done = worker.submit(of_lengths([7] * 40), finish=ident, batch_size=4, progress=seen.append)
    assert values_of(done) == list(range(40))
    assert sum(seen) == 40
    assert [len(replica.passes) for replica in replicas] == [5, 5]
    worker.close()
    assert [thread.is_alive() for thread in worker._threads] == [False, False]


def test_a_question_runs_beside_bulk_on_another_replica() -> None:
    """While one replica is held by a bulk batch, the other answers a question."""
    replicas = [HeldBackend(), HeldBackend()]
    for replica in replicas:
        replica.may_go_on.clear()
    worker = Worker(replicas)
    bulk = submit(worker, *range(1, 30), batch_size=1)
    for replica in replicas:
        assert replica.started.acquire(timeout=WAIT)
    question = submit(worker, 100)
    replicas[1].may_go_on.set()
    assert values_of(question) == [100]
    assert len(replicas[0].passes) == 1
    replicas[0].may_go_on.set()
    assert values_of(bulk) == list(range(1, 30))
    worker.close()
