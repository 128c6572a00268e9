"""Published figures, embedded as data with their sources, and which of them are known to be bad."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from koe5_integrations.evaluation.datasets.known import KNOWN
from koe5_integrations.evaluation.reversed_ranks import RankCounts, recover_ranks

__all__ = ["SOURCES", "Published", "PublishedSts", "canonical_name", "published", "published_sts"]

_DATA = Path(__file__).parent / "data"
_SETS = {"ks": "ko-strategyqa", "ar": "autorag", "ph": "publichealthqa"}
_MEASURES = {
    "n1": "ndcg@1",
    "f1": "f1_of_means@1",
    "n3": "ndcg@3",
    "f3": "f1_of_means@3",
    "m3": "mrr@3",
    "n10": "ndcg@10",
    "r10": "recall@10",
}

SOURCES: Mapping[str, str] = {
    "seed": "nlpai-lab/KoE5, model card",
    "autorag": "Marker-Inc-Korea/AutoRAG-example-korean-embedding-benchmark @ 9a0ba3c, README",
    "kure": "nlpai-lab/KURE, results",
    "mteb": "embeddings-benchmark/results",
    "sts": "jhgan00/ko-sentence-transformers, README",
}
"""What the tables were taken from, by short name."""


@dataclass(frozen=True, slots=True)
class Published:
    """One cell of a published table.

    Attributes:
        model: name on the hub.
        label: the row's name in the source.
        dataset: name as ``load_dataset`` takes it.
        measure: such as ``ndcg@3``.
        value: as published, 0 to 1; the sources give two decimals of percent.
        source: short name, a key of :data:`SOURCES`.
        note: how it was measured, where that matters.
        known_bad: why the value is wrong; None if it is not known to be.
        right: what it should have been, 0 to 1, where that can be worked out.
    """

    model: str
    label: str
    dataset: str
    measure: str
    value: float
    source: str
    note: str | None = None
    known_bad: str | None = None
    right: float | None = None


@dataclass(frozen=True, slots=True)
class PublishedSts:
    """One model's row of the published KorSTS table.

    Attributes:
        model: name on the hub.
        values: in percent, by column, such as ``cosine_spearman``.
    """

    model: str
    values: Mapping[str, float]


def canonical_name(dataset: str) -> str:
    """Return the name by which published tables know a data set (``autorag`` for its copies)."""
    lower = dataset.lower()
    for known in KNOWN.values():
        if lower == known.name or lower in {folder.lower() for folder in known.folders}:
            return "autorag" if known.name == "autorag-hub" else known.name
    return dataset


@cache
def published() -> tuple[Published, ...]:
    """Return every published cell: the seed's table, AutoRAG's own, KURE's and MTEB's results.

    A model may have cells of several sources, measured with other settings.
    """
    return (
        *_artefact_table("published_seed.csv", "seed"),
        *_artefact_table("published_autorag.csv", "autorag"),
        *_retrieval_table(),
    )


@cache
def published_sts() -> tuple[PublishedSts, ...]:
    """Return the rows of the KorSTS table (1,379 test pairs), in percent."""
    return tuple(
        PublishedSts(row["model"], {k: float(v) for k, v in row.items() if k != "model"})
        for row in _rows("published_kor_sts.csv")
    )


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (_DATA / name).open(encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def _cells(row: Mapping[str, str]) -> Iterator[tuple[str, str, float]]:
    for column, value in row.items():
        dataset, _, measure = column.partition("_")
        if dataset in _SETS and measure in _MEASURES:
            yield _SETS[dataset], _MEASURES[measure], round(float(value) / 100, 6)


def _retrieval_table() -> Iterator[Published]:
    sources = {"K": "kure", "O": "mteb"}
    for row in _rows("published_retrieval.csv"):
        for dataset, measure, value in _cells(row):
            model = row["model"]
            yield Published(model, model, dataset, measure, value, sources[row["src"]])


def _artefact_table(name: str, source: str) -> Iterator[Published]:
    """Read a table whose AutoRAG columns at k=3 were ranked worst first."""
    for row in _rows(name):
        counts = recover_ranks(
            KNOWN["autorag"].queries,
            ndcg_at_1=float(row["ar_n1"]) / 100,
            # With one relevant document per query, F1@3 is half of recall@3.
            recall_at_3=float(row["ar_f3"]) / 50,
            reversed_ndcg_at_3=float(row["ar_n3"]) / 100,
        )
        right = {"ndcg@3": counts.ndcg, "mrr@3": counts.mrr}
        for dataset, measure, value in _cells(row):
            bad = dataset == "autorag" and measure in right
            yield Published(
                model=row["model"],
                label=row["label"],
                dataset=dataset,
                measure=measure,
                value=value,
                source=source,
                note="embedded without prefixes" if dataset == "autorag" else None,
                known_bad=_why(counts, measure) if bad else None,
                right=right[measure] if bad else None,
            )


def _why(counts: RankCounts, measure: str) -> str:
    one, two, three = counts.at
    turned = counts.reversed.ndcg if measure == "ndcg@3" else counts.reversed.mrr
    right = counts.ndcg if measure == "ndcg@3" else counts.mrr
    return (
        "AutoRAG before 0.2.17 ranked worst first (issue #699, PR #713): with the answer at rank "
        f"1, 2, 3 of {one}, {two}, {three} of {counts.queries} queries, the reversed "
        f"{measure} is {100 * turned:.2f} and the right one {100 * right:.2f}"
    )
