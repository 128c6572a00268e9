"""Measuring retrieval: on rows kept from training, and on test sets before and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.datasets import RetrievalDataset
from koe5_integrations.evaluation.metrics import aggregate
from koe5_integrations.evaluation.search import rank
from koe5_integrations.types import Vectors

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

    from koe5_integrations.training.config import TrainingConfig

__all__ = ["dev_evaluator", "dev_passages", "measure", "split_dev"]

_MEASURES = ("ndcg@10", "recall@10", "mrr@10")
_DEV_AT_MOST = 1000
_PASSAGES_PER_ROW = 5
_BATCH = 32


def split_dev(data: Dataset, dev_size: float | None, seed: int) -> tuple[Dataset, Dataset | None]:
    """Draw rows to measure on; what is left to train on has none of their queries.

    Args:
        data: with a column query.
        dev_size: number of rows, below 1 a share of them, 0 for none; None is a tenth, at most
            1,000.
        seed: of the draw.

    Returns:
        The rows to train on, and those drawn; both in the order of ``data``.

    Raises:
        ConfigError: nothing would be left to train on.
    """
    if dev_size is None:
        dev_size = min(_DEV_AT_MOST, len(data) // 10)
    size = round(dev_size * len(data)) if dev_size < 1 else int(dev_size)
    if size == 0:
        return data, None
    drawn = np.random.default_rng(seed).permutation(len(data))[:size]
    queries = list(data["query"])
    kept_away = {queries[row] for row in drawn}
    rest = [row for row, query in enumerate(queries) if query not in kept_away]
    if not rest:
        raise ConfigError(
            f"dev_size={dev_size!r} leaves none of the {len(data):,} rows to train on, once those "
            "with the same queries are kept away; ask for fewer, or 0"
        )
    return data.select(rest), data.select(np.sort(drawn))


def dev_passages(dev: Dataset, train: Dataset, number: int | None, seed: int) -> list[str]:
    """Return the passages to search on the dev set, each once.

    Those of a thousand rows alone are soon all found, and no longer tell a better model from a
    worse one.

    Args:
        dev: rows whose positives and negatives are all among them.
        train: rows whose positives, drawn, fill them up.
        number: of passages, as far as there are so many; None is five for each row of ``dev``.
        seed: of the draw.
    """
    found = dict.fromkeys(
        text for name in dev.column_names if name != "query" for text in dev[name]
    )
    wanted = _PASSAGES_PER_ROW * len(dev) if number is None else number
    others = train["positive"]
    for row in np.random.default_rng(seed).permutation(len(train)).tolist():
        if len(found) >= wanted:
            break
        found.setdefault(others[row])
    return list(found)


def dev_evaluator(
    dev: Dataset,
    passages: Sequence[str],
    config: TrainingConfig,
    prompts: Mapping[str, str],
    dim: int | None,
    suffix: str,
) -> SentenceEvaluator:
    """Return what finds each query's positives among passages; nDCG@10 comes first.

    Args:
        dev: rows of query and positive.
        passages: see :func:`dev_passages`.
        config: for the batch size.
        prompts: of query and passage.
        dim: to which vectors are cut, None for not at all.
        suffix: of the metrics' names.
    """
    from sentence_transformers.sentence_transformer.evaluation import (
        InformationRetrievalEvaluator,
    )

    doc_ids = {text: f"d{number}" for number, text in enumerate(passages)}
    query_ids: dict[str, str] = {}
    relevant: dict[str, set[str]] = {}
    for query, positive in zip(dev["query"], dev["positive"], strict=True):
        query_id = query_ids.setdefault(query, f"q{len(query_ids)}")
        relevant.setdefault(query_id, set()).add(doc_ids[positive])
    return InformationRetrievalEvaluator(
        queries={query_id: text for text, query_id in query_ids.items()},
        corpus={doc_id: text for text, doc_id in doc_ids.items()},
        relevant_docs=relevant,
        name=f"dev{suffix}",
        batch_size=config.mini_batch_size or _BATCH,
        write_csv=False,
        truncate_dim=dim,
        main_score_function="cosine",
        query_prompt=prompts["query"],
        corpus_prompt=prompts["passage"],
    )


def measure(
    model: SentenceTransformer,
    datasets: Sequence[RetrievalDataset],
    config: TrainingConfig,
    prompts: Mapping[str, str],
) -> Mapping[str, Mapping[str, float]]:
    """Search each data set exactly, with whole vectors and at each size they may be cut to.

    Returns:
        nDCG@10, recall@10 and MRR@10, in [0, 1], by the data set's name and size.
    """
    tables: dict[str, Mapping[str, float]] = {}
    for dataset in datasets:
        query_ids, doc_ids = list(dataset.qrels), list(dataset.corpus)
        asked = [dataset.queries[query_id] for query_id in query_ids]
        queries = _encode(model, asked, prompts["query"], config)
        passages = _encode(model, list(dataset.corpus.values()), prompts["passage"], config)
        for dim in config.matryoshka_dims or (passages.shape[1],):
            ranked = rank(_cut(queries, dim), _cut(passages, dim), query_ids, doc_ids, top_k=10)
            name = f"{dataset.name}, {dim} dim" if config.matryoshka_dims else dataset.name
            tables[name] = aggregate(dataset.qrels, ranked, _MEASURES)
    return tables


def _encode(
    model: SentenceTransformer, texts: list[str], prompt: str, config: TrainingConfig
) -> Vectors:
    batch_size = config.mini_batch_size or _BATCH
    vectors = model.encode(texts, prompt=prompt, batch_size=batch_size, show_progress_bar=False)
    return np.asarray(vectors, dtype=np.float32)


def _cut(vectors: Vectors, dim: int) -> Vectors:
    kept = vectors[:, :dim]
    lengths = np.linalg.norm(kept, axis=1, keepdims=True)
    return np.asarray(np.divide(kept, lengths, out=np.zeros_like(kept), where=lengths > 0))
