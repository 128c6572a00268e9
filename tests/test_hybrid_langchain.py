"""Korean hybrid search in LangChain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tiny_models import KOREAN

from koe5_integrations.errors import ConfigError
from koe5_integrations.fusion import reciprocal_rank_fusion

pytest.importorskip("bm25s")
pytest.importorskip("langchain_core")

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from koe5_integrations.langchain import KoE5Embeddings
from koe5_integrations.langchain_hybrid import HybridRetriever, KoreanBM25Retriever

DOCUMENTS = [Document(id=f"d{i}", page_content=text) for i, text in enumerate(KOREAN[:5])]
QUESTION = "문자열이 왜 불변"


@pytest.fixture
def store(static_model):
    store = InMemoryVectorStore(KoE5Embeddings(model=str(static_model)))
    store.add_documents(DOCUMENTS)
    return store


class Fixed(BaseRetriever):
    documents: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return self.documents


def ids(documents):
    return [document.id for document in documents]


def test_bm25_finds_the_stem():
    """A word is found under another particle, and what shares nothing is left out."""
    retriever = KoreanBM25Retriever(documents=DOCUMENTS, k=3)
    assert ids(retriever.invoke("문자열을")) == ["d0"]
    assert retriever.invoke("쀍") == []
    assert retriever.batch(["겨울", "빵"])[0][0] is DOCUMENTS[4]


async def test_bm25_asynchronously():
    """The asynchronous side gives the same."""
    retriever = KoreanBM25Retriever(documents=DOCUMENTS)
    assert await retriever.ainvoke("겨울은") == retriever.invoke("겨울은")


def test_fuses_bm25_and_the_vector_store(store):
    """The answer is the fusion of what both would give."""
    hybrid = HybridRetriever.from_documents(DOCUMENTS, store, k=3, fetch_k=5)
    lexical = KoreanBM25Retriever(documents=DOCUMENTS, k=5).invoke(QUESTION)
    dense = store.similarity_search(QUESTION, k=5)
    expected = reciprocal_rank_fusion([ids(lexical), ids(dense)])
    assert ids(hybrid.invoke(QUESTION)) == [doc_id for doc_id, _ in expected[:3]]


async def test_asynchronously_the_same(store):
    """The asynchronous side gives the same, asking both at once."""
    hybrid = HybridRetriever.from_documents(DOCUMENTS, store, k=3)
    assert ids(await hybrid.ainvoke(QUESTION)) == ids(hybrid.invoke(QUESTION))

    together = asyncio.Barrier(2)

    class Waiting(Fixed):
        async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
            await asyncio.wait_for(together.wait(), 5)
            return self.documents

    pair = HybridRetriever(retrievers=[Waiting(documents=DOCUMENTS[:1])] * 2)
    assert ids(await pair.ainvoke(QUESTION)) == ["d0"]


def test_documents_without_ids_meet_by_their_text(static_model):
    """A store that made up ids of its own returns the same documents."""
    nameless = [Document(page_content=text) for text in KOREAN[:5]]
    store = InMemoryVectorStore(KoE5Embeddings(model=str(static_model)))
    store.add_documents(nameless)
    for retrievers in ("lexical first", "dense first"):
        hybrid = HybridRetriever.from_documents(nameless, store, k=10)
        if retrievers == "dense first":
            hybrid = HybridRetriever(retrievers=hybrid.retrievers[::-1], k=10)
        texts = [document.page_content for document in hybrid.invoke(KOREAN[0])]
        assert texts[0] == KOREAN[0]
        assert sorted(texts) == sorted(KOREAN[:5])


def test_documents_of_equal_text_and_different_ids_stay_apart():
    """Where ids tell documents apart, equal texts do not join them."""
    twins = [Document(id=name, page_content="같은 글") for name in ("a", "b")]
    hybrid = HybridRetriever(retrievers=[Fixed(documents=twins), Fixed(documents=twins[::-1])])
    assert ids(hybrid.invoke("?")) == ["a", "b"]


def test_weights_decide():
    """A retriever of weight 0 adds nothing above the others' documents."""
    retrievers = [Fixed(documents=DOCUMENTS[:1]), Fixed(documents=DOCUMENTS[1:2])]
    hybrid = HybridRetriever(retrievers=retrievers, weights=[0, 1], k=2)
    assert ids(hybrid.invoke("?")) == ["d1", "d0"]


def test_any_retriever_can_be_the_dense_one(store):
    """A ready retriever is asked as it is, and chains of Runnables fit too."""
    dense = store.as_retriever(search_kwargs={"k": 1})
    hybrid = HybridRetriever.from_documents(DOCUMENTS, RunnablePassthrough() | dense, k=9)
    assert "d0" in ids(hybrid.invoke(KOREAN[0]))


def test_callbacks_see_each_retriever(store):
    """Tracing shows the retrievers below the hybrid."""
    started = []

    class Trace(BaseCallbackHandler):
        def on_retriever_start(self, serialized: Any, query: str, **kwargs: Any) -> None:
            started.append((kwargs["name"], kwargs["parent_run_id"] is not None))

    HybridRetriever.from_documents(DOCUMENTS, store).invoke("?", {"callbacks": [Trace()]})
    assert started == [
        ("HybridRetriever", False),
        ("KoreanBM25Retriever", True),
        ("VectorStoreRetriever", True),
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: KoreanBM25Retriever(documents=DOCUMENTS, k=0), "k=0"),
        (lambda: KoreanBM25Retriever(documents=DOCUMENTS, tokenizer="trigram"), "trigram"),
        (lambda: KoreanBM25Retriever(documents=DOCUMENTS, top_k=3), "top_k=3"),
        (lambda: KoreanBM25Retriever(documents=DOCUMENTS, k="many"), "k='many'"),
        (lambda: HybridRetriever(retrievers=[Fixed(documents=[])]), "not 1"),
        (lambda: HybridRetriever(retrievers=[Fixed(documents=[])] * 2, weights=[1]), "1 weights"),
        (lambda: HybridRetriever(retrievers=[Fixed(documents=[])] * 2, rrf_k=-1), "k=-1"),
        (
            lambda: HybridRetriever.from_documents(DOCUMENTS, Fixed(documents=[]), k=9, fetch_k=5),
            "fetch_k=5",
        ),
    ],
)
def test_impossible_arguments(make, said):
    """Impossible arguments are refused before a question is asked."""
    with pytest.raises(ConfigError, match=said):
        make()


def test_fits_langchains_own_ensemble(store):
    """BM25 can be put into LangChain's EnsembleRetriever as well."""
    classic = pytest.importorskip("langchain_classic.retrievers")
    lexical = KoreanBM25Retriever(documents=DOCUMENTS)
    ensemble = classic.EnsembleRetriever(retrievers=[lexical, store.as_retriever()])
    assert ids(ensemble.invoke(KOREAN[0]))[0] == "d0"
