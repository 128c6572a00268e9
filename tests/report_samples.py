"""Evaluations made on the spot by real rankings of small data, for the tests of the reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np

from koe5_integrations import KoE5Encoder
from koe5_integrations.evaluation.datasets import RetrievalDataset, load_dataset
from koe5_integrations.evaluation.metrics import per_query
from koe5_integrations.evaluation.results import EvalResult, Hit, IndexStats, Run, SystemResult
from koe5_integrations.evaluation.significance import compare, score, smallest_gaps

MEASURES = ("ndcg@10", "recall@10", "ndcg@1", "success@1", "f1_of_means@3")
COMPARED = ("ndcg@10", "success@1")
DENSE, WORDS, BOTH = "dense:koe5-mini", "words", "hybrid:words+dense:koe5-mini"
CANARY = (
    "</script><script>window.canary='script'</script><img src=x onerror=\"window.canary='img'\">"
    "<!--<script>\u2028\u2029&lt;b&gt;'\"`${window.canary='template'}]]>\x00\x1b\ud800 끝"
)


def ranked(data: RetrievalDataset, scores: np.ndarray, depth: int = 30) -> Run:
    ids = list(data.corpus)
    return {
        query_id: [Hit(ids[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:depth]]
        for query_id, row in zip(data.qrels, scores, strict=True)
    }


def dense_run(data: RetrievalDataset) -> Run:
    encoder = KoE5Encoder("koe5-mini", on_truncation="ignore", on_prefixed="keep")
    queries = encoder.encode_queries([data.queries[query_id] for query_id in data.qrels])
    return ranked(data, queries @ encoder.encode_passages(list(data.corpus.values())).T)


def words_run(data: RetrievalDataset) -> Run:
    """Rank by the words a query shares with a document, rare ones counting more."""
    documents = [set(text.split()) for text in data.corpus.values()]
    holding = Counter(word for words in documents for word in words)
    return ranked(
        data,
        np.array(
            [
                [
                    sum(1 / holding[w] for w in words & set(data.queries[q].split()))
                    for words in documents
                ]
                for q in data.qrels
            ]
        ),
    )


def fused(*runs: Run) -> Run:
    points: dict[str, Counter[str]] = {query_id: Counter() for query_id in runs[0]}
    for run in runs:
        for query_id, hits in run.items():
            for rank, hit in enumerate(hits, start=1):
                points[query_id][hit.doc_id] += 1 / (60 + rank)
    return {q: [Hit(d, s) for d, s in found.most_common(30)] for q, found in points.items()}


def measured(data: RetrievalDataset, spec: str, run: Run, **known: object) -> SystemResult:
    ids = {query_id: [hit.doc_id for hit in hits] for query_id, hits in run.items()}
    return SystemResult(
        spec=spec,
        measures=score(data.qrels, run, MEASURES, samples=500),
        per_query=per_query(data.qrels, ids, MEASURES),
        run=run,
        **{"index": IndexStats(0.25, 300_000), "latencies": [0.001, 0.002, 0.004], **known},
    )


def evaluated(data: RetrievalDataset, *systems: SystemResult) -> EvalResult:
    return EvalResult(
        dataset=data.name,
        systems={system.spec: system for system in systems},
        comparisons=compare(systems, COMPARED, samples=500),
        smallest_gap=smallest_gaps(systems, COMPARED, samples=500),
        manifest={"data": {"name": data.name}, "command": "koe5 evaluate"},
    )


@cache
def faq_data() -> RetrievalDataset:
    return load_dataset("python_faq_ko")


@cache
def faq_result() -> EvalResult:
    """Return three systems on the Python FAQ: one with a warning, one of unknown cost."""
    faq = faq_data()
    dense, words = dense_run(faq), words_run(faq)
    return evaluated(
        faq,
        measured(faq, DENSE, dense),
        measured(faq, WORDS, words, warnings=["Scores rise with the rank in 3 queries."]),
        measured(faq, BOTH, fused(dense, words), latencies=(), index=IndexStats(0.5, None)),
    )


def hostile() -> tuple[EvalResult, RetrievalDataset]:
    """Return a data set, a system and a manifest whose every text tries to become markup."""
    text = CANARY.replace("\ud800", "")  # the tokeniser refuses what the report has to bear
    clean = RetrievalDataset(
        CANARY,
        {f"d{CANARY}": text, "d2": text * 40},
        {f"q{CANARY}": text},
        {f"q{CANARY}": {"d2": 1}},
    )
    system = measured(
        clean, f"python:{CANARY}", words_run(clean), warnings=[CANARY], facts={CANARY: [CANARY]}
    )
    other = measured(clean, DENSE, dense_run(clean), facts={"a": CANARY})
    data = replace(
        clean, queries={f"q{CANARY}": CANARY}, corpus=dict.fromkeys(clean.corpus, CANARY)
    )
    return replace(evaluated(clean, system, other), manifest={CANARY: {CANARY: CANARY}}), data
