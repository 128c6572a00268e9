"""Tests of koe5_integrations.passes."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import koe5_integrations
from koe5_integrations import KoE5Encoder
from koe5_integrations.backends import Tokens
from koe5_integrations.passes import MOST_WAITING, Job, Share, Waiting, halve, plan_batches
from koe5_integrations.types import Vectors

WAIT = 20
LENGTHS = st.lists(st.integers(0, 600), max_size=300)
BELEBELE = Path(koe5_integrations.__file__).parent / "evaluation" / "data" / "belebele_ko"


def job(*lengths: int, batch_tokens: int = 1000, batch_size: int | None = None) -> Job:
    """A job of texts of these lengths."""
    tokens = [Tokens(np.zeros(length, dtype=np.int32), length) for length in lengths]
    return Job(tokens, batch_tokens, batch_size, lambda vectors: vectors, None)


def padded_over_real(lengths: list[int], **limits: Any) -> float:
    batches = plan_batches(lengths, **limits)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return padded / sum(lengths)


# Plans


@settings(derandomize=True, deadline=None, max_examples=200)
@given(LENGTHS, st.integers(1, 5000), st.integers(0, 500), st.none() | st.integers(1, 50))
def test_plans_every_text_once_within_the_budget(
    lengths: list[int], batch_tokens: int, pass_tokens: int, batch_size: int | None
) -> None:
    """Every position is in exactly one batch; padded batches hold the budget; longest first."""
    batches = plan_batches(lengths, batch_tokens, pass_tokens=pass_tokens, batch_size=batch_size)
    positions = [int(i) for batch in batches for i in batch]
    assert sorted(positions) == list(range(len(lengths)))
    ordered = [lengths[i] for i in positions]
    assert ordered == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) > 0
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= batch_tokens
        assert batch_size is None or len(batch) <= batch_size


@settings(derandomize=True, deadline=None, max_examples=100)
@given(LENGTHS, st.integers(1, 5000), st.integers(0, 500))
def test_cuts_where_that_saves_more_padding_than_a_pass_costs(
    lengths: list[int], batch_tokens: int, pass_tokens: int
) -> None:
    """In no batch would another cut pay, and none was closed without need."""
    batches = plan_batches(lengths, batch_tokens, pass_tokens=pass_tokens)
    for i, batch in enumerate(batches):
        longest = max(1, lengths[batch[0]])
        for cut in range(1, len(batch)):
            padding = lengths[batch[0]] - lengths[batch[cut]]
            assert padding * (len(batch) - cut) <= pass_tokens
        if i + 1 < len(batches):
            behind = [j for later in batches[i + 1 :] for j in later]
            room = max(1, batch_tokens // longest) - len(batch)
            saved = [(longest - lengths[j]) * (room - k) for k, j in enumerate(behind[:room])]
            assert room == 0 or max(saved) > pass_tokens


@pytest.mark.parametrize("batch_tokens", [2048, 8192])
def test_pads_less_than_five_percent_of_a_bulk_job(batch_tokens: int) -> None:
    """Passages and questions as people write them, in one list, are hardly padded."""
    texts = [
        json.loads(line)["text"]
        for name in ("corpus.jsonl", "queries.jsonl")
        for line in (BELEBELE / name).read_text(encoding="utf-8").splitlines()
    ]
    lengths = KoE5Encoder("koe5-mini").count_tokens(texts, "passage")
    assert max(lengths) > 10 * min(lengths)
    assert padded_over_real(lengths, batch_tokens=batch_tokens, pass_tokens=64) < 1.05


def test_pads_less_than_five_percent_of_long_passages(shared_data: Path) -> None:
    """The AutoRAG corpus, whose passages are cut at 512 tokens, is hardly padded."""
    parquet = pytest.importorskip("pyarrow.parquet")
    corpus = parquet.read_table(shared_data / "autorag_ko" / "ocr_corpus_v3.parquet")
    uncut = KoE5Encoder("koe5-mini").count_tokens(corpus["contents"].to_pylist(), "passage")
    lengths = [min(length, 512) for length in uncut]
    assert padded_over_real(lengths, batch_tokens=2048, pass_tokens=64) < 1.02


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 1))
def test_a_pass_in_halves_is_the_same_texts(sizes: list[int]) -> None:
    """Both halves have texts, about as many, and together all of them in their order."""
    shares = [Share(job(*[1] * size), np.arange(size)) for size in sizes]
    halves = halve(shares)
    counts = [sum(len(share.batch) for share in half) for half in halves]
    assert counts == [sum(sizes) // 2, (sum(sizes) + 1) // 2]
    flat = [(share.job, int(i)) for half in halves for share in half for i in share.batch]
    assert flat == [(share.job, int(i)) for share in shares for i in share.batch]
    assert all(len(share.batch) for half in halves for share in half)


# Turns


def handed_out(waiting: Waiting) -> list[list[tuple[Job, int]]]:
    """Empty it and return, pass by pass, whose texts ran and how many."""
    passes = []
    while shares := waiting.next_pass():
        passes.append([(share.job, len(share.batch)) for share in shares])
    return passes


def waiting_for(*jobs: Job) -> Waiting:
    waiting = Waiting(128)
    for each in jobs:
        waiting.add(each)
    return waiting


def test_texts_of_very_different_lengths_share_no_pass() -> None:
    """A question is not padded to the length of a long passage, not even one beside it."""
    passage, question, another = job(500), job(12), job(400, 8, 7)
    assert handed_out(waiting_for(passage, question, another)) == [
        [(passage, 1), (another, 1)],
        [(question, 1), (another, 2)],
    ]


def test_short_and_long_work_take_turns() -> None:
    """After a pass of questions comes one bulk batch, and after that the questions since."""
    question, bulk, late = job(10), job(*[300] * 9), job(20)
    waiting = waiting_for(bulk, question)
    assert [share.job for share in waiting.next_pass()] == [question]
    waiting.add(late)
    assert handed_out(waiting) == [[(bulk, 3)], [(late, 1)], [(bulk, 3)], [(bulk, 3)]]


def test_long_jobs_take_turns() -> None:
    """Two bulk jobs share the machine, whichever came first."""
    first, second = job(*[300] * 9), job(*[300] * 6)
    passes = handed_out(waiting_for(first, second))
    assert [pass_[0][0] for pass_ in passes] == [first, second, first, second, first]


def test_cancelled_work_is_not_handed_out() -> None:
    """What was cancelled while it waited takes no turn and leaves its room to others."""
    jobs = [job(10), job(*[300] * 9), job(10), job(*[300] * MOST_WAITING), job(10)]
    waiting = waiting_for(*jobs)
    more = job(*[300] * 9)
    assert not waiting.has_room(more)
    for each in jobs:
        each.future.cancel()
    assert waiting.next_pass() == []
    assert waiting.has_room(more)


def test_work_that_waits_has_a_bound() -> None:
    """Long work has room for so many texts, or for one job of more; questions have their own."""
    waiting = Waiting(128)
    huge, bulk, question = job(*[300] * 2 * MOST_WAITING), job(*[300] * 9), job(10)
    assert waiting.has_room(huge)
    waiting.add(huge)
    assert not waiting.has_room(bulk)
    assert waiting.has_room(question)
    while waiting.has_room(bulk) is False:
        waiting.next_pass()
    assert waiting.clear() == {huge}
    assert waiting.has_room(huge)
    assert waiting.next_pass() == []


def test_a_lower_bound_holds_for_what_waits_and_what_comes() -> None:
    """Once passes must be smaller, all are, and no text is lost."""
    bulk, few, late = job(*[100] * 25), job(*[100] * 9), job(*[100] * 7)
    waiting = waiting_for(bulk, few)
    waiting.lower(300)
    waiting.lower(900)  # not lower
    waiting.add(late)
    passes = handed_out(waiting)
    assert max(sum(count for _, count in pass_) for pass_ in passes) == 3
    for each, texts in ((bulk, 25), (few, 9), (late, 7)):
        assert sum(n for pass_ in passes for whose, n in pass_ if whose is each) == texts


# Answers


def test_threads_store_one_jobs_batches() -> None:
    """Rows stored by many threads are all there; progress and finish never run side by side."""
    inside = threading.Lock()
    seen: list[int] = []

    def progress(count: int) -> None:
        assert inside.acquire(blocking=False)
        seen.append(count)
        inside.release()

    def finish(vectors: Vectors) -> Vectors:
        assert inside.acquire(blocking=False)
        return vectors * 2

    rows = np.arange(4000, dtype=np.float32)[:, None]
    tokens = [Tokens(np.zeros(1, dtype=np.int32), 1)] * len(rows)
    shared = Job(tokens, 100, None, finish, progress)
    batches = np.array_split(np.random.default_rng(0).permutation(len(rows)), 500)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda batch: shared.store(batch, rows[batch]), batches))
    np.testing.assert_array_equal(shared.future.result(WAIT), rows * 2)
    assert sum(seen) == len(rows)


def test_only_the_first_of_several_failures_is_told() -> None:
    """Batches that fail on two devices are one answer, and results that come later are none."""
    failing = job(1, 1, 1)
    failing.fail(ValueError("first"))
    failing.fail(ValueError("second"))
    for position in range(3):
        failing.store(np.array([position]), np.zeros((1, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="first"):
        failing.future.result(WAIT)
