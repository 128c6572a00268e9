"""How far a student agrees with its teacher on other texts, and how well both of them search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

from koe5_integrations.evaluation.metrics import aggregate, mean_over_queries, ndcg
from koe5_integrations.evaluation.search import rank
from koe5_integrations.types import Role, Vectors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sentence_transformers.base.model import BaseModel

    from koe5_integrations.evaluation.datasets import RetrievalDataset
    from koe5_integrations.training.distillation.teacher import Teacher

__all__ = ["Agreement", "measure"]

_TOP = 10
_MEASURES = ("ndcg@10", "recall@10", "mrr@10")


class Agreement(SentenceEvaluator):
    """Has student and teacher search the same texts, and compares what they find.

    Its metrics are ``agreement_ndcg@10``, where the teacher's first ten are what is to be found,
    and ``mean_cosine`` of student's and teacher's vectors. Each question searches the passages;
    where there are texts of one role only, each searches the others.

    Args:
        texts: by role, with their prefixes.
        vectors: by role, those the teacher has of them.
        learnt: by role, those the student is to have of them; shape (n, student's dim).
        batch_size: texts that go through the student at a time.
        dim: to which the student's vectors are cut; None is not at all.
        suffix: of the metrics' names.
    """

    def __init__(
        self,
        texts: Mapping[Role, Sequence[str]],
        vectors: Mapping[Role, Vectors],
        learnt: Mapping[Role, Vectors],
        *,
        batch_size: int,
        dim: int | None = None,
        suffix: str = "",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # the library's
        self._texts = {role: list(some) for role, some in texts.items() if some}
        self._learnt = learnt
        self._batch_size = batch_size
        self._dim = dim
        self._expected = self._search(vectors)
        self.name = f"dev{suffix}"
        self._primary = f"{self.name}_agreement_ndcg@{_TOP}"
        self.primary_metric = self._primary

    def __call__(
        self,
        model: BaseModel,
        output_path: str | None = None,
        epoch: int = -1,
        steps: int = -1,
    ) -> dict[str, float]:
        """Return the metrics by name; the arguments but for the model are not used."""
        assert isinstance(model, SentenceTransformer)
        vectors = {role: self._encode(model, texts) for role, texts in self._texts.items()}
        cosines = [
            np.sum(vectors[role] * _unit(self._learnt[role][:, : self._dim]), axis=1)
            for role in self._texts
        ]
        relevant = {
            query: dict.fromkeys(found, 1) for query, found in self._expected.items() if found
        }
        return {
            self._primary: mean_over_queries(ndcg, self._search(vectors), relevant, _TOP),
            f"{self.name}_mean_cosine": float(np.concatenate(cosines).mean()),
        }

    def _encode(self, model: SentenceTransformer, texts: list[str]) -> Vectors:
        found = model.encode(texts, prompt="", batch_size=self._batch_size, show_progress_bar=False)
        return _unit(np.asarray(found, dtype=np.float32)[:, : self._dim])

    def _search(self, vectors: Mapping[Role, Vectors]) -> dict[str, list[str]]:
        """Return numbers of the texts each one finds, itself left out, best first."""
        roles = list(self._texts)
        searching, searched = roles[0], roles[-1]
        names = {role: [f"{role}{i}" for i in range(len(self._texts[role]))] for role in roles}
        run = rank(
            _unit(vectors[searching]),
            _unit(vectors[searched]),
            names[searching],
            names[searched],
            top_k=_TOP + 1,
        )
        return {
            query: [name for name in found if name != query][:_TOP] for query, found in run.items()
        }


def measure(
    trained: SentenceTransformer,
    teacher: Teacher,
    datasets: Sequence[RetrievalDataset],
    batch_size: int,
) -> dict[str, dict[str, float]]:
    """Search data sets exactly, with the teacher and with the student.

    Args:
        trained: the student.
        teacher: whose prefixes both have.
        datasets: to search.
        batch_size: texts that go through the student at a time.

    Returns:
        nDCG@10, recall@10 and MRR@10, in [0, 1], by the data set's name, and that with ", teacher".
    """

    def student(texts: Sequence[str], role: Role) -> Vectors:
        found = trained.encode(
            list(texts),
            prompt=teacher.prompts[role],
            batch_size=batch_size,
            show_progress_bar=False,
        )
        return np.asarray(found, dtype=np.float32)

    tables = {}
    for dataset in datasets:
        query_ids, doc_ids = list(dataset.qrels), list(dataset.corpus)
        asked = [dataset.queries[query_id] for query_id in query_ids]
        for title, encode in ((", teacher", teacher.vectors), ("", student)):
            ranked = rank(
                encode(asked, "query"),
                encode(list(dataset.corpus.values()), "passage"),
                query_ids,
                doc_ids,
                top_k=_TOP,
            )
            tables[f"{dataset.name}{title}"] = aggregate(dataset.qrels, ranked, _MEASURES)
    return tables


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0))
