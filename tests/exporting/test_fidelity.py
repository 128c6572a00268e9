"""Tests of koe5_integrations.exporting.fidelity: what is measured, and on what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.pick import EngineChoice
from koe5_integrations.evaluation.datasets import SHIPPED_NAMES, load_dataset
from koe5_integrations.exporting.fidelity import Embedded, embed_samples, judge, take_samples
from koe5_integrations.profiles import DEFAULT_MODEL, PROFILES


def test_samples_are_spread_over_the_shipped_sets() -> None:
    """So many questions of each set, from its first to its last, with the passages they need."""
    samples = take_samples(10)
    assert [sample.name for sample in samples] == list(SHIPPED_NAMES)
    for sample in samples:
        data = load_dataset(sample.name)
        asked = list(data.qrels)
        assert list(sample.queries) == list(sample.qrels)
        assert len(sample.queries) == 10
        assert {asked[0], asked[-1]} <= set(sample.queries)
        assert set(sample.passages) == {doc for judged in sample.qrels.values() for doc in judged}


def test_a_sample_is_at_most_the_set() -> None:
    """Asking for more than there is takes each question once."""
    for sample in take_samples(10_000):
        assert set(sample.queries) == set(load_dataset(sample.name).qrels)


def test_samples_are_embedded_as_an_encoder_does(xlm_roberta: Path) -> None:
    """The model's own vectors are the encoder's: prompts, pooling and normalisation included."""
    pytest.importorskip("torch")
    (sample, _) = samples = take_samples(2)
    got, _ = embed_samples(
        samples,
        ModelFolder.read(xlm_roberta),
        EngineChoice("torch", "fp32", "cpu"),
        profile=PROFILES[DEFAULT_MODEL],
    )
    encoder = KoE5Encoder(xlm_roberta, backend="torch", device="cpu", on_truncation="ignore")
    queries = encoder.encode_queries(sample.queries.values())
    passages = encoder.encode_passages(sample.passages.values())
    np.testing.assert_allclose(got.queries, queries, atol=1e-6)
    np.testing.assert_allclose(got.passages, passages, atol=1e-6)


def test_equal_vectors_lost_nothing() -> None:
    """A copy of the model has cosine 1 and the same nDCG."""
    samples = take_samples(3)
    chance = np.random.default_rng(0)
    vectors = [
        Embedded(
            chance.normal(size=(len(sample.queries), 8)).astype(np.float32),
            chance.normal(size=(len(sample.passages), 8)).astype(np.float32),
        )
        for sample in samples
    ]
    fidelity = judge(samples, vectors, vectors)
    assert fidelity.texts == sum(len(s.queries) + len(s.passages) for s in samples)
    assert fidelity.min_cosine == pytest.approx(1)
    assert fidelity.mean_cosine == pytest.approx(1)
    assert all(model == export for model, export in fidelity.ndcg.values())


def test_what_is_lost_shows() -> None:
    """Cosine and nDCG are those of vectors known beforehand."""
    sample = replace(
        take_samples(1)[0],
        queries={"q1": "질문", "q2": "물음"},
        passages={"a": "가", "b": "나"},
        qrels={"q1": {"a": 1}, "q2": {"b": 1}},
    )
    ways = np.eye(2, dtype=np.float32)
    right = Embedded(queries=ways, passages=ways)
    # The second question has turned to the first passage; lengths don't count.
    wrong = Embedded(queries=np.array([[3, 0], [1, 0]], dtype=np.float32), passages=2 * ways)
    fidelity = judge([sample], [right], [wrong])
    assert fidelity.min_cosine == 0
    assert fidelity.mean_cosine == pytest.approx(0.75)
    model, export = fidelity.ndcg[sample.name]
    assert model == 1
    assert export == pytest.approx((1 + 1 / np.log2(3)) / 2)
    numbers = fidelity.as_floats()
    assert numbers[f"ndcg@10_{sample.name}_fp32"] == 1
    assert numbers[f"ndcg@10_{sample.name}"] == export
    assert numbers["texts"] == 4
