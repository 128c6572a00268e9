"""Retrieval metrics as pure functions of ranked document ids, with no scores and no models.

Conventions, which are those of trec_eval except where said:

- the order of the ids is the ranking; a repeated id counts once, where it stands first;
- a document is relevant from relevance 1 on; nDCG has linear gain, log2(rank + 1) discount;
- ``map@k`` divides by all relevant documents (``map_cut``); ``mrr@k`` cuts the ranking at k;
- precision@k divides by k even if fewer documents were retrieved;
- means are over the queries of the qrels: one that is missing in the run counts 0 (trec_eval
  leaves it out).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.measures import MEASURES, Measure, parse_measure
from koe5_integrations.evaluation.results import Qrels

__all__ = [
    "MEASURES",
    "GroupedRelevance",
    "Measure",
    "QueryTable",
    "aggregate",
    "distinct",
    "mean_over_queries",
    "ndcg",
    "parse_measure",
    "per_query",
    "recall",
    "tabulate",
]

Metric = Callable[[Sequence[str], Mapping[str, int], int], float]
Values = npt.NDArray[np.float64]


class GroupedRelevance(dict[str, int]):
    """One query's judgements in which some documents are alternatives to each other.

    AutoRAG's ``retrieval_gt`` ``[["a", "b"], ["c"]]`` asks for (a or b) and c. Every document
    stands in the dict with relevance 1, so whoever knows nothing of groups sees plain qrels. The
    metrics count two relevant items here: the best ranked document of a group stands for it, and
    the others of that group are passed over as a repeated id is. A document named in several
    groups belongs to the first.

    Attributes:
        groups: the alternatives, one group per thing to be found; disjoint, none empty.
    """

    groups: tuple[tuple[str, ...], ...]

    def __init__(self, groups: Sequence[Sequence[str]]) -> None:
        taken: set[str] = set()
        kept: list[tuple[str, ...]] = []
        for group in groups:
            own = tuple(doc_id for doc_id in dict.fromkeys(group) if doc_id not in taken)
            taken.update(own)
            if own:
                kept.append(own)
        super().__init__((doc_id, 1) for group in kept for doc_id in group)
        self.groups = tuple(kept)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the groups, from which everything else follows."""
        return type(self), (self.groups,)


def distinct(ranked_ids: Sequence[str]) -> list[str]:
    """Return the ids in order without repeats, so that none can earn its gain twice."""
    return list(dict.fromkeys(ranked_ids))


@dataclass(frozen=True)
class QueryTable:
    """What the metrics need of a run, one row per query of the qrels.

    Attributes:
        query_ids: of the rows, in the order of the qrels.
        gains: relevance by rank, shape (queries, ranks), 0 where nothing was retrieved.
        ideal: the relevances in the best possible order, same shape.
        relevant: how many documents (or groups of alternatives) are relevant, shape (queries,).
    """

    query_ids: tuple[str, ...]
    gains: Values
    ideal: Values
    relevant: Values

    def values(self, measure: Measure) -> Values:
        """Return the measure of each query, shape (queries,), in [0, 1].

        The table must have been made to a depth of ``measure.k`` or more, and the measure be a
        mean over queries.
        """
        return _PER_QUERY[measure.name](self, measure.k)


def tabulate(qrels: Qrels, ranked: Mapping[str, Sequence[str]], depth: int) -> QueryTable:
    """Look the ranked ids up in the qrels, down to ``depth``.

    Args:
        qrels: relevance by document id, by query id.
        ranked: document ids by query id, best first; queries the qrels lack are passed over.
        depth: the largest cut-off that will be asked for.

    Raises:
        ConfigError: the qrels are empty, or ``depth`` is below 1.
    """
    if not qrels:
        raise ConfigError("the qrels hold no query, so there is nothing to average over")
    if depth < 1:
        raise ConfigError(f"k must be at least 1, not {depth!r}")
    # No wider than there is anything to see, however deep was asked for.
    longest = max(max(len(ranked.get(key, ())), len(judged)) for key, judged in qrels.items())
    depth = max(min(depth, longest), 1)
    gains = np.zeros((len(qrels), depth))
    ideal = np.zeros((len(qrels), depth))
    relevant = np.zeros(len(qrels))
    for row, (query_id, judged) in enumerate(qrels.items()):
        ids = ranked.get(query_id, ())
        items: Mapping[str, int] = judged
        if isinstance(judged, GroupedRelevance):
            leader = {doc_id: group[0] for group in judged.groups for doc_id in group}
            ids = [leader.get(doc_id, doc_id) for doc_id in ids]
            items = {group[0]: 1 for group in judged.groups}
        found = [max(items.get(doc_id, 0), 0) for doc_id in distinct(ids)[:depth]]
        gains[row, : len(found)] = found
        best = sorted((value for value in items.values() if value > 0), reverse=True)
        relevant[row] = len(best)
        ideal[row, : len(best)] = best[:depth]
    return QueryTable(tuple(qrels), gains, ideal, relevant)


def per_query(
    qrels: Qrels, ranked: Mapping[str, Sequence[str]], measures: Sequence[str] = MEASURES
) -> dict[str, dict[str, float]]:
    """Return each query's value, in [0, 1], by query id, by measure.

    ``f1_of_means`` is no mean of anything a query has, and is left out.

    Args:
        qrels: relevance by document id, by query id.
        ranked: document ids by query id, best first.
        measures: such as ``ndcg@10``.

    Raises:
        ConfigError: a measure is unknown.
        ConfigError: the qrels are empty.
    """
    wanted = [measure for measure in map(parse_measure, measures) if measure.is_mean]
    table = tabulate(qrels, ranked, max((measure.k for measure in wanted), default=1))
    return {
        str(measure): dict(zip(table.query_ids, table.values(measure).tolist(), strict=True))
        for measure in wanted
    }


def aggregate(
    qrels: Qrels, ranked: Mapping[str, Sequence[str]], measures: Sequence[str] = MEASURES
) -> dict[str, float]:
    """Return each measure over all queries of the qrels, in [0, 1]; as :func:`per_query`."""
    wanted = [parse_measure(measure) for measure in measures]
    table = tabulate(qrels, ranked, max((measure.k for measure in wanted), default=1))
    result: dict[str, float] = {}
    for measure in wanted:
        if measure.is_mean:
            result[str(measure)] = float(table.values(measure).mean())
        else:
            mean_precision = float(_precision(table, measure.k).mean())
            mean_recall = float(_recall(table, measure.k).mean())
            result[str(measure)] = float(harmonic_mean(mean_precision, mean_recall))
    return result


def harmonic_mean(first: npt.ArrayLike, second: npt.ArrayLike) -> Values:
    """Return the harmonic mean of each pair, 0 where both are 0 (broadcasting, float64)."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    total = a + b
    return np.divide(2 * a * b, total, out=np.zeros_like(total), where=total > 0)


def ndcg(ranked_ids: Sequence[str], relevances: Mapping[str, int], k: int) -> float:
    """Return nDCG@k of one query, in [0, 1], with linear gain as in trec_eval.

    Args:
        ranked_ids: document ids, best first; repeats after the first are ignored.
        relevances: relevance by document id; absent ids and values below 1 gain nothing.
        k: cut-off, at least 1.

    Raises:
        ConfigError: `k` is below 1.
    """
    return float(_ndcg(tabulate({"": relevances}, {"": ranked_ids}, k), k)[0])


def recall(ranked_ids: Sequence[str], relevances: Mapping[str, int], k: int) -> float:
    """Return the share, in [0, 1], of one query's relevant documents among its first `k`.

    Raises:
        ConfigError: `k` is below 1.
    """
    return float(_recall(tabulate({"": relevances}, {"": ranked_ids}, k), k)[0])


def mean_over_queries(
    metric: Metric,
    run: Mapping[str, Sequence[str]],
    qrels: Qrels,
    k: int,
) -> float:
    """Average `metric` at `k` over the queries of `qrels`; a query absent from `run` counts 0.

    Args:
        metric: `ndcg`, `recall`, or a function of the same three arguments.
        run: ranked document ids by query id.
        qrels: relevance by document id, by query id.
        k: cut-off, at least 1.

    Raises:
        ConfigError: `qrels` is empty, or `k` is below 1.
    """
    if not qrels:
        raise ConfigError("the qrels hold no query, so there is nothing to average over")
    values = (metric(run.get(query_id, ()), judged, k) for query_id, judged in qrels.items())
    return math.fsum(values) / len(qrels)


def _share(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _total(ranks: Values) -> Values:
    """Sum each row from left to right, so that a query's value depends on no other's length."""
    return np.asarray(np.cumsum(ranks, axis=1)[:, -1])


def _found(table: QueryTable, k: int) -> Values:
    return np.asarray(np.count_nonzero(table.gains[:, :k], axis=1), dtype=np.float64)


def _ndcg(table: QueryTable, k: int) -> Values:
    discount = 1 / np.log2(np.arange(2, min(k, table.gains.shape[1]) + 2))
    return _share(_total(table.gains[:, :k] * discount), _total(table.ideal[:, :k] * discount))


def _recall(table: QueryTable, k: int) -> Values:
    return _share(_found(table, k), table.relevant)


def _precision(table: QueryTable, k: int) -> Values:
    return _found(table, k) / k


def _map(table: QueryTable, k: int) -> Values:
    hit = table.gains[:, :k] > 0
    precision = np.cumsum(hit, axis=1) / np.arange(1, hit.shape[1] + 1)
    return _share(_total(precision * hit), table.relevant)


def _mrr(table: QueryTable, k: int) -> Values:
    hit = table.gains[:, :k] > 0
    return np.where(hit.any(axis=1), 1 / (hit.argmax(axis=1) + 1), 0.0)


def _success(table: QueryTable, k: int) -> Values:
    return np.asarray(table.gains[:, :k].any(axis=1), dtype=np.float64)


def _mean_f1(table: QueryTable, k: int) -> Values:
    return harmonic_mean(_precision(table, k), _recall(table, k))


_PER_QUERY: dict[str, Callable[[QueryTable, int], Values]] = {
    "ndcg": _ndcg,
    "recall": _recall,
    "precision": _precision,
    "map": _map,
    "mrr": _mrr,
    "success": _success,
    "mean_f1": _mean_f1,
}
