"""Checks of what a system returned: mistakes that make a number wrong without any error.

Each returns sentences for a reader, which name a query and what to do; none if nothing was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from koe5_integrations.evaluation.datasets import RetrievalDataset
from koe5_integrations.evaluation.results import Qrels, Run, System

__all__ = [
    "check_depths",
    "check_ids",
    "check_labels",
    "check_order",
    "check_run",
]

_PROBED = 50
# Scores of the same search differ in their last bits from run to run.
_SAME_SCORE = 1e-6
_SIGNIFICANT = 0.01


def check_run(system: System, run: Run, dataset: RetrievalDataset) -> list[str]:
    """Return all findings about a system and its run, its own warnings first.

    Asks the system again: for one and for three documents of up to 50 queries; but not a retriever
    that gives a number of documents of its own (``fixed_depth``).
    """
    found = [
        *getattr(system, "warnings", ()),
        *check_labels(dataset.qrels, dataset.corpus, run),
        *check_ids(run, dataset.corpus),
        *check_order(run, dataset.qrels),
    ]
    if getattr(system, "fixed_depth", False):
        return found
    judged = [query_id for query_id in dataset.qrels if query_id in dataset.queries]
    step = max(len(judged) // _PROBED, 1)
    probe = {query_id: dataset.queries[query_id] for query_id in judged[::step][:_PROBED]}
    return found + check_depths(system.search(probe, 1), system.search(probe, 3), dataset.qrels)


def check_ids(run: Run, corpus: Iterable[str]) -> list[str]:
    """Find documents without an id, returned twice, or unknown to the corpus; and empty answers."""
    known = set(corpus)
    nameless = [q for q, hits in run.items() if any(not hit.doc_id for hit in hits)]
    repeated = [q for q, hits in run.items() if len({hit.doc_id for hit in hits}) < len(hits)]
    unknown = {
        q: next(hit.doc_id for hit in hits if hit.doc_id and hit.doc_id not in known)
        for q, hits in run.items()
        if any(hit.doc_id and hit.doc_id not in known for hit in hits)
    }
    empty = [q for q, hits in run.items() if not hits]
    found = []
    if nameless:
        found.append(
            f"{_count(nameless)} answered with a document that has no id ({_first(nameless)}), "
            "which can't count as right: say with doc_id where the id of a chunk's document is"
        )
    if repeated:
        found.append(
            f"{_count(repeated)} answered with the same document twice ({_first(repeated)}): it "
            "counts once, where it stands first; retrieve more chunks to fill the ranks lost"
        )
    if unknown:
        query_id, doc_id = next(iter(unknown.items()))
        found.append(
            f"{_count(unknown)} answered with documents the corpus does not hold (query "
            f"{query_id!r} with {doc_id!r}), which can't count as right"
            f"{_chunk_hint(unknown.values(), known)}"
        )
    if empty:
        found.append(
            f"{_count(empty)} answered by nothing ({_first(empty)}), which counts as 0: see "
            "whether a score threshold or filter is set, or the query shares no token with any "
            "document"
        )
    return found


def check_labels(qrels: Qrels, corpus: Iterable[str], run: Run | None = None) -> list[str]:
    """Find judged documents that no longer exist, as after re-chunking or a new version.

    Args:
        qrels: relevance by document id, by query id.
        corpus: ids of the documents there are.
        run: what a system returned; if none of it is judged, that is found too.
    """
    known = set(corpus)
    relevant = {
        query_id: [doc_id for doc_id, value in judged.items() if value > 0]
        for query_id, judged in qrels.items()
    }
    gone = {
        query_id: lost
        for query_id, ids in relevant.items()
        if (lost := [doc_id for doc_id in ids if doc_id not in known])
    }
    found = []
    if gone:
        query_id, lost = next(iter(gone.items()))
        found.append(
            f"{_count(gone)} judged by documents that the corpus does not hold (query {query_id!r} "
            f"by {lost[0]!r}), so that their best answers can't be found: judge them anew, or map "
            "the new chunks to the ids of the judged documents"
        )
    if run is not None:
        asked = [query_id for query_id in relevant if run.get(query_id)]
        right = any(hit.doc_id in relevant[query_id] for query_id in asked for hit in run[query_id])
        if asked and not right:
            query_id = asked[0]
            found.append(
                "not one relevant document was retrieved for any query (query "
                f"{query_id!r}: {run[query_id][0].doc_id!r} first, {relevant[query_id][:1]!r} "
                "expected): compare the ids, and see whether the order is worst-first"
            )
    return found


def check_order(run: Run, qrels: Qrels) -> list[str]:
    """Find a ranking that is upside down.

    Two signs: reading each answer backwards puts relevant documents higher in significantly more
    queries than it puts them lower (two-sided sign test, 1%); or the scores rise with the rank
    while the relevant documents do not show that the order is right all the same (scores may be
    distances).
    """
    backwards: list[str] = []
    forwards: list[str] = []
    for query_id, judged in qrels.items():
        ids = list(dict.fromkeys(hit.doc_id for hit in run.get(query_id, ())))
        right = [rank for rank, doc_id in enumerate(ids) if judged.get(doc_id, 0) > 0]
        if not right:
            continue
        first, last = right[0], len(ids) - 1 - right[-1]
        if first != last:
            (backwards if last < first else forwards).append(query_id)
    if len(backwards) > len(forwards) and _sign_test(len(backwards), len(forwards)):
        return [
            f"the ranking looks upside down: read backwards, {len(backwards)} queries have a "
            f"relevant document nearer the top and {len(forwards)} farther from it "
            f"({_first(backwards)}); sort by descending similarity, or ascending distance, and "
            "measure again"
        ]
    rising = [query_id for query_id, hits in run.items() if _rises([hit.score for hit in hits])]
    ranked = [query_id for query_id, hits in run.items() if len({h.score for h in hits}) > 1]
    proven = len(forwards) > len(backwards) and _sign_test(len(forwards), len(backwards))
    if len(rising) * 2 > len(ranked) and not proven:
        return [
            f"scores rise with the rank in {_count(rising)} ({_first(rising)}): right if they are "
            "distances, upside down if they are similarities; return the best first"
        ]
    return []


def check_depths(shallow: Run, deep: Run, qrels: Qrels) -> list[str]:
    """Compare searches for one and for more documents, which must agree on the first.

    Documents of equal score may change places.

    Args:
        shallow: a search for one document (top_k=1).
        deep: the same queries' search for more, such as three.
        qrels: to tell whether MRR falls with the depth, which is impossible for one ranking.
    """
    differ = []
    fall = []
    for query_id in shallow.keys() & deep.keys():
        one, more = shallow[query_id][:1], deep[query_id]
        if [hit.doc_id for hit in one] == [hit.doc_id for hit in more[:1]]:
            continue
        scores = [hit.score for hit in (*one, *more[:1])]
        if len(scores) == 2 and _equal(*scores):
            continue
        differ.append(query_id)
        judged = qrels.get(query_id, {})
        if one and judged.get(one[0].doc_id, 0) > 0:
            fall.append(query_id)
    order = {query_id: place for place, query_id in enumerate(shallow)}
    found = []
    if differ:
        query_id = min(differ, key=order.__getitem__)
        found.append(
            f"another document is first when more are asked for in {_count(differ)} (query "
            f"{query_id!r}: {_top(shallow[query_id])} of one, {_top(deep[query_id])} of more): the "
            "ranking is sorted the wrong way round, or the index is approximate or not "
            "deterministic; correct that before believing any rank"
        )
    if fall:
        query_id = min(fall, key=order.__getitem__)
        found.append(
            f"MRR falls with the depth in {_count(fall)} (query {query_id!r} is right at 1 when "
            "one document is asked for, and not when more are), which no single ranking can do: "
            "correct the order and measure again"
        )
    return found


def _rises(scores: Sequence[float | None]) -> bool:
    known = [score for score in scores if score is not None]
    return (
        len(known) == len(scores) > 1
        and all(later >= earlier for earlier, later in pairwise(known))
        and known[-1] > known[0]
    )


def _sign_test(more: int, less: int) -> bool:
    n = more + less
    tail = sum(math.comb(n, count) for count in range(more, n + 1)) / 2**n
    return bool(2 * tail < _SIGNIFICANT)


def _equal(first: float | None, second: float | None) -> bool:
    return first is not None and second is not None and abs(first - second) <= _SAME_SCORE


def _chunk_hint(unknown: Iterable[str], known: set[str]) -> str:
    for doc_id in unknown:
        for end in range(len(doc_id) - 1, 0, -1):
            if doc_id[:end] in known and not doc_id[end].isalnum():
                return (
                    f": {doc_id!r} looks like a chunk of {doc_id[:end]!r}, so map chunks to their "
                    "documents with doc_id"
                )
    return ": map chunks to their documents with doc_id, or index this corpus"


def _count(queries: Iterable[str]) -> str:
    number = len(list(queries))
    return f"{number} {'query' if number == 1 else 'queries'}"


def _first(queries: Sequence[str]) -> str:
    return f"query {queries[0]!r}" + (" first" if len(queries) > 1 else "")


def _top(hits: Sequence[object]) -> str:
    return repr(getattr(hits[0], "doc_id", None)) if hits else "nothing"
