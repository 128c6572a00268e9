import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.metrics import (
    MEASURES,
    GroupedRelevance,
    aggregate,
    mean_over_queries,
    ndcg,
    parse_measure,
    per_query,
    recall,
)


def test_ndcg_by_hand():
    """The gains 2, 0, 1 against the ideal 3, 2, 1 give the value worked out by hand."""
    relevances = {"a": 2, "b": 3, "c": 1}
    got = 2 / math.log2(2) + 1 / math.log2(4)
    best = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert ndcg(["a", "x", "c"], relevances, 3) == pytest.approx(got / best)


def test_ndcg_of_one_relevant_document_at_rank_two():
    """A single relevant document at rank two earns one over log2 of three."""
    assert ndcg(["x", "a"], {"a": 1}, 10) == pytest.approx(1 / math.log2(3))


def test_ndcg_cuts_at_k():
    """A relevant document after rank k earns nothing."""
    assert ndcg(["x", "a"], {"a": 1}, 1) == 0


def test_ndcg_ignores_repeats():
    """A document ranked twice earns its gain once and doesn't push others down."""
    assert ndcg(["a", "a", "b"], {"a": 1, "b": 1}, 2) == pytest.approx(1)


def test_negative_and_missing_relevance_gain_nothing():
    """Documents judged below 1 gain nothing, and a query with no relevant one scores 0."""
    assert ndcg(["a"], {"a": -1}, 10) == 0
    assert recall(["a"], {"a": 0}, 10) == 0


def test_recall_is_a_share_of_the_relevant():
    """Two of three relevant documents among the first k make two thirds."""
    assert recall(["a", "x", "b", "c"], {"a": 1, "b": 2, "c": 1}, 3) == pytest.approx(2 / 3)


@pytest.mark.parametrize("metric", [ndcg, recall])
def test_k_below_one_is_refused(metric):
    """A cut-off below 1 raises an error that shows it."""
    with pytest.raises(ValueError, match="at least 1, not 0"):
        metric(["a"], {"a": 1}, 0)


def test_mean_counts_a_missing_query_as_zero():
    """The mean is over the queries of the qrels, so one absent from the run lowers it."""
    qrels = {"q1": {"a": 1}, "q2": {"b": 1}}
    assert mean_over_queries(ndcg, {"q1": ["a"], "other": ["b"]}, qrels, 10) == pytest.approx(0.5)


def test_mean_of_no_queries_is_refused():
    """Empty qrels raise instead of giving a number."""
    with pytest.raises(ValueError, match="no query"):
        mean_over_queries(recall, {}, {}, 10)


# The oracle's names for our measures; mrr@k is its recip_rank of the run cut at k.
ORACLE = {"ndcg": "ndcg_cut", "recall": "recall", "precision": "P", "map": "map_cut"}
CUTS = (1, 3, 5, 10, 100)


def scores_of(ranked):
    """Give a ranking scores that fall by one, which float32 keeps apart."""
    return {doc_id: float(len(ranked) - rank) for rank, doc_id in enumerate(ranked)}


def oracle(qrels, ranked, cuts):
    """Return what trec_eval says of each query: value by query, by measure."""
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="the oracle is pytrec-eval-terrier")
    asked = {f"{theirs}.{','.join(map(str, cuts))}" for theirs in [*ORACLE.values(), "success"]}
    run = {query: scores_of(ids) for query, ids in ranked.items()}
    found = pytrec_eval.RelevanceEvaluator(qrels, asked).evaluate(run)
    values = {
        f"{ours}@{k}": {query: found[query][f"{theirs}_{k}"] for query in qrels}
        for ours, theirs in {**ORACLE, "success": "success"}.items()
        for k in cuts
    }
    for k in cuts:
        cut = {query: scores_of(ids[:k]) for query, ids in ranked.items()}
        found = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(cut)
        values[f"mrr@{k}"] = {query: found[query]["recip_rank"] for query in qrels}
    return values


def random_runs(rng, *, queries, documents):
    """Make graded qrels and rankings without ties, some short, some without anything relevant."""
    ids = np.array([f"d{n}" for n in range(documents)])
    qrels, ranked = {}, {}
    for number in range(queries):
        judged = rng.permutation(ids)[: rng.integers(1, documents + 1)]
        grades = rng.choice([-1, 0, 0, 1, 1, 2, 3], size=len(judged))
        qrels[f"q{number}"] = {str(d): int(g) for d, g in zip(judged, grades, strict=True)}
        ranked[f"q{number}"] = rng.permutation(ids)[: rng.integers(1, documents + 1)].tolist()
    return qrels, ranked


@pytest.mark.parametrize("seed", range(4))
def test_equals_trec_eval_on_thousands_of_random_runs(seed):
    """Every measure of every query is the oracle's to 1e-9, graded relevances included."""
    qrels, ranked = random_runs(np.random.default_rng(seed), queries=1500, documents=40)
    ours = per_query(qrels, ranked, [m for m in MEASURES if not m.startswith(("f1", "mean_f1"))])
    theirs = oracle(qrels, ranked, CUTS)
    assert set(ours) == set(theirs)
    for measure, values in theirs.items():
        worst = max(abs(values[query] - ours[measure][query]) for query in qrels)
        assert worst <= 1e-9, measure


@st.composite
def small_run(draw):
    """One query's graded judgements, a ranking without repeats, and a cut-off."""
    ids = [f"d{n}" for n in range(draw(st.integers(1, 12)))]
    judged = draw(st.dictionaries(st.sampled_from(ids), st.integers(-1, 4), min_size=1))
    ranked = draw(st.permutations(ids).flatmap(lambda p: st.sampled_from([p, p[: len(p) // 2]])))
    return judged, ranked or ids, draw(st.integers(1, 15))


@settings(max_examples=300, deadline=None)
@given(small_run())
def test_equals_trec_eval_on_the_hardest_small_cases(case):
    """The search for a counterexample to the oracle finds none, at any cut-off."""
    judged, ranked, k = case
    theirs = oracle({"q": judged}, {"q": ranked}, [k])
    ours = per_query({"q": judged}, {"q": ranked}, list(theirs))
    for measure, values in theirs.items():
        assert ours[measure]["q"] == pytest.approx(values["q"], abs=1e-9), measure


@settings(max_examples=300, deadline=None)
@given(small_run(), st.lists(st.sampled_from([f"d{n}" for n in range(12)]), max_size=30), st.data())
def test_every_measure_is_a_share_and_repeats_change_nothing(case, repeats, data):
    """Values lie in [0, 1], and repeating ids already ranked leaves each as it was."""
    judged, ranked, k = case
    again = list(ranked)
    for doc_id in repeats:
        if doc_id in again:
            again.insert(data.draw(st.integers(again.index(doc_id) + 1, len(again))), doc_id)
    measures = [f"{name}@{k}" for name in (*ORACLE, "mrr", "success", "mean_f1", "f1_of_means")]
    plain = aggregate({"q": judged}, {"q": ranked}, measures)
    assert aggregate({"q": judged}, {"q": again}, measures) == plain
    assert all(0 <= value <= 1 for value in plain.values())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 5))
def test_the_two_f1s_agree_where_each_query_has_one_relevant_document(ranks, k):
    """With one relevant document each, both F1s are 2 * recall@k / (k + 1)."""
    qrels = {f"q{n}": {"gold": 1} for n in range(len(ranks))}
    ranked = {f"q{n}": [f"x{r}" for r in range(rank)] + ["gold"] for n, rank in enumerate(ranks)}
    found = aggregate(qrels, ranked, [f"f1_of_means@{k}", f"mean_f1@{k}", f"recall@{k}"])
    expected = 2 * found[f"recall@{k}"] / (k + 1)
    assert found[f"f1_of_means@{k}"] == pytest.approx(expected, abs=1e-12)
    assert found[f"mean_f1@{k}"] == pytest.approx(expected, abs=1e-12)


def test_the_two_f1s_differ_where_queries_have_different_numbers_of_relevant_documents():
    """One query with one of one found and one with one of three: .571 is not .625."""
    qrels = {"q1": {"a": 1}, "q2": {"b": 1, "c": 1, "d": 1}}
    ranked = {"q1": ["a", "x"], "q2": ["b", "y"]}
    found = aggregate(qrels, ranked, ["f1_of_means@1", "mean_f1@1"])
    assert found["f1_of_means@1"] == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))
    assert found["mean_f1@1"] == pytest.approx((1 + 0.5) / 2)


def test_an_empty_answer_and_a_missing_query_count_zero():
    """Nothing retrieved is 0 in every measure, and stays in the mean."""
    qrels = {"q1": {"a": 1}, "q2": {"b": 1}, "q3": {"c": 1}}
    found = aggregate(qrels, {"q1": ["a"], "q2": []})
    assert found["ndcg@10"] == found["recall@100"] == found["mrr@1"] == pytest.approx(1 / 3)
    assert per_query(qrels, {"q1": ["a"], "q2": []})["map@5"] == {"q1": 1.0, "q2": 0.0, "q3": 0.0}


def test_fewer_documents_than_k_leave_the_places_empty():
    """Precision divides by k all the same, and recall by the relevant documents."""
    found = aggregate({"q": {"a": 1, "b": 1}}, {"q": ["a"]}, ["precision@5", "recall@5"])
    assert found == {"precision@5": 0.2, "recall@5": 0.5}


def test_a_cut_off_beyond_every_list_costs_nothing():
    """A k of a billion is the same as the length of the list."""
    qrels, ranked = {"q": {"a": 2, "b": 1}}, {"q": ["b", "x", "a"]}
    deep, near = (aggregate(qrels, ranked, [f"ndcg@{k}"]) for k in (10**9, 3))
    assert list(deep.values()) == list(near.values())


def test_alternatives_are_one_thing_to_be_found():
    """Of (a or b) and c, finding b and c is everything, and finding a too adds nothing."""
    judged = GroupedRelevance([["a", "b"], ["c"]])
    assert judged == {"a": 1, "b": 1, "c": 1}
    assert recall(["b", "c"], judged, 2) == 1
    assert recall(["b", "a"], judged, 2) == 0.5
    assert ndcg(["b", "a", "c"], judged, 2) == 1
    assert aggregate({"q": judged}, {"q": ["x", "b"]}, ["mrr@2"]) == {"mrr@2": 0.5}


def test_a_document_of_two_groups_belongs_to_the_first():
    """Groups are made disjoint in order, and one left empty is dropped."""
    judged = GroupedRelevance([["a", "b"], ["a"], ["b", "c"]])
    assert judged.groups == (("a", "b"), ("c",))
    copy = pickle.loads(pickle.dumps(judged))
    assert (copy, copy.groups) == (judged, judged.groups)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ndgc@10", r"'ndgc@10' is unknown; did you mean ndcg@10\?"),
        ("bleu@3", "'bleu@3' is unknown; write one of ndcg, recall"),
        ("ndcg", "'ndcg' needs a cut-off of at least 1, such as ndcg@10"),
        ("ndcg@0", "needs a cut-off of at least 1"),
        ("ndcg@ten", "needs a cut-off of at least 1"),
        ("ndcg@²", "needs a cut-off of at least 1"),
        (10, "measure 10 is unknown"),
    ],
)
def test_a_wrong_measure_is_named_with_the_remedy(text, message):
    """A measure that can't be read is refused before anything is computed."""
    with pytest.raises(ConfigError, match=message):
        parse_measure(text)


def test_measures_read_and_write_the_same():
    """Each default measure is written as it is read, and only f1_of_means is no mean."""
    assert [str(parse_measure(name)) for name in MEASURES] == list(MEASURES)
    assert [m for m in MEASURES if not parse_measure(m).is_mean] == [
        "f1_of_means@1",
        "f1_of_means@3",
    ]
    assert not set(per_query({"q": {"a": 1}}, {})) & {"f1_of_means@1", "f1_of_means@3"}


def test_ten_thousand_queries_of_a_hundred_documents():
    """The mean over many queries is the mean of their known values."""
    ids = [f"d{n}" for n in range(100)]
    qrels = {f"q{n}": {ids[n % 100]: 1} for n in range(10_000)}
    found = aggregate(qrels, dict.fromkeys(qrels, ids))
    assert found["mrr@100"] == pytest.approx(sum(1 / n for n in range(1, 101)) / 100)
