"""LangChain's vector stores, which embed by themselves what they are given: with our vectors."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import CollectionError, FingerprintMismatchError, StoreError
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.langchain import KoE5Embeddings
from koe5_integrations.types import Vectors

__all__ = ["LangChainCalls"]

_NEEDED = (
    "Questions must be embedded as the passages are: make the store with "
    "koe5_integrations.langchain.KoE5Embeddings, with the same model and options"
)


class LangChainCalls:
    """Calls of a LangChain vector store.

    Args:
        store: with our embeddings.
        encoder: whose vectors will come.

    Raises:
        CollectionError: the store embeds with something else, or doesn't say with what.
        FingerprintMismatchError: it embeds with another model or other settings.
    """

    def __init__(self, store: VectorStore, encoder: KoE5Encoder) -> None:
        self._store = store
        kind, embeddings = type(store).__name__, store.embeddings
        if embeddings is None:
            raise CollectionError(
                f"{kind} does not say what it embeds with (it has no .embeddings). {_NEEDED}, or "
                "choose a store that says so"
            )
        if not isinstance(embeddings, KoE5Embeddings):
            raise CollectionError(f"{kind} embeds with {type(embeddings).__name__}. {_NEEDED}")
        self._encoder = embeddings.encoder
        theirs, ours = self._encoder.fingerprint, encoder.fingerprint
        if theirs.digest != ours.digest:
            raise FingerprintMismatchError(
                f"{kind} embeds with {theirs.model!r}, the passages are embedded with "
                f"{ours.model!r}. {'; '.join(ours.differences(vars(theirs)))}. {_NEEDED}"
            )

    @property
    def store(self) -> VectorStore:
        """The store."""
        return self._store

    def add(self, passages: Sequence[Passage], vectors: Vectors) -> None:
        """Store passages of which no id is there."""
        ids = [passage.id for passage in passages]
        documents = [
            Document(id=passage.id, page_content=passage.text, metadata=passage.stored_metadata)
            for passage in passages
        ]
        with self._encoder.supplying([passage.text for passage in passages], vectors):
            stored = self._store.add_documents(documents, ids=ids)
        if list(stored) != ids:
            raise StoreError(
                f"{type(self._store).__name__} stored under ids of its own, so that no passage can "
                "be found again to be replaced or deleted: choose a store that takes ids"
            )

    def remove(self, ids: Sequence[str]) -> None:
        """Remove passages, of which any may be missing."""
        try:
            present = [document.id for document in self._store.get_by_ids(ids)]
        except NotImplementedError:
            present = list(ids)
        # Some stores refuse ids that they don't know.
        there = list(ids) if None in present else [id_ for id_ in present if id_ is not None]
        if there and self._store.delete(there) is False:
            raise StoreError(f"{type(self._store).__name__} did not delete {len(there)} passages")

    def listed(self) -> Collection[str] | None:
        """Return the ids of all that is stored, where they are in memory."""
        if isinstance(self._store, InMemoryVectorStore):
            return list(self._store.store)
        of_faiss = getattr(self._store, "index_to_docstore_id", None)
        return list(of_faiss.values()) if isinstance(of_faiss, dict) else None

    def clear(self) -> bool:
        """LangChain has no call for that."""
        return False
