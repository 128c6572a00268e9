"""Finds out what was given as a store, and makes it one."""

from __future__ import annotations

from typing import Any

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, shorten
from koe5_integrations.ingestion.stores import Store
from koe5_integrations.ingestion.stores.foreign import ForeignStore

__all__ = ["as_store"]

_METHODS = ("key", "upsert", "delete", "count", "ids", "reset")


def as_store(
    store: Any, encoder: KoE5Encoder, *, name: str | None = None, uuids: bool | None = None
) -> Store:
    """Return what passages can be loaded into.

    Args:
        store: a :class:`~koe5_integrations.ingestion.stores.Store`, which is returned as it is; a
            LangChain ``VectorStore`` whose embeddings are ``KoE5Embeddings``; a LlamaIndex vector
            store; or a ``VectorStoreIndex`` whose embedding model is ``KoE5Embedding``.
        encoder: whose vectors will come.
        name: of what the store holds, if it still holds it in another process and is no Chroma
            collection: then only what is new is loaded there. It must change when the store was
            emptied. None loads everything once for each Python object.
        uuids: store each passage under a UUID made from its id, as some databases want; None does
            so for Qdrant, Weaviate and Pinecone. Its metadata name the document and the chunk.

    Raises:
        CollectionError: questions to the store are not embedded by our embeddings.
        FingerprintMismatchError: they are embedded by another model or with other settings.
        ConfigError: it is none of these.
    """
    # By the names of its ancestors, so that no framework is imported that is not in use.
    frameworks = {ancestor.__module__.partition(".")[0] for ancestor in type(store).__mro__}
    if "langchain_core" in frameworks:
        from langchain_core.vectorstores import VectorStore

        from koe5_integrations.ingestion.stores.langchain import LangChainCalls

        if isinstance(store, VectorStore):
            return ForeignStore(LangChainCalls(store, encoder), encoder, name=name, uuids=uuids)
    if "llama_index" in frameworks:
        from llama_index.core.indices.vector_store import VectorStoreIndex
        from llama_index.core.vector_stores.types import BasePydanticVectorStore

        from koe5_integrations.ingestion.stores.llama_index import LlamaIndexCalls

        if isinstance(store, BasePydanticVectorStore | VectorStoreIndex):
            return ForeignStore(LlamaIndexCalls(store, encoder), encoder, name=name, uuids=uuids)
    if all(hasattr(store, method) for method in _METHODS):
        if name is not None or uuids is not None:
            raise ConfigError("name= and uuids= are for stores of frameworks, this is one of ours")
        made: Store = store
        return made
    raise ConfigError(
        f"store={shorten(store)} must be a LangChain VectorStore, a LlamaIndex vector store or "
        "VectorStoreIndex, or have the methods of koe5_integrations.ingestion.stores.Store; a "
        "Chroma collection is named by persist_dir= (or url=) and collection="
    )
