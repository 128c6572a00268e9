"""Measure a model folder: `python -m koe5_integrations.training.score MODEL --data-dir DIR`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import KoE5Error
from koe5_integrations.evaluation.datasets import RetrievalDataset
from koe5_integrations.evaluation.metrics import mean_over_queries, ndcg, recall
from koe5_integrations.evaluation.search import rank
from koe5_integrations.evaluation.sts import evaluate_sts
from koe5_integrations.training.testsets import korsts_test, retrieval_sets


@dataclass(frozen=True)
class RetrievalScore:
    """Means over a set's queries, each in [0, 1]."""

    ndcg_at_10: float
    recall_at_10: float


def score_retrieval(encoder: KoE5Encoder, dataset: RetrievalDataset) -> RetrievalScore:
    """Embed a data set with its roles' prefixes and search it exactly."""
    run = rank(
        encoder.encode_queries(list(dataset.queries.values())),
        encoder.encode_passages(list(dataset.corpus.values())),
        list(dataset.queries),
        list(dataset.corpus),
        top_k=10,
    )
    return RetrievalScore(
        mean_over_queries(ndcg, run, dataset.qrels, 10),
        mean_over_queries(recall, run, dataset.qrels, 10),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a Markdown table of the model's scores."""
    parser = argparse.ArgumentParser(
        prog="python -m koe5_integrations.training.score",
        description="Measure a model on the test sets that are found.",
    )
    parser.add_argument("model", help="model folder, or a name KoE5Encoder knows")
    parser.add_argument("--data-dir", type=Path, help="folder that may hold autorag_ko and korsts")
    options = parser.parse_args(arguments)
    encoder = KoE5Encoder(options.model)
    lines = ["| set | nDCG@10 | recall@10 |", "|---|---|---|"]
    for dataset in retrieval_sets(options.data_dir):
        result = score_retrieval(encoder, dataset)
        lines.append(f"| {dataset.name} | {result.ndcg_at_10:.4f} | {result.recall_at_10:.4f} |")
    sts = korsts_test(options.data_dir)
    if sts is not None:
        bare, prefixed = (evaluate_sts(encoder, sts, role=role)[0] for role in (None, "query"))
        lines += [
            "",
            "| KorSTS test | cosine Spearman x 100 |",
            "|---|---|",
            f"| no prefix | {bare.values['cosine_spearman']:.2f} |",
            f"| `query: ` on both sides | {prefixed.values['cosine_spearman']:.2f} |",
        ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    try:
        main()
    except (KoE5Error, OSError) as problem:
        sys.exit(f"error: {problem}")
