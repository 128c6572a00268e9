"""What a figure and a difference can support: intervals, paired tests, the smallest gap.

The unit is the query throughout. Intervals are percentile bootstrap intervals over queries; where
every query has the same value the interval has no width, which says nothing of other queries.
Differences are tested by swapping the two systems' answers query by query (sign flipping), which
assumes nothing but that under the null either could have given either answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.bootstrap import resampled_means
from koe5_integrations.evaluation.measures import MEASURES, Measure, parse_measure
from koe5_integrations.evaluation.metrics import QueryTable, harmonic_mean, tabulate
from koe5_integrations.evaluation.results import Comparison, Hit, Measured, Qrels, SystemResult
from koe5_integrations.evaluation.swaps import Difference, critical_values, p_values

__all__ = [
    "ALPHA",
    "bootstrap_ci",
    "compare",
    "holm",
    "permutation_p",
    "ranked_ids",
    "score",
    "smallest_gap",
    "smallest_gaps",
]

ALPHA = 0.05
"""Level of the tests, two-sided; the intervals hold the rest."""
_LEAST_HITS = 6  # two-sided sign test: 2 * 0.5**5 is above 5%, 2 * 0.5**6 below

Values = npt.NDArray[np.float64]


def ranked_ids(run: Mapping[str, Sequence[Hit | str]]) -> dict[str, list[str]]:
    """Return the document ids of a run, best first, by query id.

    Raises:
        ConfigError: an answer is a mapping or a single string, which has no order to score.
    """
    for query_id, hits in run.items():
        if isinstance(hits, str | Mapping):
            raise ConfigError(
                f"the run's answer to query {query_id!r} is a {type(hits).__name__}; give a list "
                "of document ids (or Hit), best first, because the order is what is scored"
            )
    return {
        query_id: [hit if isinstance(hit, str) else hit[0] for hit in hits]
        for query_id, hits in run.items()
    }


def score(
    qrels: Qrels,
    run: Mapping[str, Sequence[Hit | str]],
    measures: Sequence[str] = MEASURES,
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> dict[str, Measured]:
    """Score a run: each measure with its 95% interval, its n and, where it is a count, its hits.

    Args:
        qrels: relevance by document id, by query id; the means are over these queries.
        run: what was retrieved, best first, by query id; :class:`Hit` or plain ids.
        measures: such as ``ndcg@10``.
        samples: bootstrap samples.
        seed: of the random numbers; the same seed gives the same intervals.

    Raises:
        ConfigError: a measure is unknown, the qrels are empty, or an answer has no order.
    """
    wanted = [parse_measure(measure) for measure in measures]
    ranked = ranked_ids(run)
    table = tabulate(qrels, ranked, max((measure.k for measure in wanted), default=1))
    needed = dict.fromkeys(part for measure in wanted for part in _parts(measure))
    if not needed:
        return {}
    columns = np.column_stack([table.values(part) for part in needed])
    place = {part: number for number, part in enumerate(needed)}
    means = columns.mean(axis=0)
    drawn = resampled_means(columns, samples, seed)
    result: dict[str, Measured] = {}
    for measure in wanted:
        own = [place[part] for part in _parts(measure)]
        low, high = np.quantile(_combine(drawn[:, own]), (ALPHA / 2, 1 - ALPHA / 2))
        result[str(measure)] = Measured(
            value=float(_combine(means[None, own])[0]),
            ci=(float(low), float(high)),
            n=len(columns),
            hits=_hits(table, measure.k) if measure.counts_hits else None,
        )
    return result


def bootstrap_ci(
    values: npt.ArrayLike, *, samples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of the mean.

    Args:
        values: one per query, shape (queries,).
        samples: how often the queries are drawn anew, with replacement.
        seed: of the random numbers.

    Raises:
        ConfigError: no values, a value that is not finite, or fewer than 1 sample.
    """
    means = resampled_means(_checked(values)[:, None], samples, seed)
    low, high = np.quantile(means[:, 0], (ALPHA / 2, 1 - ALPHA / 2))
    return float(low), float(high)


def permutation_p(
    a: npt.ArrayLike, b: npt.ArrayLike, *, samples: int = 10_000, seed: int = 0
) -> float:
    """Return the two-sided p-value of the paired permutation test of two means.

    Exact (all sign flips) where at most 16 queries differ, otherwise (hits + 1) / (samples + 1)
    over random flips, which is never 0.

    Args:
        a: one value per query, shape (queries,).
        b: the other system's, for the same queries in the same order.
        samples: random flips.
        seed: of the random numbers.

    Raises:
        ConfigError: the lengths differ, there are no values, or one is not finite.
    """
    return float(p_values([_difference(a, b)], samples=samples, seed=seed)[0])


def holm(ps: Iterable[float]) -> list[float]:
    """Return the p-values after Holm's step-down correction, in the order given.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    raw = np.asarray(list(ps), dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    adjusted = np.empty_like(raw)
    steps = raw[order] * np.arange(len(raw), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(p) for p in adjusted]


def smallest_gap(
    a: npt.ArrayLike | int,
    b: npt.ArrayLike | None = None,
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> float:
    """Return the least difference of two means that this set could find significant at 5%.

    For a number of queries n: 6 / n. A measure that is a count of hits can differ significantly
    only by 6 queries or more, because even 5 that all fall one way have a two-sided p of 0.0625
    (McNemar). Above 1 it says that no gap whatever could be significant.

    For two systems' values: the critical value of their permutation test, that is the least mean
    difference which that few of the sign flips reach; it grows with how often, and by how much,
    the two disagree. Where fewer than 6 queries differ, no arrangement is significant, and the
    bound 6 / n is returned. Neither is corrected for several comparisons.

    Args:
        a: the number of queries, or one value per query.
        b: the other system's values for the same queries.
        samples: random flips.
        seed: of the random numbers.

    Raises:
        ConfigError: as :func:`permutation_p`; or ``b`` is missing for values.
    """
    if isinstance(a, int | np.integer) and b is None:
        if a < 1:
            raise ConfigError(f"a set of {a} queries resolves nothing; give at least 1")
        return _LEAST_HITS / int(a)
    if b is None:
        raise ConfigError("give a number of queries, or the values of two systems")
    found = critical_values([_difference(a, b)], level=ALPHA, samples=samples, seed=seed)[0]
    return float(found) if np.isfinite(found) else _LEAST_HITS / len(_checked(a))


def compare(
    results: Sequence[SystemResult] | Mapping[str, SystemResult],
    measures: Sequence[str] = ("ndcg@10",),
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> list[Comparison]:
    """Test every pair of systems on every measure; Holm's correction per measure.

    ``f1_of_means@k`` is tested too, where ``per_query`` holds precision@k and recall@k.

    Args:
        results: the systems, in the order of the report.
        measures: those to compare; each must be in every system's ``per_query``.
        samples: random flips per test.
        seed: of the random numbers.

    Raises:
        ConfigError: a measure is unknown or was not measured, or the queries differ.
    """
    systems = list(results.values() if isinstance(results, Mapping) else results)
    pairs = list(combinations(systems, 2))
    wanted = [parse_measure(measure) for measure in measures]
    tests = [_between(first, second, measure) for measure in wanted for first, second in pairs]
    ps = p_values(tests, samples=samples, seed=seed)
    comparisons: list[Comparison] = []
    for number, measure in enumerate(wanted):
        own = slice(number * len(pairs), (number + 1) * len(pairs))
        corrected = holm(ps[own])
        rows = zip(pairs, tests[own], ps[own], corrected, strict=True)
        for (first, second), test, p, p_holm in rows:
            ahead, behind = (first, second) if test.observed >= 0 else (second, first)
            comparisons.append(
                Comparison(
                    measure=str(measure),
                    better=ahead.spec,
                    worse=behind.spec,
                    difference=abs(test.observed),
                    p_value=float(p),
                    p_holm=p_holm,
                )
            )
    return comparisons


def smallest_gaps(
    results: Sequence[SystemResult] | Mapping[str, SystemResult],
    measures: Sequence[str] = ("ndcg@10",),
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> dict[str, float]:
    """Return by measure the least gap that any two of these systems could show to be significant.

    The least :func:`smallest_gap` over the pairs; 6 / n where there is no pair, or none in which
    6 queries differ. Arguments and errors as :func:`compare`.
    """
    systems = list(results.values() if isinstance(results, Mapping) else results)
    if not systems:
        return {}
    pairs = list(combinations(systems, 2))
    gaps: dict[str, float] = {}
    wanted = [parse_measure(measure) for measure in measures]
    tests = [_between(first, second, measure) for measure in wanted for first, second in pairs]
    found = critical_values(tests, level=ALPHA, samples=samples, seed=seed)
    for number, measure in enumerate(wanted):
        least = min(found[number * len(pairs) : (number + 1) * len(pairs)], default=np.inf)
        n = len(_column(systems[0], _parts(measure)[0])[0])
        gaps[str(measure)] = float(least) if np.isfinite(least) else smallest_gap(n)
    return gaps


def _parts(measure: Measure) -> tuple[Measure, ...]:
    """The means a measure is made of."""
    if measure.is_mean:
        return (measure,)
    return Measure("precision", measure.k), Measure("recall", measure.k)


def _combine(means: Values) -> Values:
    return means[:, 0] if means.shape[1] == 1 else harmonic_mean(means[:, 0], means[:, 1])


def _hits(table: QueryTable, k: int) -> int:
    return int(np.count_nonzero(table.gains[:, :k].any(axis=1)))


def _checked(values: npt.ArrayLike) -> Values:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ConfigError(f"expected one value per query, in one row; got the shape {array.shape}")
    if not np.isfinite(array).all():
        raise ConfigError(f"the value of query {int(np.argmin(np.isfinite(array)))} is not finite")
    return array


def _difference(a: npt.ArrayLike, b: npt.ArrayLike) -> Difference:
    first, second = _checked(a), _checked(b)
    if len(first) != len(second):
        raise ConfigError(
            f"a has {len(first)} values and b {len(second)}; pair them by query, in one order"
        )
    return Difference(first[:, None], second[:, None])


def _column(result: SystemResult, measure: Measure) -> tuple[list[str], Values]:
    values = result.per_query.get(str(measure))
    if values is None:
        raise ConfigError(
            f"{result.spec} has no {measure} per query (it has {', '.join(result.per_query)}); "
            f"measure it first: measures=[…, {str(measure)!r}]"
        )
    return list(values), np.fromiter(values.values(), dtype=np.float64, count=len(values))


def _between(first: SystemResult, second: SystemResult, measure: Measure) -> Difference:
    sides: list[list[Values]] = [[], []]
    for part in _parts(measure):
        ids, values = _column(first, part)
        _column(second, part)
        others = second.per_query[str(part)]
        if others.keys() != set(ids):
            raise ConfigError(
                f"{first.spec} and {second.spec} were measured on different queries; evaluate "
                "them together"
            )
        sides[0].append(values)
        sides[1].append(np.array([others[query_id] for query_id in ids], dtype=np.float64))
    return Difference(np.column_stack(sides[0]), np.column_stack(sides[1]))
