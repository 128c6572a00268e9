"""Tests of bulk jobs with a cache on disk: what a job that ended early has kept."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_models import numbered

import koe5_integrations.embedding
from koe5_integrations import KoE5Encoder
from koe5_integrations.backends import Tokens
from koe5_integrations.backends.static import StaticBackend
from koe5_integrations.errors import EncodingError
from koe5_integrations.types import Vectors

WAIT = 20


def watch_passes(
    monkeypatch: pytest.MonkeyPatch, then: Callable[[int], None] | None = None
) -> list[list[int]]:
    """Return the lengths of the texts of each pass of a static model, as they come.

    Before the nth, ``then(n)`` is called.
    """
    seen: list[list[int]] = []
    forward = StaticBackend.forward

    def watched(self: StaticBackend, batch: Sequence[Tokens]) -> Vectors:
        seen.append([len(text.ids) for text in batch])
        if then is not None:
            then(len(seen))
        return forward(self, batch)

    monkeypatch.setattr(StaticBackend, "forward", watched)
    return seen


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed is written to disk every other pass."""
    monkeypatch.setattr(koe5_integrations.embedding, "_PASSES_IN_PART", 2)


def test_a_bulk_job_is_sorted_by_length_as_a_whole(
    small_parts: None, static_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same texts share passes as without a cache, though parts are written in between."""
    texts = numbered(300)
    seen = watch_passes(monkeypatch)
    plain = KoE5Encoder(static_model, batch_tokens=256, batch_size=9)
    expected = plain.encode_passages(texts)
    without = sorted(seen)
    seen.clear()
    encoder = plain.with_cache(tmp_path)
    np.testing.assert_array_equal(encoder.encode_passages(texts), expected)
    assert len(seen) > 10
    assert sorted(seen) == without


DYING = """
import os, sys
import koe5_integrations.embedding
from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.static import StaticBackend
from tiny_models import numbered
koe5_integrations.embedding._PASSES_IN_PART = 2
forward, passes = StaticBackend.forward, []
def die_at_last(self, batch):
    passes.append(batch)
    if len(passes) == 12:
        os.kill(os.getpid(), 9)
    return forward(self, batch)
StaticBackend.forward = die_at_last
KoE5Encoder(sys.argv[1], embedding_cache=sys.argv[2], batch_size=10).encode_passages(numbered(300))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
def test_a_killed_job_goes_on_where_it_was(
    static_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After kill -9 all but the parts that were being computed or written is there."""
    command = [sys.executable, "-c", DYING, str(static_model), str(tmp_path)]
    died = subprocess.run(command, cwd=Path(__file__).parent, check=False, timeout=60)
    assert died.returncode == -9
    encoder = KoE5Encoder(static_model, embedding_cache=tmp_path)
    vectors = encoder.encode_passages(numbered(300))
    assert 300 - 110 <= encoder.computed <= 300 - 40
    np.testing.assert_array_equal(vectors, KoE5Encoder(static_model).encode_passages(numbered(300)))


async def test_a_cancelled_job_goes_on_where_it_was(
    small_parts: None, static_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is cancelled stops soon, and what it had written is not computed again."""
    reached, may_go_on = threading.Event(), threading.Event()

    def hold(n: int) -> None:
        if n == 12:
            reached.set()
            assert may_go_on.wait(WAIT)

    seen = watch_passes(monkeypatch, hold)
    encoder = KoE5Encoder(static_model, embedding_cache=tmp_path, batch_size=10)
    task = asyncio.create_task(encoder.aencode_passages(numbered(300)))
    assert await asyncio.to_thread(reached.wait, WAIT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_go_on.set()
    again = KoE5Encoder(static_model, embedding_cache=tmp_path, batch_size=10)
    await again.aencode_passages(numbered(300))
    assert again.computed <= 300 - 40
    assert sum(map(len, seen)) <= 300 + 3 * 40  # the parts that were under way
    assert encoder.computed == 0


def test_what_came_before_a_failure_is_kept(
    small_parts: None, static_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vector that is not finite is named at its place; the parts before it are not lost."""
    texts = [*numbered(100), "헌"]
    forward = StaticBackend.forward

    def spoil(self: StaticBackend, batch: Sequence[Tokens]) -> Vectors:
        vectors = forward(self, batch)
        vectors[[len(text.ids) == shortest for text in batch]] = np.nan
        return vectors

    encoder = KoE5Encoder(static_model, embedding_cache=tmp_path, batch_size=10)
    counts = encoder.count_tokens(texts, "passage")
    shortest = min(counts)
    assert counts.index(shortest) == 100
    with monkeypatch.context() as patch:
        patch.setattr(StaticBackend, "forward", spoil)
        with pytest.raises(EncodingError, match=r"texts\[100\]"):
            encoder.encode_passages(texts)
    encoder.encode_passages(texts)
    assert 1 <= encoder.computed <= 61
