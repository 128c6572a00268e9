import numpy as np
import pytest

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.measures import parse_measure
from koe5_integrations.evaluation.metrics import aggregate
from koe5_integrations.evaluation.published import (
    SOURCES,
    canonical_name,
    published,
    published_sts,
)
from koe5_integrations.evaluation.reversed_ranks import RankCounts, recover_ranks, reverse

KOE5 = RankCounts(114, (79, 17, 4))


def cell(source, model, measure, dataset="autorag"):
    """Return the one published cell there is."""
    (found,) = (
        c
        for c in published()
        if (c.source, c.model, c.measure, c.dataset) == (source, model, measure, dataset)
    )
    return found


def run_of(counts, k=3):
    """Make a run with so many queries right at each rank, and the others without an answer."""
    places = [rank for rank, count in enumerate(counts.at) for _ in range(count)]
    places += [k] * (counts.queries - len(places))
    ranked = {
        f"q{number}": [f"x{rank}" if rank != place else "gold" for rank in range(k)]
        for number, place in enumerate(places)
    }
    return {query_id: {"gold": 1} for query_id in ranked}, ranked


def test_reversing_koe5s_ranks_gives_the_published_artefact():
    """79, 17 and 4 of 114 turned round are NDCG@3 .4757 and MRR@3 .3406; right are .8046, .7792."""
    qrels, ranked = run_of(KOE5)
    measures = ["ndcg@3", "mrr@3"]
    right, wrong = (
        aggregate(qrels, ranked, measures),
        aggregate(qrels, reverse(ranked, 3), measures),
    )
    assert [round(wrong[m], 4) for m in measures] == [0.4757, 0.3406]
    assert [round(right[m], 4) for m in measures] == [0.8046, 0.7792]
    assert KOE5.ndcg == pytest.approx(right["ndcg@3"])
    assert KOE5.mrr == pytest.approx(right["mrr@3"])
    assert KOE5.reversed.ndcg == pytest.approx(wrong["ndcg@3"])
    assert KOE5.reversed.mrr == pytest.approx(wrong["mrr@3"])
    assert KOE5.recall == pytest.approx(aggregate(qrels, ranked, ["recall@3"])["recall@3"])


def test_the_true_ranks_are_recovered_from_the_published_figures():
    """From N1 69.30, recall@3 87.72 and N3 47.57 follow 79, 17 and 4."""
    assert recover_ranks(114, 0.6930, 0.8772, 0.4757) == KOE5


def test_recovery_undoes_any_reversal():
    """Whatever the counts, they are found again from figures of two decimals of percent."""
    random = np.random.default_rng(3)
    for _ in range(300):
        at = random.multinomial(114, [0.6, 0.15, 0.1, 0.15])[:3].tolist()
        counts = RankCounts(114, tuple(at))
        found = recover_ranks(
            114,
            round(counts.at[0] / 114, 4),
            round(counts.recall, 4),
            round(counts.reversed.ndcg, 4),
        )
        assert found == counts


def test_figures_that_no_reversal_gives_are_refused():
    """The right NDCG@3 is not what ranking worst first gives."""
    with pytest.raises(ConfigError, match="is not what ranking worst first gives"):
        recover_ranks(114, 0.6930, 0.8772, 0.8046)


def test_impossible_counts_are_refused():
    """More answers than queries, or fewer than none, are no counts."""
    for at in ((5, 6), (-1, 2)):
        with pytest.raises(ConfigError, match="is no count of ranks"):
            RankCounts(10, at)


@pytest.mark.parametrize(
    ("model", "right"),
    [
        ("nlpai-lab/KoE5", 0.8046),
        ("BAAI/bge-m3", 0.7915),
        ("intfloat/multilingual-e5-large", 0.7298),
        ("Alibaba-NLP/gte-multilingual-base", 0.7157),
        ("upskyy/kf-deberta-multitask", 0.5565),
    ],
)
def test_the_seeds_ndcg_at_3_on_autorag_is_known_to_be_bad(model, right):
    """Each of the five is marked, with the right value worked out beside it."""
    bad = cell("seed", model, "ndcg@3")
    assert round(bad.right, 4) == right
    assert "AutoRAG before 0.2.17 ranked worst first" in bad.known_bad
    assert f"{100 * bad.value:.2f}" in bad.known_bad
    assert cell("seed", model, "ndcg@3", "publichealthqa").known_bad is None
    assert cell("seed", model, "ndcg@1").known_bad is None


def test_autorags_own_mrr_confirms_the_recovered_ranks():
    """The ranks come from NDCG; the MRR published beside it is what they give when reversed."""
    rows = [c for c in published() if c.source == "autorag" and c.measure == "mrr@3"]
    assert len(rows) == 5
    for row in rows:
        assert f"the reversed mrr@3 is {100 * row.value:.2f} " in str(row.known_bad)
        assert row.right > 2 * row.value * 0.9


def test_every_published_cell_is_well_formed():
    """27 models with 18 cells each, five of the seed with 12; known sets, measures and sources."""
    cells = published()
    of = {source: [c for c in cells if c.source == source] for source in SOURCES}
    assert [len(of[s]) for s in ("seed", "autorag")] == [60, 25]
    assert len(of["kure"]) + len(of["mteb"]) == 27 * 18
    assert {c.dataset for c in cells} == {"ko-strategyqa", "autorag", "publichealthqa"}
    assert all(0 < c.value <= 1 and str(parse_measure(c.measure)) == c.measure for c in cells)


def test_koe5s_published_row():
    """The figures of KoE5 with prefixes stand as published."""
    assert cell("kure", "nlpai-lab/KoE5", "ndcg@10").value == 0.8434
    assert cell("kure", "nlpai-lab/KoE5", "recall@10", "ko-strategyqa").value == 0.8534
    assert cell("seed", "nlpai-lab/KoE5", "f1_of_means@3", "ko-strategyqa").value == 0.5632


def test_the_kor_sts_table():
    """Ten rows of eight columns; ko-sroberta-multitask is first with cosine 84.77 and 85.60."""
    rows = published_sts()
    assert (len(rows), {len(row.values) for row in rows}) == (10, {8})
    assert rows[0].model == "jhgan/ko-sroberta-multitask"
    assert [rows[0].values[c] for c in ("cosine_pearson", "cosine_spearman")] == [84.77, 85.60]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("autorag_ko", "autorag"),
        ("AutoRAG", "autorag"),
        ("markers_bm", "autorag"),
        ("Ko-StrategyQA", "ko-strategyqa"),
        ("my-data", "my-data"),
    ],
)
def test_copies_of_a_set_have_one_name(given, name):
    """A folder's name leads to the set the tables speak of."""
    assert canonical_name(given) == name
