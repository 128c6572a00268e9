"""The frameworks' own stores, each with a search through its framework's own retriever."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chromadb
import pytest

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import open_collection
from koe5_integrations.ingestion.documents import Document
from koe5_integrations.ingestion.passages import Passage, passages_of

Found = tuple[str | None, str, dict[str, Any]]


@dataclass
class Made:
    """A framework's store, and what its retriever finds: id, text and metadata."""

    store: Any
    search: Callable[[str], list[Found]]
    computed: Callable[[], int]


def passages(*texts: str, **metadata: str) -> list[Passage]:
    """One passage for each text, of documents named ``doc-0``, ``doc-1`` and so on."""
    return [
        passage
        for i, text in enumerate(texts)
        for passage in passages_of(Document(f"doc-{i}", text, metadata), [text], f"version-{text}")
    ]


def in_langchain(store: Any) -> Made:
    """Search a LangChain store."""
    retriever = store.as_retriever(search_kwargs={"k": 4})

    def search(question: str) -> list[Found]:
        return [(d.id, d.page_content, d.metadata) for d in retriever.invoke(question)]

    return Made(store, search, lambda: store.embeddings.encoder.computed)


def in_llama_index(store: Any, index: Any) -> Made:
    """Search a LlamaIndex index."""

    def search(question: str) -> list[Found]:
        found = index.as_retriever(similarity_top_k=4).retrieve(question)
        return [(each.node.node_id, each.node.get_content(), each.node.metadata) for each in found]

    return Made(store, search, lambda: index._embed_model.encoder.computed)


def langchain_memory(model: Path, folder: Path) -> Made:
    """LangChain's store in memory."""
    from langchain_core.vectorstores import InMemoryVectorStore

    from koe5_integrations.langchain import KoE5Embeddings

    return in_langchain(InMemoryVectorStore(KoE5Embeddings(model=model)))


def langchain_chroma(model: Path, folder: Path) -> Made:
    """LangChain's Chroma on a collection of ours."""
    from langchain_chroma import Chroma

    from koe5_integrations.langchain import KoE5Embeddings

    client = chromadb.PersistentClient(folder)
    open_collection(client, "docs", KoE5Encoder(model))
    return in_langchain(
        Chroma(
            client=client, collection_name="docs", embedding_function=KoE5Embeddings(model=model)
        )
    )


def langchain_faiss(model: Path, folder: Path) -> Made:
    """LangChain's FAISS, which refuses to add what is there and to delete what isn't."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*sunset", DeprecationWarning)
        community = pytest.importorskip("langchain_community.vectorstores")
    import faiss
    from langchain_community.docstore.in_memory import InMemoryDocstore

    from koe5_integrations.langchain import KoE5Embeddings

    embeddings = KoE5Embeddings(model=model)
    index = faiss.IndexFlatIP(embeddings.encoder.dim)
    return in_langchain(community.FAISS(embeddings, index, InMemoryDocstore(), {}))


def llama_simple(model: Path, folder: Path) -> Made:
    """An index on LlamaIndex's store in memory, which keeps the texts beside it."""
    from llama_index.core import VectorStoreIndex

    from koe5_integrations.llama_index import KoE5Embedding

    index = VectorStoreIndex([], embed_model=KoE5Embedding(model_name=model))
    return in_llama_index(index, index)


def llama_old(model: Path, folder: Path) -> Made:
    """The same without ``delete_nodes``, which many stores don't have."""
    from llama_index.core import StorageContext, VectorStoreIndex
    from llama_index.core.vector_stores import SimpleVectorStore
    from llama_index.core.vector_stores.types import BasePydanticVectorStore

    from koe5_integrations.llama_index import KoE5Embedding

    class Old(SimpleVectorStore):
        delete_nodes = BasePydanticVectorStore.delete_nodes

    index = VectorStoreIndex(
        [],
        embed_model=KoE5Embedding(model_name=model),
        storage_context=StorageContext.from_defaults(vector_store=Old()),
    )
    return in_llama_index(index, index)


def llama_chroma(model: Path, folder: Path) -> Made:
    """LlamaIndex's ChromaVectorStore on a collection of ours."""
    from llama_index.core import VectorStoreIndex
    from llama_index.vector_stores.chroma import ChromaVectorStore

    from koe5_integrations.llama_index import KoE5Embedding

    collection = open_collection(chromadb.PersistentClient(folder), "docs", KoE5Encoder(model))
    store = ChromaVectorStore(chroma_collection=collection)
    index = VectorStoreIndex.from_vector_store(store, embed_model=KoE5Embedding(model_name=model))
    return in_llama_index(store, index)


def llama_chroma_index(model: Path, folder: Path) -> Made:
    """An index on it."""
    made = llama_chroma(model, folder)
    from llama_index.core import VectorStoreIndex

    from koe5_integrations.llama_index import KoE5Embedding

    index = VectorStoreIndex.from_vector_store(
        made.store, embed_model=KoE5Embedding(model_name=model)
    )
    return in_llama_index(index, index)


MAKERS = [
    langchain_memory,
    langchain_chroma,
    langchain_faiss,
    llama_simple,
    llama_old,
    llama_chroma,
    llama_chroma_index,
]
