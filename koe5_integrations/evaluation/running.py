"""One system on one data set: what it retrieved, and what that cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tqdm.auto import tqdm

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.evaluation.ablations import truncation_share
from koe5_integrations.evaluation.datasets import RetrievalDataset
from koe5_integrations.evaluation.detectors import check_run
from koe5_integrations.evaluation.results import IndexStats, Run, System

__all__ = ["Measurement", "run_system", "with_truncation"]

# Queries searched between two moves of the progress bar.
_SLICE = 64
_WATCHED_SECONDS = 2.0


@dataclass(frozen=True)
class Measurement:
    """What running a system gave, before anything is scored.

    Attributes:
        run: what it retrieved.
        index: what indexing cost.
        latencies: seconds of each query asked alone.
        queries_per_second: of the queries asked at once; None where a cache answered for it.
        facts: what the system says of itself.
        warnings: findings of the sanity checks.
    """

    run: Run
    index: IndexStats
    latencies: Sequence[float] = ()
    queries_per_second: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def run_system(
    system: System,
    data: RetrievalDataset,
    top_k: int,
    latency_queries: int | None,
    *,
    progress: bool = False,
) -> Measurement:
    """Index a data set's documents and ask its judged queries.

    Args:
        system: what is run.
        data: what it is run on.
        top_k: documents per query.
        latency_queries: how many queries to ask alone, to time them; None also leaves out the
            sanity checks, which ask some queries again.
        progress: draw a progress bar on stderr.
    """
    asked = {query_id: data.queries[query_id] for query_id in data.qrels}
    alone = _spread(list(asked), latency_queries or 0)
    # Indexing draws its own bar where it takes long.
    index = system.index(data.corpus)
    if alone:
        # What is loaded or compiled on first use would count as that query's latency.
        system.search({alone[0]: asked[alone[0]]}, top_k)
    latencies = []
    run: dict[str, Any] = {}
    seconds, cached = 0.0, False
    total = len(alone) + len(asked)
    with tqdm(total=total, desc=system.spec, unit="query", disable=not progress) as bar:
        for query_id in alone:
            begun = time.perf_counter()
            system.search({query_id: asked[query_id]}, top_k)
            latencies.append(time.perf_counter() - begun)
            bar.update(1)
        # Asking in parts costs time itself, so only where there is time to watch a bar.
        slow = progress and sum(latencies) * len(asked) > _WATCHED_SECONDS * len(latencies)
        for part in _parts(asked, _SLICE if slow else len(asked)):
            begun = time.perf_counter()
            run |= system.search(part, top_k)
            seconds += time.perf_counter() - begun
            # What came from a cache says nothing of the system's speed.
            cached |= getattr(system, "used_cache", False)
            bar.update(len(part))
    checked = latency_queries is not None
    return Measurement(
        run=run,
        index=index,
        latencies=latencies,
        queries_per_second=len(asked) / seconds if seconds and not cached else None,
        facts=dict(system.facts()),
        warnings=check_run(system, run, data) if checked else [],
    )


def with_truncation(measured: Measurement, system: System, data: RetrievalDataset) -> Measurement:
    """Add to the facts how much the system's model would not read of documents and queries.

    Counted at 512 tokens, KoE5's limit. Systems without an encoder have nothing to count.
    """
    encoder = getattr(system, "encoder", None)
    if not isinstance(encoder, KoE5Encoder):
        return measured
    asked = [data.queries[query_id] for query_id in data.qrels]
    documents = truncation_share(encoder, data.corpus.values(), "passage")
    queries = truncation_share(encoder, asked, "query")
    counted = {
        "documents": asdict(documents) | {"share": documents.share},
        "queries": asdict(queries) | {"share": queries.share},
    }
    return replace(measured, facts={**measured.facts, "truncation": counted})


def _spread(items: Sequence[str], count: int) -> list[str]:
    """Return up to `count` items, evenly from the whole, always the same ones."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def _parts(texts: Mapping[str, str], size: int) -> Iterator[dict[str, str]]:
    ids = list(texts)
    for start in range(0, len(ids), size):
        yield {query_id: texts[query_id] for query_id in ids[start : start + size]}
