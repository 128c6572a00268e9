"""The words of an evaluation: what a system is asked, what it answers, and what that was worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

__all__ = [
    "Comparison",
    "EvalResult",
    "Hit",
    "IndexStats",
    "Measured",
    "Qrels",
    "Run",
    "System",
    "SystemResult",
]

Qrels: TypeAlias = Mapping[str, Mapping[str, int]]
"""Relevance (0 or more) by document id, by query id."""


class Hit(NamedTuple):
    """A retrieved document. The score is None where a retriever gives none."""

    doc_id: str
    score: float | None


Run: TypeAlias = Mapping[str, Sequence[Hit]]
"""What a system retrieved, best first, by query id. The order counts, not the scores."""


@dataclass(frozen=True, slots=True)
class IndexStats:
    """What making a corpus searchable cost.

    Attributes:
        seconds: wall-clock time, embedding included.
        bytes: size of the index; None if it can't be known.
        embedded: documents embedded now; the rest came from a cache.
    """

    seconds: float
    bytes: int | None
    embedded: int = 0


class System(Protocol):
    """Anything that can be asked to retrieve."""

    spec: str
    """Its name in reports, and on the command line where it has one: ``dense:koe5-mini``."""

    def index(self, corpus: Mapping[str, str]) -> IndexStats:
        """Make the documents (text by id) searchable. Called once, before any search."""

    def search(self, queries: Mapping[str, str], top_k: int) -> Run:
        """Return up to ``top_k`` documents for each query (text by id)."""

    def facts(self) -> Mapping[str, Any]:
        """What a reader needs to reproduce it, as JSON types: model, fingerprint, parameters."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One measure of one system.

    Attributes:
        value: mean over the queries, 0 to 1.
        ci: 95% bootstrap interval of the mean over queries.
        n: queries averaged over: all those of the qrels.
        hits: queries with a relevant document among the first k, where that is a count; else None.
    """

    value: float
    ci: tuple[float, float]
    n: int
    hits: int | None = None


@dataclass(frozen=True)
class SystemResult:
    """What one system did on one data set.

    Attributes:
        spec: the system's name.
        measures: by name, such as ``ndcg@10``.
        per_query: value by query id, by measure, for the measures that are means over queries.
        run: what it retrieved.
        index: what indexing cost.
        latencies: seconds of each query asked alone; empty if they were not timed.
        queries_per_second: throughput of the queries asked at once.
        facts: what the system says of itself.
        warnings: findings of the sanity checks, one sentence each.
    """

    spec: str
    measures: Mapping[str, Measured]
    per_query: Mapping[str, Mapping[str, float]]
    run: Run
    index: IndexStats
    latencies: Sequence[float] = ()
    queries_per_second: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on one measure, paired by query.

    Attributes:
        measure: such as ``ndcg@10``.
        better: spec of the system with the higher mean.
        worse: spec of the other.
        difference: of the means, 0 or more.
        p_value: two-sided paired permutation test.
        p_holm: the same after Holm's correction over all comparisons of the measure.
    """

    measure: str
    better: str
    worse: str
    difference: float
    p_value: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether it stands at 5% after correction."""
        return self.p_holm < 0.05


@dataclass(frozen=True)
class EvalResult:
    """An evaluation of some systems on one data set.

    Attributes:
        dataset: its name.
        systems: by spec, in the order they were given.
        comparisons: every pair of systems on every compared measure.
        smallest_gap: by measure, the least difference of means this set could find significant.
        manifest: data sha256, versions, command, settings: what reproduces it, as JSON types.
    """

    dataset: str
    systems: Mapping[str, SystemResult]
    comparisons: Sequence[Comparison]
    smallest_gap: Mapping[str, float]
    manifest: Mapping[str, Any]
