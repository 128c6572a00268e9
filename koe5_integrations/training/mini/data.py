"""Everything that training reads, as features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from koe5_integrations.evaluation.datasets import StsDataset
from koe5_integrations.training.mini.features import FeatureReader, Features, Ints
from koe5_integrations.training.mini.questions import ASKED, QUESTIONS
from koe5_integrations.training.pairs import Pairs

__all__ = ["PASSAGE", "QUERY", "Held", "PairFeatures", "Similar", "hold_out", "read_similar"]

QUERY, PASSAGE = "query: ", "passage: "


@dataclass(frozen=True)
class PairFeatures:
    """The pairs' texts as features.

    Attributes:
        queries: of each pair.
        passages: of each pair.
        questions: what may be put after a query.
        source_names: ascending.
        sources: number of each pair's source in ``source_names``.
        headings: whether a query may be followed by a question, by pair.
        query_numbers: equal for equal queries.
        passage_numbers: equal for equal passages.
    """

    queries: Features
    passages: Features
    questions: Features
    source_names: list[str]
    sources: Ints
    headings: npt.NDArray[np.bool_]
    query_numbers: Ints
    passage_numbers: Ints

    @classmethod
    def read(cls, pairs: Pairs, reader: FeatureReader) -> PairFeatures:
        """Read all texts, which takes minutes for half a million pairs."""
        names, sources = np.unique(pairs.sources, return_inverse=True)
        return cls(
            reader(pairs.queries, QUERY),
            reader(pairs.passages, PASSAGE),
            reader(QUESTIONS),
            names.tolist(),
            sources,
            ~np.isin(names, list(ASKED))[sources],
            _numbers(pairs.queries),
            _numbers(pairs.passages),
        )


@dataclass(frozen=True)
class Similar:
    """Sentence pairs with human scores; both sentences are read as queries."""

    first: Features
    second: Features
    scores: npt.NDArray[np.float32]


def read_similar(pairs: StsDataset, reader: FeatureReader) -> Similar:
    """Read the sentences of a data set."""
    return Similar(
        reader(pairs.first, QUERY),
        reader(pairs.second, QUERY),
        np.array(pairs.scores, dtype=np.float32),
    )


@dataclass(frozen=True)
class Held:
    """Pairs of one source that are measured on.

    Attributes:
        source: its name.
        rows: positions of the pairs that are not trained on.
        pool: positions of the passages they are looked for in, ``rows`` first.
    """

    source: str
    rows: Ints
    pool: Ints


def hold_out(sources: Sequence[str], count: int, pool: int, rng: np.random.Generator) -> list[Held]:
    """Choose pairs of each source to measure on, at most a twentieth of a source."""
    names, numbers = np.unique(sources, return_inverse=True)
    held = []
    for number, name in enumerate(names.tolist()):
        rows = rng.permutation(np.flatnonzero(numbers == number))
        kept = min(count, len(rows) // 20)
        if kept:
            held.append(Held(name, rows[:kept], rows[: max(pool, kept)]))
    return held


def _numbers(texts: Iterable[str]) -> Ints:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)
