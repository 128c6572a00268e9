"""The text that is embedded: real, of the asked length, and the same every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from koe5_integrations import KoE5Encoder
from koe5_integrations.bench.workload import Workload, make_workload
from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation import load_dataset


@pytest.fixture(scope="module")
def encoder() -> KoE5Encoder:
    return KoE5Encoder("koe5-mini")


@pytest.fixture(scope="module")
def workload(encoder: KoE5Encoder) -> Workload:
    return make_workload(encoder, [16, 256])


def test_passages_have_their_length(encoder: KoE5Encoder, workload: Workload) -> None:
    """No passage is longer than asked, few are much shorter, and none comes twice."""
    for passages in workload.passages:
        counted = encoder.count_tokens(passages.texts, "passage")
        assert max(counted) <= passages.length
        assert passages.tokens == pytest.approx(sum(counted) / len(counted))
        assert passages.tokens > 0.9 * passages.length
        assert len(set(passages.texts)) == len(passages.texts)


def test_there_are_enough_for_a_large_batch(workload: Workload) -> None:
    """The passages of a length fill the batch of a GPU, nearly."""
    assert [each.length for each in workload.passages] == [16, 256]
    assert all(each.tokens * len(each.texts) > 60_000 for each in workload.passages)


def test_text_is_korean_as_it_was_written(workload: Workload) -> None:
    """A passage is a stretch of the shipped corpora, and a question one of theirs."""
    data = [load_dataset(name) for name in ("python_faq_ko", "belebele_ko")]
    running = " ".join(" ".join(text.split()) for each in data for text in each.corpus.values())
    texts = workload.passages[1].texts
    assert all(text in running for text in texts[len(texts) // 4 : len(texts) // 2])
    asked = {text for each in data for text in each.queries.values()}
    assert set(workload.queries) == asked
    assert set(workload.compared["query"]) < asked
    assert len(workload.compared["query"]) + len(workload.compared["passage"]) == 100


def test_it_survives_being_written(workload: Workload, tmp_path: Path) -> None:
    """Each process reads what was made once."""
    workload.write(tmp_path / "workload.json")
    assert Workload.read(tmp_path / "workload.json") == workload


def test_a_length_without_room_is_refused(xlm_roberta: Path) -> None:
    """A length that prefix and special tokens fill is refused, with what they take."""
    with pytest.raises(ConfigError, match=r"lengths=2 leaves no room.* take \d+"):
        make_workload(KoE5Encoder(xlm_roberta), [2, 64])
