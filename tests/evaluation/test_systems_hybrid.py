"""Rank fusion of systems."""

from __future__ import annotations

import pytest
from tiny_models import KOREAN

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.datasets import read_beir
from koe5_integrations.evaluation.metrics import mean_over_queries, ndcg
from koe5_integrations.evaluation.systems.bm25 import BM25System
from koe5_integrations.evaluation.systems.dense import DenseSystem
from koe5_integrations.evaluation.systems.hybrid import HybridSystem
from koe5_integrations.fusion import reciprocal_rank_fusion

pytest.importorskip("bm25s")

CORPUS = {f"d{i}": text for i, text in enumerate(KOREAN[:5])}
QUERIES = {"q0": "문자열이 왜 불변", "q1": "쀍", "q2": "서울 겨울"}


@pytest.fixture
def hybrid(static_model):
    parts = [BM25System(), DenseSystem(KoE5Encoder(static_model), spec="dense:tiny")]
    hybrid = HybridSystem(parts)
    hybrid.index(CORPUS)
    return hybrid


def test_fuses_the_rankings_of_its_systems(hybrid):
    """The run is the fusion of the systems' own runs."""
    run = hybrid.search(QUERIES, 4)
    runs = [system.search(QUERIES, 100) for system in hybrid.systems]
    for query_id in QUERIES:
        rankings = [[hit.doc_id for hit in part[query_id]] for part in runs]
        assert run[query_id] == reciprocal_rank_fusion(rankings)[:4]


def test_a_system_without_an_answer_adds_nothing(hybrid):
    """Where one finds nothing the other's ranking remains."""
    dense = hybrid.systems[1].search(QUERIES, 4)["q1"]
    assert [h.doc_id for h in hybrid.search(QUERIES, 4)["q1"]] == [h.doc_id for h in dense]


def test_a_shorter_answer_is_the_beginning_of_a_longer_one(hybrid):
    """The first document does not depend on how many are asked for."""
    one, three = hybrid.search(QUERIES, 1), hybrid.search(QUERIES, 3)
    assert all(one[query_id] == three[query_id][:1] for query_id in QUERIES)


def test_index_and_facts_add_up(hybrid):
    """Costs are sums, and the facts hold those of each system."""
    stats = hybrid.index(CORPUS)
    parts = [system.index(CORPUS) for system in hybrid.systems]
    assert stats.bytes == sum(part.bytes for part in parts)
    assert stats.embedded == len(CORPUS)
    assert set(hybrid.facts()["systems"]) == {"bm25:bigram", "dense:tiny"}
    assert hybrid.spec == "hybrid:bm25:bigram+dense:tiny"


def test_warnings_name_the_system(hybrid):
    """A system's warning is passed on under its name."""
    hybrid.index({**CORPUS, "blank": " "})
    (sentence,) = hybrid.warnings
    assert sentence.startswith("dense:tiny: 1 document ")


def test_impossible_arguments(hybrid):
    """A hybrid of one, and numbers out of range, are refused."""
    with pytest.raises(ConfigError, match="not 1"):
        HybridSystem([BM25System()])
    with pytest.raises(ConfigError, match="depth=0"):
        HybridSystem(hybrid.systems, depth=0)
    with pytest.raises(ConfigError, match="k=-1"):
        HybridSystem(hybrid.systems, k=-1)
    with pytest.raises(ConfigError, match="top_k=0"):
        hybrid.search(QUERIES, 0)


def test_hybrid_on_belebele_beats_both_of_its_systems(shared_data):
    """On Belebele the bundled model and bigrams together are better than either."""
    dataset = read_beir(shared_data / "belebele_ko")
    hybrid = HybridSystem([BM25System(), DenseSystem(KoE5Encoder("koe5-mini"))])
    hybrid.index(dataset.corpus)

    def measured(system):
        run = system.search(dataset.queries, 10)
        ranked = {query_id: [hit.doc_id for hit in hits] for query_id, hits in run.items()}
        return mean_over_queries(ndcg, ranked, dataset.qrels, 10)

    assert measured(hybrid) > max(map(measured, hybrid.systems))
