"""The per-query part of the report, as JSON that the page's script turns into rows on demand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from koe5_integrations.evaluation.html.words import clean, cut, cutoff, marks
from koe5_integrations.evaluation.metrics import GroupedRelevance
from koe5_integrations.evaluation.results import EvalResult, Hit, SystemResult
from koe5_integrations.evaluation.verdict import title

if TYPE_CHECKING:
    from koe5_integrations.evaluation.datasets import RetrievalDataset

SHOWN_HITS = 10
"""Documents shown of what a system retrieved for a query."""
MAX_QUERIES = 2_000
"""Queries kept: those where the systems disagree most."""
MAX_DOCUMENTS = 20_000
"""Distinct documents kept; queries that would need more are left out."""
MAX_EXPECTED = 20
"""Expected documents kept per query."""
QUERY_CHARS = 1_000
DOCUMENT_CHARS = 600
ID_CHARS = 200
TEXT_CHARS = 4_000_000
"""Characters of document text in all; with many documents each is cut shorter, to 200 at least."""

_LEAST_DOCUMENT_CHARS = 200
# Inside a script element only "<" can matter, but U+2028 and U+2029 end lines in older JavaScript.
_UNSAFE = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"}


def to_script_json(value: object) -> str:
    """Return JSON that can't end, or be read as part of, the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_UNSAFE)


def drilldown_data(result: EvalResult, dataset: RetrievalDataset, main: str) -> dict[str, Any]:
    """Return what the script shows of each query, with every document text once.

    Keys:
        systems: spec, letter and colour of each.
        measures: name and label of those there are values of.
        documents: id, and text or None if the corpus lacks it.
        queries: of each its ``id``, ``text`` and ``place`` in the data set; ``expected`` documents,
            each with its relevance, its rank by system (0: not retrieved) and its group of
            alternatives (0: none), and how many ``more`` are not listed; ``values`` by measure and
            system; ``hits`` by system, each a document and its score; documents ``found`` by
            system.
        total: queries of the data set, those left out included.
        documentChars: after how many characters a document is cut.
    """
    systems = list(result.systems.values())
    measures = _measures(systems, main)
    documents: dict[str, int] = {}
    queries: list[dict[str, Any]] = []
    order = {query_id: place for place, query_id in enumerate(dataset.qrels)}
    for query_id in sorted(order, key=lambda query_id: -_spread(systems, main, query_id)):
        judged = dataset.qrels[query_id]
        relevant = sorted((d for d, value in judged.items() if value > 0), key=lambda d: -judged[d])
        shown = [system.run.get(query_id, ())[:SHOWN_HITS] for system in systems]
        needed = dict.fromkeys(
            [*relevant[:MAX_EXPECTED], *(hit.doc_id for hits in shown for hit in hits)]
        )
        new = [doc_id for doc_id in needed if doc_id not in documents]
        if len(queries) == MAX_QUERIES or len(documents) + len(new) > MAX_DOCUMENTS:
            break
        documents |= {doc_id: place for place, doc_id in enumerate(new, start=len(documents))}
        groups = _alternatives(judged)
        ranks = [_ranks(system.run.get(query_id, ())) for system in systems]
        queries.append(
            {
                "id": _shown_id(query_id),
                "text": cut(clean(dataset.queries.get(query_id, "")), QUERY_CHARS),
                "place": order[query_id],
                "expected": [
                    [
                        documents[d],
                        judged[d],
                        [by_id.get(d, 0) for by_id in ranks],
                        groups.get(d, 0),
                    ]
                    for d in relevant[:MAX_EXPECTED]
                ],
                "more": max(len(relevant) - MAX_EXPECTED, 0),
                "values": [
                    [_number(s.per_query.get(m, {}).get(query_id, 0.0), 4) for s in systems]
                    for m in measures
                ],
                "hits": [[[documents[h.doc_id], _score(h.score)] for h in hits] for hits in shown],
                "found": [len(by_id) for by_id in ranks],
            }
        )
    queries.sort(key=lambda query: query["place"])
    limit = DOCUMENT_CHARS
    if documents:
        limit = min(limit, max(TEXT_CHARS // len(documents), _LEAST_DOCUMENT_CHARS))
    return {
        "systems": [[clean(spec), *mark] for spec, mark in marks(result).items()],
        "measures": [[name, title(name)] for name in measures],
        "documents": [[_shown_id(d), _text(dataset.corpus, d, limit)] for d in documents],
        "queries": queries,
        "total": len(order),
        "documentChars": limit,
    }


def _measures(systems: list[SystemResult], main: str) -> list[str]:
    """Return the main measure, then those at the same cut-off that are known per query."""
    return [
        main,
        *(n for n in systems[0].per_query if n != main and cutoff(n) == cutoff(main)),
    ]


def _spread(systems: Iterable[SystemResult], measure: str, query_id: str) -> float:
    values = [system.per_query.get(measure, {}).get(query_id, 0.0) for system in systems]
    return max(values) - min(values)


def _ranks(hits: Iterable[Hit]) -> dict[str, int]:
    """Return each document's rank, from 1; a document given again does not take a rank."""
    distinct = dict.fromkeys(hit.doc_id for hit in hits)
    return {doc_id: rank for rank, doc_id in enumerate(distinct, start=1)}


def _alternatives(judged: Mapping[str, int]) -> dict[str, int]:
    """Return the number, from 1, of each document's group, where others count in its place."""
    groups = judged.groups if isinstance(judged, GroupedRelevance) else ()
    several = [group for group in groups if len(group) > 1]
    return {d: number for number, group in enumerate(several, start=1) for d in group}


def _text(corpus: Mapping[str, str], doc_id: str, limit: int) -> str | None:
    text = corpus.get(doc_id)
    return None if text is None else cut(clean(text), limit)


def _shown_id(text: str) -> str:
    return cut(clean(text), ID_CHARS)


def _score(value: float | None) -> float | None:
    return None if value is None else _number(value, 5)


def _number(value: float, digits: int) -> float | None:
    """Return the value with so many significant digits; None for what JSON can't hold."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
