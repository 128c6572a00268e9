"""KoE5Embeddings under LangChain's Chroma store, on the collections of open_collection()."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_models import KOREAN

pytest.importorskip("chromadb")
pytest.importorskip("langchain_chroma")
pytest.importorskip("langchain_tests")

import chromadb
from chromadb.api import ClientAPI
from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from koe5_integrations.chroma import KoE5EmbeddingFunction, open_collection
from koe5_integrations.errors import EmptyTextError, InvalidUnicodeError
from koe5_integrations.langchain import KoE5Embeddings

QUERY, TEXTS = KOREAN[0], KOREAN[1:5]
IDS = [f"doc-{i}" for i in range(len(TEXTS))]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> ClientAPI:
    return chromadb.PersistentClient(tmp_path_factory.mktemp("chroma"))


class TestVectorStoreSuite(VectorStoreIntegrationTests):
    """LangChain's own suite for vector stores, with our embeddings and our collection."""

    @staticmethod
    def get_embeddings() -> KoE5Embeddings:
        return KoE5Embeddings(model="koe5-mini")

    @pytest.fixture
    def vectorstore(self, client: ClientAPI) -> Iterator[Chroma]:
        embeddings = self.get_embeddings()
        open_collection(client, "suite", KoE5EmbeddingFunction("koe5-mini"))
        store = Chroma(client=client, collection_name="suite", embedding_function=embeddings)
        try:
            yield store
        finally:
            store.delete_collection()


@pytest.fixture
def embeddings(static_model: Path) -> KoE5Embeddings:
    return KoE5Embeddings(model=static_model)


@pytest.fixture
def store(client: ClientAPI, static_model: Path, embeddings: KoE5Embeddings) -> Iterator[Chroma]:
    """LangChain's store on a collection of open_collection() that holds four Korean texts."""
    function = KoE5EmbeddingFunction(static_model)
    open_collection(client, "docs", function, metadata={"source": "tests"})
    store = Chroma(client=client, collection_name="docs", embedding_function=embeddings)
    store.add_documents(
        [
            Document(text, metadata={"line": i}, id=id_)
            for i, (text, id_) in enumerate(zip(TEXTS, IDS, strict=True))
        ]
    )
    yield store
    store.delete_collection()


def _ranked(embeddings: KoE5Embeddings) -> list[tuple[float, str]]:
    encoder = embeddings.encoder
    cosines = encoder.encode_passages(TEXTS) @ encoder.encode_queries([QUERY])[0]
    return sorted(zip(cosines.tolist(), TEXTS, strict=True), reverse=True)


async def test_scores_are_our_cosine_similarities(
    store: Chroma, embeddings: KoE5Embeddings
) -> None:
    """Distances and relevance scores are the dot products of our vectors, within [-1, 1]."""
    expected = _ranked(embeddings)
    found = store.similarity_search_with_score(QUERY, k=4)
    assert [document.page_content for document, _ in found] == [text for _, text in expected]
    assert [1 - distance for _, distance in found] == pytest.approx(
        [cosine for cosine, _ in expected], abs=1e-5
    )
    to_score = store._select_relevance_score_fn()
    scores = [to_score(distance) for _, distance in found]
    assert scores == pytest.approx([cosine for cosine, _ in expected], abs=1e-5)
    assert all(-1 <= score <= 1 for score in scores)
    again = await store.asimilarity_search_with_score(QUERY, k=4)
    assert again == found


def test_relevance_scores_are_not_squeezed(store: Chroma, embeddings: KoE5Embeddings) -> None:
    """The relevance score of a text asked for in its own words is its cosine, not a rescaling."""
    text = TEXTS[0]
    [(document, score)] = store.similarity_search_with_relevance_scores(
        text, k=1, filter={"line": 0}
    )
    cosine = np.dot(embeddings.embed_query(text), embeddings.embed_documents([text])[0])
    assert document.page_content == text
    assert score == pytest.approx(cosine, abs=1e-5)


def test_the_collection_keeps_its_metadata(
    store: Chroma, client: ClientAPI, static_model: Path, embeddings: KoE5Embeddings
) -> None:
    """LangChain leaves the fingerprint and the user's metadata, so that we open it again."""
    reopened = open_collection(client, "docs", KoE5EmbeddingFunction(static_model))
    assert reopened.count() == 4
    assert reopened.metadata["source"] == "tests"
    assert reopened.metadata["koe5:fingerprint"] == str(embeddings.encoder.fingerprint)
    assert reopened.configuration_json["hnsw"]["space"] == "cosine"


def test_langchain_and_chroma_store_and_find_the_same_vectors(
    store: Chroma, client: ClientAPI, static_model: Path
) -> None:
    """Texts upserted by Chroma itself have the vectors LangChain gave them, and queries agree."""
    collection = open_collection(client, "docs", KoE5EmbeddingFunction(static_model))
    by_langchain = collection.get(IDS, include=["embeddings"])
    collection.upsert(ids=IDS, documents=TEXTS)
    by_chroma = collection.get(IDS, include=["embeddings"])
    assert by_chroma["ids"] == by_langchain["ids"]
    np.testing.assert_allclose(by_chroma["embeddings"], by_langchain["embeddings"], atol=1e-6)
    found = collection.query(query_texts=[QUERY], n_results=4)
    assert found["documents"] == [
        [document.page_content for document in store.similarity_search(QUERY, k=4)]
    ]


async def test_retriever(store: Chroma, embeddings: KoE5Embeddings) -> None:
    """A retriever finds the nearest documents with their metadata, sync and async."""
    retriever = store.as_retriever(search_kwargs={"k": 2})
    expected = [text for _, text in _ranked(embeddings)[:2]]
    found = retriever.invoke(QUERY)
    assert [document.page_content for document in found] == expected
    assert [document.metadata["line"] for document in found] == [
        TEXTS.index(text) for text in expected
    ]
    assert await retriever.ainvoke(QUERY) == found
    assert await retriever.abatch([QUERY, QUERY]) == [found, found]


def test_retriever_with_diversity(store: Chroma, embeddings: KoE5Embeddings) -> None:
    """Maximal marginal relevance works on the vectors Chroma hands back."""
    retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 3, "fetch_k": 4})
    found = [document.page_content for document in retriever.invoke(QUERY)]
    assert found[0] == _ranked(embeddings)[0][1]
    assert len(set(found)) == 3


def test_adding_an_id_again_replaces_its_text_and_vector(
    store: Chroma, embeddings: KoE5Embeddings
) -> None:
    """A document added under an id that is there takes its place."""
    store.add_documents([Document(QUERY, metadata={"line": 9}, id=IDS[0])])
    stored = store.get(ids=[IDS[0]], include=["embeddings", "documents"])
    assert stored["documents"] == [QUERY]
    np.testing.assert_allclose(stored["embeddings"], embeddings.embed_documents([QUERY]), atol=1e-6)
    assert store._collection.count() == 4


@pytest.mark.parametrize(
    ("bad", "error"),
    [("", EmptyTextError), ("\ud800빵", InvalidUnicodeError)],
    ids=["empty", "utf"],
)
def test_a_bad_document_stores_nothing(store: Chroma, bad: str, error: type[Exception]) -> None:
    """One document that can't be embedded is refused by its position, and none is stored."""
    with pytest.raises(error) as caught:
        store.add_texts(["새 문서", bad], ids=["new", "bad"])
    assert caught.value.position == 1
    assert store._collection.count() == 4


def test_a_moved_model_folder_still_serves_its_collection(
    client: ClientAPI, static_model: Path, tmp_path: Path
) -> None:
    """The same weights in another folder open the collection and score in it."""
    before, after = tmp_path / "before", tmp_path / "after"
    shutil.copytree(static_model, before)
    open_collection(client, "moved", KoE5EmbeddingFunction(before)).upsert(ids=IDS, documents=TEXTS)
    before.rename(after)
    open_collection(client, "moved", KoE5EmbeddingFunction(after))
    embeddings = KoE5Embeddings(model=after)
    store = Chroma(client=client, collection_name="moved", embedding_function=embeddings)
    to_score = store._select_relevance_score_fn()
    [(document, distance)] = store.similarity_search_with_score(QUERY, k=1)
    assert (to_score(distance), document.page_content) == pytest.approx(_ranked(embeddings)[0])
