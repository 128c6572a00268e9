"""What an export lost: its vectors held against those of the model in fp32, on real Korean text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.load import load_backend
from koe5_integrations.backends.pick import EngineChoice
from koe5_integrations.evaluation.datasets import SHIPPED_NAMES, load_dataset
from koe5_integrations.evaluation.metrics import mean_over_queries, ndcg
from koe5_integrations.evaluation.search import exact_search
from koe5_integrations.profiles import ModelProfile
from koe5_integrations.prompts import add_prompt
from koe5_integrations.scheduling import Worker
from koe5_integrations.text import check_texts
from koe5_integrations.types import Role, Vectors
from koe5_integrations.vectors import finish_vectors

__all__ = ["Fidelity", "Sample", "embed_samples", "judge", "take_samples"]

_TOP_K = 10


@dataclass(frozen=True)
class Sample:
    """Questions of a shipped set, and the passages that answer them.

    Attributes:
        name: of the set.
        queries: question by id.
        passages: text by id.
        qrels: relevance by passage id, by query id.
    """

    name: str
    queries: Mapping[str, str]
    passages: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Embedded:
    """A sample's vectors, each float32, shape (n, dim)."""

    queries: Vectors
    passages: Vectors


@dataclass(frozen=True)
class Fidelity:
    """How near an export's vectors are to those of the model in fp32.

    Attributes:
        texts: how many were embedded by both.
        mean_cosine: mean cosine of a text's two vectors.
        p1_cosine: the cosine that 1% of the texts fall below.
        min_cosine: the least.
        ndcg: nDCG@10 of the model and of the export by name of the set, searching each sample's
            passages alone: easier than the whole set.
    """

    texts: int
    mean_cosine: float
    p1_cosine: float
    min_cosine: float
    ndcg: Mapping[str, tuple[float, float]]

    def as_floats(self) -> dict[str, float]:
        """Return it as a manifest stores it: a number to each name."""
        numbers = {name: value for name, value in asdict(self).items() if name != "ndcg"}
        for name, (model, export) in self.ndcg.items():
            numbers |= {f"ndcg@{_TOP_K}_{name}_fp32": model, f"ndcg@{_TOP_K}_{name}": export}
        return {name: float(value) for name, value in numbers.items()}


def take_samples(questions: int) -> list[Sample]:
    """Return up to so many questions of each shipped set, spread over it, with their passages."""
    samples = []
    for name in SHIPPED_NAMES:
        data = load_dataset(name)
        asked = list(data.qrels)
        rows = np.linspace(0, len(asked) - 1, min(questions, len(asked))).astype(int)
        picked = [asked[row] for row in dict.fromkeys(rows.tolist())]
        qrels = {query_id: data.qrels[query_id] for query_id in picked}
        passages = {doc_id: data.corpus[doc_id] for judged in qrels.values() for doc_id in judged}
        queries = {query_id: data.queries[query_id] for query_id in picked}
        samples.append(Sample(name, queries, passages, qrels))
    return samples


def embed_samples(
    samples: Sequence[Sample],
    folder: ModelFolder,
    choice: EngineChoice,
    *,
    profile: ModelProfile,
    show_progress: bool = False,
) -> list[Embedded]:
    """Embed samples as an encoder does, by an engine that needn't be one that encoders find.

    Args:
        samples: what to embed.
        folder: the model.
        choice: what runs it.
        profile: whose prompts, pooling and normalisation.
        show_progress: draw a bar on stderr.

    Raises:
        ModelLoadError: the model or the graph can't be loaded.
        EncodingError: a vector is not finite, or zero where it must be normalised.
    """
    backend = load_backend(
        folder,
        choice,
        device=choice.device,
        max_seq_length=folder.max_seq_length,
        pooling=profile.pooling,
        compile=False,
        forked=False,
    )
    normalize = folder.normalize or bool(profile.normalize)
    finish = partial(finish_vectors, truncate_dim=None, normalize=normalize)
    total = sum(len(sample.queries) + len(sample.passages) for sample in samples)
    worker = Worker([backend])
    bar = tqdm(total=total, desc=choice.backend, unit="text", disable=not show_progress)

    def embed(texts: Mapping[str, str], role: Role) -> Vectors:
        prompted = add_prompt(check_texts(texts.values()), profile, role, "warn")
        tokens = backend.tokenize(prompted)
        return worker.submit(tokens, finish=finish, progress=bar.update).result()

    try:
        return [
            Embedded(embed(sample.queries, "query"), embed(sample.passages, "passage"))
            for sample in samples
        ]
    finally:
        bar.close()
        worker.close()


def judge(
    samples: Sequence[Sample], model: Sequence[Embedded], export: Sequence[Embedded]
) -> Fidelity:
    """Hold an export's vectors against the model's; each sequence in the order of ``samples``."""
    cosines = np.concatenate(
        [
            _cosines(getattr(theirs, role), getattr(ours, role))
            for theirs, ours in zip(model, export, strict=True)
            for role in ("queries", "passages")
        ]
    )
    return Fidelity(
        texts=len(cosines),
        mean_cosine=float(cosines.mean()),
        p1_cosine=float(np.percentile(cosines, 1)),
        min_cosine=float(cosines.min()),
        ndcg={
            sample.name: (_ndcg(sample, theirs), _ndcg(sample, ours))
            for sample, theirs, ours in zip(samples, model, export, strict=True)
        },
    )


def _cosines(first: Vectors, second: Vectors) -> np.ndarray[Any, np.dtype[np.float64]]:
    a, b = first.astype(np.float64), second.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: np.ndarray[Any, np.dtype[np.float64]] = (a * b).sum(axis=1) / norms
    return cosines


def _ndcg(sample: Sample, embedded: Embedded) -> float:
    passage_ids = list(sample.passages)
    rows, _ = exact_search(embedded.queries, embedded.passages, _TOP_K)
    found = [[passage_ids[row] for row in ranked] for ranked in rows]
    return mean_over_queries(
        ndcg, dict(zip(sample.queries, found, strict=True)), sample.qrels, _TOP_K
    )
