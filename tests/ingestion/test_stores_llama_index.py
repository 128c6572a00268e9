"""What is special to LlamaIndex's stores: nodes, documents, and indices that embed questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_models import KOREAN

pytest.importorskip("llama_index.core")

from foreign_stores import Made, llama_old, llama_simple, passages
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.schema import MetadataMode
from llama_index.core.vector_stores import SimpleVectorStore

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import CollectionError, FingerprintMismatchError
from koe5_integrations.ingestion.documents import Document
from koe5_integrations.ingestion.passages import passages_of
from koe5_integrations.ingestion.stores.wrapping import as_store
from koe5_integrations.llama_index import KoE5Embedding

TEXTS = KOREAN[:3]
LONG = passages_of(Document("긴 문서", " ".join(TEXTS), {"author": "김철수"}), TEXTS, "v1")


@pytest.fixture
def encoder(static_model: Path) -> KoE5Encoder:
    return KoE5Encoder(static_model)


def test_an_index_with_another_model_is_refused(encoder: KoE5Encoder, static_model: Path) -> None:
    """Questions must be embedded by ours, with the same settings."""
    with pytest.raises(CollectionError, match=r"embeds with MockEmbedding.*KoE5Embedding"):
        as_store(VectorStoreIndex([], embed_model=MockEmbedding(16)), encoder)
    other = VectorStoreIndex(
        [], embed_model=KoE5Embedding(model_name=static_model, query_prompt="질문: ")
    )
    with pytest.raises(FingerprintMismatchError, match="query_prompt: '질문: ' there"):
        as_store(other, encoder)


def test_a_document_can_be_deleted_by_the_framework(
    encoder: KoE5Encoder, static_model: Path, tmp_path: Path
) -> None:
    """LlamaIndex's own delete_ref_doc removes all passages of a document."""
    made = llama_simple(static_model, tmp_path)
    store = as_store(made.store, encoder)
    store.upsert([*LONG, *passages(KOREAN[4])], encoder.encode_passages([*TEXTS, KOREAN[4]]))
    made.store.delete_ref_doc("긴 문서", delete_from_docstore=True)
    assert [id_ for id_, _, _ in made.search(TEXTS[0])] == ["doc-0"]


def test_without_delete_nodes_single_passages_are_deleted(
    encoder: KoE5Encoder, static_model: Path, tmp_path: Path
) -> None:
    """Of a store that deletes by document only, one passage of several can be deleted."""
    made: Made = llama_old(static_model, tmp_path)
    store = as_store(made.store, encoder)
    store.upsert(LONG, encoder.encode_passages(TEXTS))
    store.delete(["긴 문서#1"])
    assert sorted(id_ or "" for id_, _, _ in made.search(TEXTS[1])) == ["긴 문서#0", "긴 문서#2"]
    [metadata, _] = [metadata for _, _, metadata in made.search(TEXTS[1])]
    assert metadata["document_id"] == "긴 문서"


def test_nodes_embed_as_they_were_embedded(
    encoder: KoE5Encoder, static_model: Path, tmp_path: Path
) -> None:
    """A node's text for embedding is its text alone; a language model sees the user's metadata."""
    made = llama_simple(static_model, tmp_path)
    as_store(made.store, encoder).upsert(LONG, encoder.encode_passages(TEXTS))
    node = made.store.docstore.get_node("긴 문서#0")
    assert node.get_content(MetadataMode.EMBED) == TEXTS[0]
    assert node.get_content(MetadataMode.LLM) == f"author: 김철수\n\n{TEXTS[0]}"


def test_a_bare_store_is_loaded_and_emptied(encoder: KoE5Encoder, static_model: Path) -> None:
    """A store without an index is given the vectors as they are."""
    bare = SimpleVectorStore()
    store = as_store(bare, encoder)
    vectors = encoder.encode_passages(TEXTS)
    store.upsert(LONG, vectors)
    assert bare.get("긴 문서#2") == vectors[2].tolist()
    store.delete(["긴 문서#0"])
    assert store.count() == 2
    store.reset()
    assert store.count() == 0


def test_a_store_that_can_not_list_is_cleared_by_its_own_call(
    encoder: KoE5Encoder, static_model: Path
) -> None:
    """Where there is a clear(), a reset uses it."""
    from llama_index.core.vector_stores.types import BasePydanticVectorStore

    kept = SimpleVectorStore()

    class Unlisted(BasePydanticVectorStore):
        stores_text: bool = True

        @property
        def client(self) -> None:
            return None

        def add(self, nodes: Any, **kwargs: Any) -> list[str]:
            return kept.add(nodes)

        def delete(self, ref_doc_id: str, **kwargs: Any) -> None:
            kept.delete(ref_doc_id)

        def query(self, query: Any, **kwargs: Any) -> Any:
            return kept.query(query)

        def clear(self) -> None:
            kept.clear()

    store = as_store(Unlisted(), encoder)
    store.upsert(LONG, encoder.encode_passages(TEXTS))
    assert len(kept.data.embedding_dict) == 3
    store.reset()
    assert kept.data.embedding_dict == {}


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")
def test_qdrant(encoder: KoE5Encoder) -> None:
    """A database that takes UUIDs alone is loaded, updated and deleted from."""
    pytest.importorskip("llama_index.vector_stores.qdrant")
    from llama_index.core.vector_stores.types import VectorStoreQuery
    from llama_index.vector_stores.qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient

    theirs = QdrantVectorStore("docs", client=QdrantClient(":memory:"))
    store = as_store(theirs, encoder)
    vectors = encoder.encode_passages(TEXTS)
    store.delete(["never-there"])
    for _ in range(2):
        store.upsert(LONG, vectors)
    store.delete(["긴 문서#1"])
    found = theirs.query(VectorStoreQuery(vectors[2].tolist(), similarity_top_k=4)).nodes
    assert [(node.metadata["chunk"], node.text) for node in found] == [(2, TEXTS[2]), (0, TEXTS[0])]
