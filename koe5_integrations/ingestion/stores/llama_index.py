"""LlamaIndex's vector stores and indices: nodes that bring their vectors."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from llama_index.core.indices.vector_store import VectorStoreIndex
from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import CollectionError, FingerprintMismatchError
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.llama_index import KoE5Embedding
from koe5_integrations.types import Vectors

__all__ = ["LlamaIndexCalls"]

# Of no use to a language model that reads the passage.
_OURS = ["document_id", "chunk", "chunks"]


class LlamaIndexCalls:
    """Calls of a LlamaIndex vector store, or of an index on one.

    An index is needed where the store keeps no texts (``SimpleVectorStore``): it keeps them beside.

    Args:
        store: or an index with our embedding model.
        encoder: whose vectors will come.

    Raises:
        CollectionError: the index embeds questions with something else.
        FingerprintMismatchError: it embeds with another model or other settings.
    """

    def __init__(self, store: BasePydanticVectorStore | VectorStoreIndex, encoder: KoE5Encoder):
        self._index = store if isinstance(store, VectorStoreIndex) else None
        self._store = store.vector_store if isinstance(store, VectorStoreIndex) else store
        # Without it a store can only delete all nodes of a document, so that each passage has to
        # be one for it.
        self._deletes_nodes = (
            type(self._store).delete_nodes is not BasePydanticVectorStore.delete_nodes
        )
        if self._index is not None:
            _check_embeddings(self._index, encoder)

    @property
    def store(self) -> BasePydanticVectorStore:
        """The store."""
        return self._store

    def add(self, passages: Sequence[Passage], vectors: Vectors) -> None:
        """Store passages of which no id is there."""
        nodes = [
            self._node(passage, vector)
            for passage, vector in zip(passages, vectors.tolist(), strict=True)
        ]
        if self._index is None:
            self._store.add(nodes)
        else:
            self._index.insert_nodes(nodes)

    def _node(self, passage: Passage, vector: list[float]) -> BaseNode:
        metadata = passage.stored_metadata
        document = passage.document_id if self._deletes_nodes else passage.id
        return TextNode(
            id_=passage.id,
            text=passage.text,
            embedding=vector,
            metadata=metadata,
            # The text alone was embedded.
            excluded_embed_metadata_keys=list(metadata),
            excluded_llm_metadata_keys=_OURS,
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)},
        )

    def remove(self, ids: Sequence[str]) -> None:
        """Remove passages, of which any may be missing."""
        # Qdrant's fails before its first add() has made the collection.
        if getattr(self._store, "_collection_initialized", True) is False:
            return
        if self._index is None:
            if self._deletes_nodes:
                self._store.delete_nodes(list(ids))
            else:
                for id_ in ids:
                    self._store.delete(id_)
        elif self._deletes_nodes:
            # An index that keeps the texts itself refuses ids that it doesn't know.
            beside = not self._store.stores_text
            known = self._index.index_struct.nodes_dict
            there = [id_ for id_ in ids if id_ in known] if beside else list(ids)
            if there:
                self._index.delete_nodes(there, delete_from_docstore=beside)
        else:
            for id_ in ids:
                self._index.delete_ref_doc(id_, delete_from_docstore=True)

    def listed(self) -> Collection[str] | None:
        """Return the ids of all that is stored, where they are in memory."""
        if isinstance(self._store, SimpleVectorStore):
            return list(self._store.data.embedding_dict)
        return None

    def clear(self) -> bool:
        """Empty the store, if it has a call for that; an index may keep texts of its own."""
        if self._index is not None and not self._store.stores_text:
            return False
        try:
            self._store.clear()
        except NotImplementedError:
            return False
        return True


def _check_embeddings(index: VectorStoreIndex, encoder: KoE5Encoder) -> None:
    model = index._embed_model
    needed = (
        "Questions must be embedded as the passages are: make the index with "
        "embed_model=koe5_integrations.llama_index.KoE5Embedding(...), with the same model and "
        "options"
    )
    if not isinstance(model, KoE5Embedding):
        raise CollectionError(f"the index embeds with {type(model).__name__}. {needed}")
    theirs, ours = model.encoder.fingerprint, encoder.fingerprint
    if theirs.digest != ours.digest:
        raise FingerprintMismatchError(
            f"the index embeds with {theirs.model!r}, the passages are embedded with "
            f"{ours.model!r}. {'; '.join(ours.differences(vars(theirs)))}. {needed}"
        )
