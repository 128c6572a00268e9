"""mteb's benchmarks with this package's encoder and with any retriever (extra ``[mteb]``).

Nothing is measured here: mteb's own tasks are given what they can ask. ::

    import mteb
    from koe5_integrations import KoE5Encoder
    from koe5_integrations.evaluation.mteb import MtebEncoder

    mteb.evaluate(MtebEncoder(KoE5Encoder()), mteb.get_tasks(languages=["kor"]))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from koe5_integrations.errors import ConfigError, EmptyTextError, MissingExtraError

try:
    import mteb
    from mteb.models.model_meta import ModelMeta
    from mteb.similarity_functions import cos_sim, pairwise_cos_sim
except ImportError as error:
    raise MissingExtraError("koe5_integrations.evaluation.mteb", "mteb") from error

from koe5_integrations.evaluation.systems.specs import as_system
from koe5_integrations.text import check_texts

if TYPE_CHECKING:
    from koe5_integrations.encoder import KoE5Encoder
    from koe5_integrations.evaluation.datasets import RetrievalDataset
    from koe5_integrations.types import Role, Vectors

__all__ = ["MtebEncoder", "MtebSearch", "mteb_task"]

_FRAMEWORKS = {"torch": ["PyTorch", "Sentence Transformers"], "static": ["NumPy"]}


class MtebEncoder:
    """A KoE5Encoder as `mteb.evaluate` takes it.

    mteb says of each text whether it is a query or a document, and that decides the prefix; where
    mteb says neither (similarity, classification, clustering), ``symmetric_role`` does.

    A blank text, which the encoder refuses and some of mteb's sets hold, gets a zero vector: it is
    similar to nothing.

    Args:
        encoder: whose vectors are measured.
        symmetric_role: the role of texts that are neither; E5's authors use ``query``.

    Raises:
        ConfigError: ``symmetric_role`` is neither ``query`` nor ``passage``.
    """

    def __init__(self, encoder: KoE5Encoder, *, symmetric_role: Role = "query") -> None:
        if symmetric_role not in ("query", "passage"):
            raise ConfigError(f"symmetric_role={symmetric_role!r} must be 'query' or 'passage'")
        self._encoder = encoder
        self._symmetric_role: Role = symmetric_role

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> Vectors:
        """Embed mteb's batches; float32, shape (texts, dim).

        Args:
            inputs: batches, each with its texts under ``text``.
            task_metadata: not needed: no prompt depends on the task.
            hf_split: not needed.
            hf_subset: not needed.
            prompt_type: mteb's ``PromptType``, or None.
            kwargs: ``show_progress_bar``; the batch size is the encoder's own affair.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        role = self._role(prompt_type)
        encode = self._encoder.encode_queries if role == "query" else self._encoder.encode_passages
        rows = [row for row, text in enumerate(texts) if not _is_blank(text)]
        vectors = np.zeros((len(texts), self._encoder.dim), np.float32)
        vectors[rows] = encode(
            [texts[row] for row in rows], show_progress=bool(kwargs.get("show_progress_bar"))
        )
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosine similarity of all pairs, shape (n1, n2)."""
        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosine similarity row by row, shape (n,)."""
        return pairwise_cos_sim(embeddings1, embeddings2)

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """Name the model and, as the revision, the fingerprint, by which mteb files results."""
        encoder = self._encoder
        name = encoder.model if encoder.model.count("/") == 1 else None
        fingerprint = encoder.fingerprint
        return ModelMeta.create_empty(
            {
                "name": name or f"koe5-integrations/{encoder.model.rstrip('/').rpartition('/')[2]}",
                "revision": fingerprint.digest,
                "max_tokens": encoder.max_seq_length,
                "embed_dim": encoder.dim,
                "similarity_fn_name": "cosine",
                "use_instructions": bool(fingerprint.query_prompt or fingerprint.passage_prompt),
            }
        )

    def _role(self, prompt_type: Any) -> Role:
        if prompt_type is None:
            return self._symmetric_role
        return "query" if getattr(prompt_type, "value", prompt_type) == "query" else "passage"


class MtebSearch:
    """A system of the harness, or a LangChain or LlamaIndex retriever, as `mteb.evaluate` takes it.

    A system indexes the task's corpus. A retriever is asked as it is: it must have been filled with
    the task's documents, and name them by the task's ids (see
    :mod:`koe5_integrations.evaluation.systems`).

    Args:
        system: a spec such as ``bm25:bigram``, a System, or a retriever of either framework.
        name: under which mteb files the results; the system's own by default.
    """

    def __init__(self, system: Any, *, name: str | None = None) -> None:
        self._system = as_system(system)
        self._name = name or self._system.spec

    def index(self, corpus: Any, **_: Any) -> None:
        """Make mteb's corpus (rows of id, text and perhaps title) searchable."""
        self._system.index({row["id"]: _document(row) for row in corpus})

    def search(
        self, queries: Any, *, top_k: int, top_ranked: Any = None, **_: Any
    ) -> dict[str, dict[str, float]]:
        """Return scores that fall with the rank, by document id, by query id.

        The rank is what counts: a retriever's own scores may be missing, or not in its order.

        Raises:
            ConfigError: a reranking task, which gives the documents to be ranked.
        """
        if top_ranked is not None:
            raise ConfigError(
                "a retriever can't be asked to rerank given documents: run a retrieval task"
            )
        asked = {row["id"]: row["text"] for row in queries}
        run = self._system.search(asked, top_k)
        found = {}
        for query_id in asked:
            distinct = list(dict.fromkeys(hit.doc_id for hit in run.get(query_id, ())))
            found[query_id] = {doc_id: 1 / rank for rank, doc_id in enumerate(distinct, start=1)}
        return found

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """Name the system, and its fingerprint where it has one."""
        fingerprint = self._system.facts().get("fingerprint")
        overwrites = {"name": f"koe5-integrations/{self._name.replace('/', '__')}"}
        return ModelMeta.create_empty(
            overwrites | ({"revision": str(fingerprint)} if fingerprint else {})
        )


def mteb_task(dataset: RetrievalDataset) -> mteb.AbsTask:
    """Return a data set as a retrieval task that `mteb.evaluate` runs without a network."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    def rows(texts: Mapping[str, str]) -> Dataset:
        return Dataset.from_dict({"id": list(texts), "text": list(texts.values())})

    judged = {query_id: dataset.queries[query_id] for query_id in dataset.qrels}

    class LocalTask(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=dataset.name,
            description=f"{dataset.name}, {len(judged)} queries, {len(dataset.corpus)} documents",
            dataset={"path": dataset.name, "revision": dataset.sha256},
            type="Retrieval",
            category="t2t",
            eval_splits=["test"],
            eval_langs=["kor-Hang"],
            main_score="ndcg_at_10",
        )

        def load_data(self, num_proc: int | None = None, **_: Any) -> None:
            self.dataset = {
                "default": {
                    "test": {
                        "corpus": rows(dataset.corpus),
                        "queries": rows(judged),
                        "relevant_docs": {q: dict(found) for q, found in dataset.qrels.items()},
                        "top_ranked": None,
                    }
                }
            }
            self.data_loaded = True

    return LocalTask()


def _document(row: Mapping[str, Any]) -> str:
    title = row.get("title")
    return f"{title} {row['text']}" if title else str(row["text"])


def _is_blank(text: str) -> bool:
    try:
        check_texts([text])
    except EmptyTextError:
        return True
    return False
