"""Tests of koe5_integrations.evaluation.mteb, by mteb's own evaluation of a local task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tiny_models import KOREAN

pytest.importorskip("mteb")

import mteb
from mteb.types import PromptType

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation import MEASURES, EvalResult, evaluate, load_dataset
from koe5_integrations.evaluation.mteb import MtebEncoder, MtebSearch, mteb_task

# Warnings of mteb and of what it imports, which are not ours to answer for.
pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = {"ndcg": "ndcg", "map": "map", "recall": "recall", "precision": "precision"}
NAMES |= {"mrr": "mrr", "success": "hit_rate"}


TREC_NAMES = {"ndcg": "ndcg_cut", "map": "map_cut", "precision": "P"}


def scores_of(model: Any) -> dict[str, float]:
    """Let mteb evaluate a model on the shipped questions.

    The result holds mteb's scores, which it rounds to five decimals, and under ``ndcg@10`` and so
    on the means of its own values by query, which it does not.
    """
    task = mteb_task(load_dataset("python_faq_ko"))
    by_query: dict[str, dict[str, float]] = {}

    def remember(scores: dict[str, dict[str, float]], *_: Any, **__: Any) -> dict[str, float]:
        by_query.update(scores)
        return {}

    task.task_specific_scores = remember
    found = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
    scores: dict[str, float] = dict(found.task_results[0].scores["test"][0])
    for name in MEASURES:
        kind, _, k = name.partition("@")
        values = [each.get(f"{TREC_NAMES.get(kind, kind)}_{k}") for each in by_query.values()]
        if None not in values:
            scores[name] = float(np.mean(values))
    return scores


def assert_same(theirs: dict[str, float], result: EvalResult, spec: str) -> None:
    """Hold mteb's scores against ours on every measure both know."""
    compared = 0
    for name, measured in result.systems[spec].measures.items():
        kind, _, k = name.partition("@")
        if kind in NAMES:
            rounded = theirs[f"{NAMES[kind]}_at_{k}"]
            assert rounded == pytest.approx(measured.value, abs=6e-6), name
        if name in theirs:
            assert theirs[name] == pytest.approx(measured.value, abs=1e-6), name
            compared += 1
    assert compared == 25
    main = result.systems[spec].measures["ndcg@10"].value
    assert theirs["main_score"] == round(theirs["ndcg@10"], 5)
    assert theirs["ndcg@10"] == pytest.approx(main, abs=1e-6)


@pytest.fixture(scope="module")
def ours() -> Iterator[EvalResult]:
    """Our own evaluation of the same systems."""
    return evaluate("python_faq_ko", ["dense:koe5-mini"], latency_queries=0)


def test_an_encoder_scores_in_mteb_as_here(ours: EvalResult) -> None:
    """mteb, with its own search and metrics, finds what the harness finds."""
    assert_same(scores_of(MtebEncoder(KoE5Encoder("koe5-mini"))), ours, "dense:koe5-mini")


def test_a_system_scores_in_mteb_as_here(ours: EvalResult) -> None:
    """A system of the harness, searched through mteb, keeps its scores."""
    assert_same(scores_of(MtebSearch("bm25:bigram")), ours, "bm25:bigram")


def test_a_langchain_retriever_is_searched() -> None:
    """A LangChain retriever whose documents carry the task's ids is asked by mteb."""
    pytest.importorskip("langchain_core")
    from langchain_core.vectorstores import InMemoryVectorStore

    from koe5_integrations.langchain import KoE5Embeddings

    data = load_dataset("python_faq_ko")
    store = InMemoryVectorStore(KoE5Embeddings(model="koe5-mini"))
    store.add_texts(
        list(data.corpus.values()),
        metadatas=[{"doc_id": doc_id} for doc_id in data.corpus],
        ids=list(data.corpus),
    )
    retriever = store.as_retriever(search_kwargs={"k": 100})
    theirs = scores_of(MtebSearch(retriever, name="langchain"))
    result = evaluate(data, retriever, lexical_floor=False, latency_queries=0)
    (spec,) = result.systems
    assert_same(theirs, result, spec)


def test_the_role_is_mtebs(static_model: Any) -> None:
    """Query and document get their prefix; where mteb says neither, the chosen role."""
    encoder = KoE5Encoder(static_model)

    def encode(prompt_type: PromptType | None, **options: Any) -> Any:
        return MtebEncoder(encoder, **options).encode(
            [{"text": KOREAN[:2]}, {"text": KOREAN[2:3]}],
            task_metadata=None,
            hf_split="test",
            hf_subset="default",
            prompt_type=prompt_type,
        )

    queries, passages = encoder.encode_queries(KOREAN[:3]), encoder.encode_passages(KOREAN[:3])
    assert (queries != passages).any()
    assert np.array_equal(encode(PromptType.query), queries)
    assert np.array_equal(encode(PromptType.document), passages)
    assert np.array_equal(encode(None), queries)
    assert np.array_equal(encode(None, symmetric_role="passage"), passages)


def test_similarities_are_cosines(static_model: Any) -> None:
    """The matrix and the pairs agree with numpy."""
    adapter = MtebEncoder(KoE5Encoder(static_model))
    a, b = np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32)
    expected = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    assert np.allclose(adapter.similarity(a, b), expected, atol=1e-6)
    assert np.allclose(adapter.similarity_pairwise(a, b), np.diag(expected), atol=1e-6)


def test_a_blank_text_is_similar_to_nothing(static_model: Any) -> None:
    """A set with an empty document can be run: the document gets a zero vector."""
    vectors = MtebEncoder(KoE5Encoder(static_model)).encode(
        [{"text": ["", KOREAN[0], " \u3164"]}], task_metadata=None, hf_split="", hf_subset=""
    )
    assert vectors.any(axis=1).tolist() == [False, True, False]


def test_the_model_is_named_with_its_fingerprint(static_model: Any) -> None:
    """Results are filed under the model and a revision that changes with any setting."""
    encoder = KoE5Encoder(static_model)
    meta = MtebEncoder(encoder).mteb_model_meta
    assert meta.name == "koe5-integrations/tiny-static"
    assert meta.revision == encoder.fingerprint.digest
    assert (meta.embed_dim, meta.use_instructions) == (16, True)
    assert MtebSearch("bm25:bigram").mteb_model_meta.name == "koe5-integrations/bm25:bigram"


def test_a_wrong_role_is_an_error(static_model: Any) -> None:
    """The role of symmetric tasks is one of two."""
    with pytest.raises(ConfigError, match="symmetric_role='document'"):
        MtebEncoder(KoE5Encoder(static_model), symmetric_role="document")  # type: ignore[arg-type]  # the test


def test_reranking_is_refused() -> None:
    """A task that gives the documents to rank is told that a retriever can't."""
    with pytest.raises(ConfigError, match="rerank"):
        MtebSearch("bm25:bigram").search([], top_k=10, top_ranked={"q": ["d"]})
