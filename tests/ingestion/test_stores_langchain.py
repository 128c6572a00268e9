"""LangChain stores that can't take our vectors, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_models import KOREAN

pytest.importorskip("langchain_core")

from foreign_stores import passages
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import CollectionError, FingerprintMismatchError, StoreError
from koe5_integrations.ingestion.stores.wrapping import as_store
from koe5_integrations.langchain import KoE5Embeddings

TEXTS = KOREAN[:3]


@pytest.fixture
def encoder(static_model: Path) -> KoE5Encoder:
    return KoE5Encoder(static_model)


def test_other_embeddings_are_refused(encoder: KoE5Encoder) -> None:
    """A store whose questions another class embeds is refused, with the way to make it ours."""
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=16))
    with pytest.raises(CollectionError, match=r"embeds with Deterministic.*KoE5Embeddings"):
        as_store(store, encoder)


def test_another_fingerprint_is_refused(encoder: KoE5Encoder, static_model: Path) -> None:
    """Our embeddings with another setting are refused, naming the setting and both sides."""
    store = InMemoryVectorStore(KoE5Embeddings(model=static_model, query_prompt="질문: "))
    with pytest.raises(FingerprintMismatchError, match="query_prompt: '질문: ' there, 'query: '"):
        as_store(store, encoder)
    assert store.store == {}


def test_a_store_that_does_not_say_what_embeds_is_refused(
    encoder: KoE5Encoder, static_model: Path
) -> None:
    """Without .embeddings nobody can tell what questions are embedded with."""

    class Silent(InMemoryVectorStore):
        embeddings = None

    with pytest.raises(CollectionError, match=r"no \.embeddings"):
        as_store(Silent(KoE5Embeddings(model=static_model)), encoder)


def test_a_store_with_ids_of_its_own_is_refused(encoder: KoE5Encoder, static_model: Path) -> None:
    """What could never be updated or deleted again is an error, not a silent duplicate."""

    class OwnIds(InMemoryVectorStore):
        def add_documents(self, documents: Any, ids: Any = None, **kwargs: Any) -> list[str]:
            return super().add_documents(documents, ids=[f"own-{id_}" for id_ in ids])

    store = as_store(OwnIds(KoE5Embeddings(model=static_model)), encoder)
    with pytest.raises(StoreError, match="takes ids"):
        store.upsert(passages(*TEXTS), encoder.encode_passages(TEXTS))


def test_a_store_that_can_neither_list_nor_look_up(
    encoder: KoE5Encoder, static_model: Path
) -> None:
    """It is loaded and deleted from blindly, counts nothing and says why it can't be emptied."""
    from langchain_core.vectorstores import VectorStore

    kept = InMemoryVectorStore(KoE5Embeddings(model=static_model))

    class Blind(VectorStore):
        embeddings = kept.embeddings
        similarity_search = from_texts = None

        def add_documents(self, documents: Any, **kwargs: Any) -> list[str]:
            return kept.add_documents(documents, **kwargs)

        def delete(self, ids: Any = None, **kwargs: Any) -> bool:
            kept.delete(ids)
            return ids != ["stuck"]

    store = as_store(Blind(), encoder)
    store.upsert(passages(*TEXTS), encoder.encode_passages(TEXTS))
    store.delete(["doc-1", "never-there"])
    assert sorted(kept.store) == ["doc-0", "doc-2"]
    assert store.count() is store.ids() is None
    with pytest.raises(StoreError, match="make a new one"):
        store.reset()
    with pytest.raises(StoreError, match="did not delete 1"):
        store.delete(["stuck"])


def test_qdrant(encoder: KoE5Encoder, static_model: Path) -> None:
    """A database that takes UUIDs alone is loaded, updated and deleted from."""
    pytest.importorskip("langchain_qdrant")
    from langchain_qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient
    from qdrant_client.models import Distance, VectorParams

    client = QdrantClient(":memory:")
    client.create_collection(
        "docs", vectors_config=VectorParams(size=encoder.dim, distance=Distance.COSINE)
    )
    embeddings = KoE5Embeddings(model=static_model)
    theirs = QdrantVectorStore(client=client, collection_name="docs", embedding=embeddings)
    by_itself = embeddings.encoder.computed
    store = as_store(theirs, encoder)
    for _ in range(2):
        store.upsert(passages(*TEXTS), encoder.encode_passages(TEXTS))
    store.delete(["doc-1", "never-there"])
    assert embeddings.encoder.computed == by_itself
    found = theirs.as_retriever().invoke(TEXTS[2])
    assert [document.metadata["document_id"] for document in found] == ["doc-2", "doc-0"]
