import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.metrics import MEASURES, aggregate, per_query
from koe5_integrations.evaluation.results import Hit, IndexStats, SystemResult
from koe5_integrations.evaluation.significance import (
    bootstrap_ci,
    compare,
    holm,
    permutation_p,
    score,
    smallest_gap,
    smallest_gaps,
)


def by_enumeration(a, b):
    """Return the exact p-value from all sign flips, one after the other."""
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    observed = abs(sum(gaps))
    sums = [
        abs(math.fsum(s * g for s, g in zip(signs, gaps, strict=True)))
        for signs in itertools.product([1, -1], repeat=len(gaps))
    ]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


def result(spec, qrels, ranked, measures=MEASURES):
    """Make a system's result out of ranked ids."""
    run = {query: [Hit(doc_id, None) for doc_id in ids] for query, ids in ranked.items()}
    return SystemResult(
        spec=spec,
        measures=score(qrels, run, measures, samples=50),
        per_query=per_query(qrels, ranked, measures),
        run=run,
        index=IndexStats(0.0, None),
    )


def test_the_interval_holds_the_true_mean_about_95_times_in_100():
    """Of 400 sets of 80 graded values, 92 to 98% have the true mean in their interval."""
    random = np.random.default_rng(7)
    grades = np.array([0.0, 0.5, 1 / np.log2(3), 1.0])
    shares = [0.2, 0.1, 0.2, 0.5]
    held = 0
    for seed in range(400):
        low, high = bootstrap_ci(random.choice(grades, p=shares, size=80), samples=800, seed=seed)
        held += low <= grades @ shares <= high
    assert 0.92 <= held / 400 <= 0.98


def test_the_same_seed_gives_the_same_interval():
    """An interval can be reproduced from its seed, and holds the mean of its values."""
    values = np.random.default_rng(1).random(200)
    assert bootstrap_ci(values, seed=3) == bootstrap_ci(values, seed=3)
    assert bootstrap_ci(values, seed=3) != bootstrap_ci(values, seed=4)
    low, high = bootstrap_ci(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.05)


def test_equal_values_have_an_interval_without_width():
    """If every query was answered alike, resampling them can't tell otherwise."""
    assert bootstrap_ci([1.0] * 50, samples=100) == (1.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 0.63, 1.0]), st.sampled_from([0.0, 0.5, 0.63, 1.0])),
        min_size=1,
        max_size=9,
    )
)
def test_few_queries_are_tested_exactly(pairs):
    """The p-value of up to nine queries is that of all sign flips counted one by one."""
    a, b = zip(*pairs, strict=True)
    assert permutation_p(a, b) == pytest.approx(by_enumeration(a, b), abs=1e-12)


def test_sampled_p_values_come_near_the_exact_ones():
    """Where all swaps are too many, the drawn ones give the binomial's value."""
    a, b = [1] * 18 + [0] * 8 + [1] * 60, [0] * 18 + [1] * 8 + [1] * 60
    exact = 2 * sum(math.comb(26, k) for k in range(9)) / 2**26
    assert permutation_p(a, b) == pytest.approx(exact, abs=0.01)
    assert permutation_p(b, a) == permutation_p(a, b)


def test_p_values_are_uniform_if_there_is_no_difference():
    """Of 500 pairs of equally good systems, a tenth has a p-value up to each tenth."""
    random = np.random.default_rng(11)
    ps = np.array(
        [
            permutation_p(random.random(40), random.random(40), samples=400, seed=seed)
            for seed in range(500)
        ]
    )
    for tenth in np.arange(0.1, 1.0, 0.1):
        assert (ps <= tenth).mean() == pytest.approx(tenth, abs=0.06)


def test_equal_systems_differ_in_nothing():
    """Two systems with the same values have p 1."""
    assert permutation_p([0.3, 1.0, 0.0], [0.3, 1.0, 0.0]) == 1


@pytest.mark.parametrize("n", [30, 114, 10_000])
def test_a_net_gap_of_five_queries_is_never_significant(n):
    """Five queries that all fall one way have p .0625, six .031; so 6 / n is the smallest gap."""
    better = [1.0] * n
    for lost, p in ((5, 0.0625), (6, 0.03125)):
        assert permutation_p(better, [0.0] * lost + [1.0] * (n - lost)) == pytest.approx(p)
    # Disagreement in both directions only makes the same net gap less significant.
    mixed = [0.0] * 7 + [1.0] * (n - 7)
    other = [1.0] * 7 + [0.0] * 12 + [1.0] * (n - 19)
    assert permutation_p(mixed, other) > 0.05
    assert smallest_gap(n) == pytest.approx(6 / n)


def test_the_smallest_gap_of_two_systems_is_their_critical_difference():
    """A gap a step below it is not significant, and it itself is."""
    # 12 queries on which hits differ: the sign test needs a net gap of 8 (10 to 2), p .039.
    a, b = np.zeros(100), np.zeros(100)
    a[:12], b[12:] = 1, 0
    gap = smallest_gap(a, b)
    assert gap == pytest.approx(8 / 100)
    a[:10], a[10:12], b[10:12] = 1, 0, 1
    assert permutation_p(a, b) <= 0.05
    a[9], b[9] = 0, 1
    assert permutation_p(a, b) > 0.05


def test_the_smallest_gap_grows_with_disagreement():
    """The more two systems disagree, the more they must differ on the whole."""
    random = np.random.default_rng(5)
    base = random.random(300)
    near, far = base + random.normal(0, 0.02, 300), base + random.normal(0, 0.3, 300)
    assert smallest_gap(base, near) < smallest_gap(base, far)


def test_the_smallest_gap_where_fewer_than_six_queries_differ_is_the_bound():
    """Nothing about these two systems could be significant, so the set's bound is given."""
    assert smallest_gap([1.0] * 5 + [0.0] * 55, [0.0] * 60) == pytest.approx(6 / 60)
    assert smallest_gap(5) > 1


@pytest.mark.parametrize(
    ("ps", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.01, 0.02, 0.03], [0.03, 0.04, 0.04]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_by_hand(ps, adjusted):
    """The smallest p is multiplied by their number, the next by one less, never falling."""
    assert holm(ps) == pytest.approx(adjusted)


QRELS = {f"q{n}": {"a": 1, "b": 1} if n % 3 else {"a": 1} for n in range(60)}
GOOD = {query: ["a", "b", "c"] for query in QRELS}
POOR = {query: ["c", "a", "b"] if n < 25 else ["a", "c"] for n, query in enumerate(QRELS)}


def test_score_gives_value_interval_n_and_hits():
    """Values are the metrics', intervals hold them, hits are given where rank makes no odds."""
    run = {query: [Hit(doc_id, 1.0) for doc_id in ids] for query, ids in POOR.items()}
    found = score(QRELS, run, samples=500)
    plain = aggregate(QRELS, POOR)
    assert {name: measured.value for name, measured in found.items()} == pytest.approx(plain)
    assert all(m.ci[0] <= m.value <= m.ci[1] and m.n == 60 for m in found.values())
    assert found["success@1"].hits == found["f1_of_means@1"].hits == found["ndcg@1"].hits == 35
    assert found["recall@3"].hits == 60
    assert found["ndcg@10"].hits is found["mrr@3"].hits is found["map@5"].hits is None


def test_score_takes_plain_ids_too():
    """Ranked ids without scores are scored as hits are."""
    run = {query: [Hit(doc_id, None) for doc_id in ids] for query, ids in POOR.items()}
    assert score(QRELS, POOR, ["ndcg@10"]) == score(QRELS, run, ["ndcg@10"])


def test_f1_of_means_has_the_interval_of_the_harmonic_mean():
    """Its interval comes from resampled queries, not from resampled F1s."""
    random = np.random.default_rng(2)
    qrels = {f"q{n}": {f"d{i}": 1 for i in range(1 + n % 4)} for n in range(80)}
    ranked = {query: random.permutation(["d0", "d1", "x", "y"]).tolist() for query in qrels}
    measured = score(qrels, ranked, ["f1_of_means@3"], samples=2000)["f1_of_means@3"]
    ids = list(qrels)
    drawn = [random.choice(ids, size=80) for _ in range(400)]
    means = []
    for sample in drawn:
        again = {f"{query}-{n}": query for n, query in enumerate(sample)}
        means.append(
            aggregate(
                {new: qrels[old] for new, old in again.items()},
                {new: ranked[old] for new, old in again.items()},
                ["f1_of_means@3"],
            )["f1_of_means@3"]
        )
    assert measured.ci == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02)


@pytest.mark.parametrize("answer", [{"a": 0.4, "b": 0.9}, "a"])
def test_a_run_without_an_order_is_refused(answer):
    """Scores by id, or one bare id, would be scored in an order nobody meant."""
    with pytest.raises(ConfigError, match=r"answer to query 'q0' is a .*best first"):
        score(QRELS, {"q0": answer}, ["ndcg@10"])


def test_compare_tests_every_pair_and_corrects_by_measure():
    """Three systems make three comparisons of each measure, the better one named first."""
    results = {
        spec: result(spec, QRELS, ranked)
        for spec, ranked in {"good": GOOD, "poor": POOR, "same": dict(GOOD)}.items()
    }
    found = compare(results, ["ndcg@10", "f1_of_means@1"])
    assert [(c.measure, c.better, c.worse) for c in found] == [
        ("ndcg@10", "good", "poor"),
        ("ndcg@10", "good", "same"),
        ("ndcg@10", "same", "poor"),
        ("f1_of_means@1", "good", "poor"),
        ("f1_of_means@1", "good", "same"),
        ("f1_of_means@1", "same", "poor"),
    ]
    assert [c.significant for c in found] == [True, False, True] * 2
    first = found[0]
    a, b = (list(results[s].per_query["ndcg@10"].values()) for s in ("good", "poor"))
    assert first.difference == pytest.approx(np.mean(a) - np.mean(b))
    assert first.p_value == permutation_p(a, b)
    assert first.p_holm == pytest.approx(3 * first.p_value)
    assert found[1].p_value == found[1].p_holm == 1
    assert compare(list(results.values()), ["ndcg@10"]) == found[:3]


def test_f1_of_means_is_tested_as_the_mean_f1_is_where_they_are_one():
    """With one relevant document per query both F1s have the same p-value."""
    qrels = {f"q{n}": {"a": 1} for n in range(50)}
    ranked = [
        {q: ["a"] if n % 3 else ["x"] for n, q in enumerate(qrels)},
        {q: ["a"] if n % 2 else ["x"] for n, q in enumerate(qrels)},
    ]
    results = [result(str(n), qrels, run) for n, run in enumerate(ranked)]
    both = compare(results, ["f1_of_means@1", "mean_f1@1"])
    assert both[0].p_value == pytest.approx(both[1].p_value)
    assert both[0].difference == pytest.approx(both[1].difference)


def test_compare_pairs_by_query_id_not_by_order():
    """A system measured in another order of queries is paired right."""
    turned = dict(reversed(QRELS.items()))
    first, second = result("first", QRELS, POOR), result("second", turned, POOR)
    assert compare([first, second], ["ndcg@10"])[0].p_value == 1


def test_what_cannot_be_compared_is_named():
    """A measure that was not measured, and other queries, raise with the remedy."""
    few = {query: QRELS[query] for query in list(QRELS)[:30]}
    good, short = result("good", QRELS, GOOD), result("short", few, GOOD)
    with pytest.raises(ConfigError, match="good and short were measured on different queries"):
        compare([good, short], ["ndcg@10"])
    with pytest.raises(ConfigError, match=r"good has no ndcg@7 per query .*measure it first"):
        compare([good, good], ["ndcg@7"])


def test_smallest_gaps_take_the_most_sensitive_pair():
    """By measure, the least of the pairs' critical values, or 6 / n where there is none."""
    results = [result("good", QRELS, GOOD), result("poor", QRELS, POOR)]
    a, b = (list(r.per_query["ndcg@10"].values()) for r in results)
    assert smallest_gaps(results, ["ndcg@10"]) == {"ndcg@10": smallest_gap(a, b)}
    assert smallest_gaps(results[:1], ["ndcg@10"]) == {"ndcg@10": 0.1}
    assert smallest_gaps([results[0], results[0]], ["mrr@1"]) == {"mrr@1": 0.1}
    assert smallest_gaps([]) == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_ci([]), r"expected one value per query, in one row; got the shape \(0,"),
        (lambda: bootstrap_ci([[1.0]]), "expected one value per query"),
        (lambda: bootstrap_ci([0.1, float("nan")]), "value of query 1 is not finite"),
        (lambda: bootstrap_ci([0.1], samples=0), "samples=0 must be at least 1"),
        (lambda: permutation_p([1.0], [1.0, 0.0]), "a has 1 values and b 2"),
        (lambda: permutation_p([1.0], [0.0], samples=0), "samples=0 must be at least 1"),
        (lambda: smallest_gap(0), "a set of 0 queries resolves nothing"),
        (lambda: smallest_gap([1.0]), "give a number of queries, or the values of two systems"),
    ],
)
def test_wrong_input_is_named(call, message):
    """Values that can't be averaged or paired raise before anything is drawn."""
    with pytest.raises(ConfigError, match=message):
        call()


def test_ten_thousand_queries():
    """Interval and test of 10,000 queries with 10,000 samples are as narrow as they should be."""
    random = np.random.default_rng(0)
    a = random.random(10_000)
    b = a + random.normal(0.01, 0.2, 10_000)
    low, high = bootstrap_ci(a)
    p = permutation_p(a, b)
    assert high - low == pytest.approx(4 * 0.2887 / 100, rel=0.1)
    assert p < 0.001
