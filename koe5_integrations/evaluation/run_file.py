"""A run in TREC's format, in which any tool finds the ranking that was measured here."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import numpy as np

from koe5_integrations.evaluation.results import Hit, SystemResult

__all__ = ["trec_lines"]


def trec_lines(system: SystemResult) -> Iterator[str]:
    """Yield the lines of a run.trec: query, Q0, document, rank, score and system.

    Ids are percent-encoded; repeats of a document, and those without an id, are left out.
    :func:`koe5_integrations.evaluation.datasets.read_trec_run` reads them back.
    """
    tag = _encoded(system.spec)
    for query_id, hits in system.run.items():
        first: dict[str, Hit] = {}
        for hit in hits:
            if hit.doc_id:
                first.setdefault(hit.doc_id, hit)
        ordered = list(first.values())
        for rank, (hit, score) in enumerate(zip(ordered, _falling(ordered), strict=True), 1):
            fields = (_encoded(query_id), "Q0", _encoded(hit.doc_id), rank, score, tag)
            yield " ".join(map(str, fields)) + "\n"


def _falling(hits: list[Hit]) -> list[float]:
    """Return scores that sort as the hits are ordered: their own if those do, else from the rank.

    trec_eval goes by the score alone, as a float32, and breaks ties by id.
    """
    given = [np.nan if hit.score is None else hit.score for hit in hits]
    with np.errstate(over="ignore"):
        scores = np.array(given).astype(np.float32)
    if np.isfinite(scores).all() and (np.diff(scores) < 0).all():
        return [float(hit.score) for hit in hits if hit.score is not None]
    return [float(len(hits) - rank) for rank in range(len(hits))]


def _encoded(text: str) -> str:
    return quote(text, safe="/:@+,;=~", errors="surrogatepass")
