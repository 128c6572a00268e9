"""A small data set, systems to ask about it, and results made of plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from koe5_integrations.evaluation.datasets import RetrievalDataset
from koe5_integrations.evaluation.results import (
    Comparison,
    EvalResult,
    Hit,
    IndexStats,
    Measured,
    Run,
    SystemResult,
)

CORPUS = {
    "문서 1": "부동 소수점 수는 이진 소수로 저장되어 정확하지 않습니다",
    "문서 2": "문자열은 불변이라 제자리에서 바꿀 수 없습니다",
    "a/b|c": "리스트는 순서가 있고 바꿀 수 있습니다",
    "100%": "사전은 키로 값을 찾습니다",
}
QUERIES = {
    "질문 1": "부동 소수점 계산은 왜 정확하지 않나요",
    "q2": "문자열은 왜 불변인가요",
    "q3": "키로 값을 찾는 자료형은",
}
QRELS = {"질문 1": {"문서 1": 1}, "q2": {"문서 2": 1}, "q3": {"100%": 1}}


def small_dataset() -> RetrievalDataset:
    """Three questions and four documents, with ids that files must escape."""
    return RetrievalDataset("작은 모음", CORPUS, QUERIES, QRELS)


class SharedWords:
    """A real system in a few lines: documents by the words they share with the question."""

    def __init__(self, spec: str = "words", *, reverse: bool = False) -> None:
        self.spec = spec
        self.reverse = reverse
        self.indexed = 0
        self.searched: list[str] = []
        self._corpus: Mapping[str, str] = {}

    def index(self, corpus: Mapping[str, str]) -> IndexStats:
        self.indexed += 1
        self._corpus = corpus
        return IndexStats(seconds=0.5, bytes=sum(map(len, corpus.values())))

    def search(self, queries: Mapping[str, str], top_k: int) -> Run:
        self.searched += queries
        return {query_id: self._ranked(text)[:top_k] for query_id, text in queries.items()}

    def facts(self) -> Mapping[str, Any]:
        return {"reverse": self.reverse}

    def _ranked(self, query: str) -> list[Hit]:
        words = set(query.split())
        hits = [
            Hit(doc_id, float(len(words & set(text.split()))))
            for doc_id, text in self._corpus.items()
        ]
        sign = 1 if self.reverse else -1
        return sorted(hits, key=lambda hit: sign * (hit.score or 0))


def system_result(spec: str, values: Mapping[str, Sequence[float]], **changes: Any) -> SystemResult:
    """A system's result from the value of each of the three queries, by measure."""
    n = len(QRELS)
    measures = {
        name: Measured(sum(each) / n, (min(each), max(each)), n, hits=sum(v > 0 for v in each))
        for name, each in values.items()
    }
    per_query = {name: dict(zip(QRELS, each, strict=True)) for name, each in values.items()}
    run = {query_id: [Hit(doc_id, None) for doc_id in CORPUS] for query_id in QRELS}
    made: dict[str, Any] = {"run": run, "index": IndexStats(1.5, 2048, 4)} | changes
    return SystemResult(spec, measures, per_query, **made)


def result_of(*systems: SystemResult, comparisons: Sequence[Comparison] = ()) -> EvalResult:
    """An evaluation of the small data set."""
    manifest = {
        "data": {"name": "작은 모음", "sha256": "ab" * 32, "queries": 3, "documents": 4},
        "settings": {"top_k": 10},
    }
    gaps = {"ndcg@10": 0.25}
    return EvalResult("작은 모음", {s.spec: s for s in systems}, comparisons, gaps, manifest)
