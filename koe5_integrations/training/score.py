"""Measure a model folder: `python -m koe5_integrations.training.score MODEL --data-dir DIR`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, KoE5Error
from koe5_integrations.evaluation.datasets import RetrievalDataset, StsDataset
from koe5_integrations.evaluation.metrics import per_query
from koe5_integrations.evaluation.results import System
from koe5_integrations.evaluation.significance import permutation_p, ranked_ids
from koe5_integrations.evaluation.sts import evaluate_sts
from koe5_integrations.evaluation.systems.bm25 import BM25System
from koe5_integrations.evaluation.systems.dense import DenseSystem
from koe5_integrations.evaluation.systems.hybrid import HybridSystem
from koe5_integrations.training.speed import measure_speed
from koe5_integrations.training.testsets import korsts_test, retrieval_sets

__all__ = ["RetrievalScore", "main", "score_retrieval"]

_NDCG, _RECALL = _MEASURES = ("ndcg@10", "recall@10")
_TOP_K = 10
# Documents taken of either ranking, as the hybrid retrievers of LangChain and LlamaIndex do.
_FUSED = 50

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RetrievalScore:
    """Means over a set's queries, each in [0, 1]."""

    ndcg_at_10: float
    recall_at_10: float


def score_retrieval(encoder: KoE5Encoder, dataset: RetrievalDataset) -> RetrievalScore:
    """Embed a data set with its roles' prefixes and search it exactly."""
    system = DenseSystem(encoder)
    system.index(dataset.corpus)
    values = _values(system, dataset)
    return RetrievalScore(float(values[_NDCG].mean()), float(values[_RECALL].mean()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print Markdown tables of the model's figures."""
    options = _parser().parse_args(arguments)
    if options.speed_runs < 0:
        raise ConfigError(f"speed_runs={options.speed_runs!r} must be 0 or more")
    encoder = KoE5Encoder(options.model)
    name = Path(options.model).name
    parts = [_retrieval_tables(encoder, name, retrieval_sets(options.data_dir))]
    sts = korsts_test(options.data_dir)
    if sts is not None:
        parts.append(_sts_table(encoder, sts))
    if options.speed_runs:
        parts.append(_speed_table(options.model, options.speed_runs))
    sys.stdout.write("\n".join("\n".join([*part, ""]) for part in parts))


def _values(system: System, dataset: RetrievalDataset) -> dict[str, Values]:
    """Return each measure's value for every query that is judged."""
    ranked = ranked_ids(system.search(dataset.queries, _TOP_K))
    found = per_query(dataset.qrels, ranked, _MEASURES)
    return {measure: np.array(list(found[measure].values())) for measure in _MEASURES}


def _retrieval_tables(
    encoder: KoE5Encoder, name: str, datasets: Iterable[RetrievalDataset]
) -> list[str]:
    rows: dict[str, dict[str, dict[str, Values]]] = {}
    for dataset in datasets:
        lexical, dense = BM25System(), DenseSystem(encoder)
        lexical.index(dataset.corpus)
        dense.index(dataset.corpus)
        # Of the two that are indexed already.
        hybrid = HybridSystem([lexical, dense], depth=_FUSED)
        systems: dict[str, System] = {name: dense, "bigram BM25": lexical, "hybrid": hybrid}
        rows[dataset.name] = {key: _values(each, dataset) for key, each in systems.items()}
    systems_measured = list(next(iter(rows.values())))
    rows["all questions"] = {
        key: {
            measure: np.concatenate([row[key][measure] for row in rows.values()])
            for measure in _MEASURES
        }
        for key in systems_measured
    }
    head = ["set", "questions", *(f"{key} {m}" for key in systems_measured for m in _MEASURES)]
    table = _head([column.replace("ndcg", "nDCG") for column in head])
    for key, row in rows.items():
        means = [f"{row[each][m].mean():.4f}" for each in systems_measured for m in _MEASURES]
        table.append(_row([key, str(len(row["hybrid"][_NDCG])), *means]))
    others = [key for key in systems_measured if key != "hybrid"]
    compared = _head(["nDCG@10 of the hybrid less that of", *(f"{key} (p)" for key in others)])
    for key, row in rows.items():
        first = row["hybrid"][_NDCG]
        cells = []
        for other in others:
            second = row[other][_NDCG]
            p = permutation_p(first, second)
            cells.append(f"{(first - second).mean():+.4f} ({p:.4f})")
        compared.append(_row([key, *cells]))
    note = (
        f"The hybrid fuses the first {_FUSED} of both by reciprocal rank. p is two-sided, of a "
        "paired permutation test over the questions, not corrected for the number of tests."
    )
    return [*table, "", *compared, "", note]


def _sts_table(encoder: KoE5Encoder, sts: StsDataset) -> list[str]:
    bare, prefixed = (evaluate_sts(encoder, sts, role=role)[0] for role in (None, "query"))
    return [
        *_head(["KorSTS test", "cosine Spearman x 100"]),
        _row(["no prefix", f"{bare.values['cosine_spearman']:.2f}"]),
        _row(["`query: ` on both sides", f"{prefixed.values['cosine_spearman']:.2f}"]),
    ]


def _speed_table(model: str, runs: int) -> list[str]:
    speed = measure_speed(model, runs)
    rows = [["import, load and first vector", f"{speed.load_s:.2f} s"]]
    rows += [
        [f"passages of {characters} characters a second", f"{rate:,.0f}"]
        for characters, rate in speed.passages_per_s.items()
    ]
    if speed.memory_mb is not None:
        rows.append(["memory when loaded", f"{speed.memory_mb:.0f} MB"])
    head = _head([f"one core, medians of {runs} processes" if runs > 1 else "one core", "speed"])
    return [*head, *map(_row, rows)]


def _head(columns: Sequence[str]) -> list[str]:
    return [_row(columns), "|" + "---|" * len(columns)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m koe5_integrations.training.score",
        description="Measure a model, bigram BM25 and both together on the test sets found.",
    )
    parser.add_argument("model", help="model folder, or a name KoE5Encoder knows")
    parser.add_argument("--data-dir", type=Path, help="folder that may hold autorag_ko and korsts")
    parser.add_argument(
        "--speed-runs", type=int, default=5, help="processes to time, 0 for none (default 5)"
    )
    return parser


if __name__ == "__main__":
    try:
        main()
    except (KoE5Error, OSError) as problem:
        sys.exit(f"error: {problem}")
