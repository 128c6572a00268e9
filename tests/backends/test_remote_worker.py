"""Tests of what the scheduler does for a server: small passes, failures that are nobody's text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from held_backend import HeldBackend, ident, submit, texts, until, values_of

from koe5_integrations.backends import Tokens
from koe5_integrations.errors import ConfigError, EmbeddingServerError
from koe5_integrations.scheduling import Worker
from koe5_integrations.types import Vectors


class LostServer(HeldBackend):
    """A server that has gone away."""

    error: Exception = EmbeddingServerError("gone")

    def forward(self, batch: Sequence[Tokens]) -> Vectors:
        super().forward(batch)
        raise self.error


@pytest.mark.parametrize("error", [EmbeddingServerError("gone"), ConfigError("no key")])
def test_what_no_text_is_at_fault_for_is_not_tried_text_by_text(error: Exception) -> None:
    """A lost server fails all callers of a pass after that one pass, without naming a text."""
    lost = LostServer()
    lost.error = error
    lost.may_go_on.clear()
    worker = Worker([lost])
    first = submit(worker, 1)
    assert lost.started.acquire(timeout=20)
    together = [submit(worker, value, value + 1) for value in (10, 20, 30)]
    lost.may_go_on.set()
    for future in (first, *together):
        caught = future.exception(20)
        assert caught is error
    assert lost.passes == [[1], [10, 11, 20, 21, 30, 31]]
    assert not hasattr(error, "__notes__")
    worker.close()


def test_a_pass_has_no_more_texts_than_a_request() -> None:
    """However short the texts are, and however many a caller allows, passes keep to the limit."""
    held = HeldBackend()
    worker = Worker([held], most_texts=3)
    assert values_of(submit(worker, *range(10))) == list(range(10))
    assert values_of(submit(worker, *range(10), batch_size=100)) == list(range(10))
    assert max(map(len, held.passes)) == 3
    assert values_of(submit(worker, *range(10), batch_size=2)) == list(range(10))
    assert len(held.passes[-1]) == 2
    worker.close()


def test_closing_waits_for_no_pass_that_runs_elsewhere() -> None:
    """A server's answer may take minutes; it is still given to who waits for it."""
    held = HeldBackend()
    held.may_go_on.clear()
    worker = Worker([held], elsewhere=True)
    future = worker.submit(texts(7), finish=ident)
    assert held.started.acquire(timeout=20)
    worker.close()
    assert not future.done()
    held.may_go_on.set()
    until(future.done)
    assert values_of(future) == [7]
