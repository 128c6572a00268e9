"""Migrated collections in use: by LangChain, by LlamaIndex, and on a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chroma_samples import free_port, start_server

pytest.importorskip("chromadb")
pytest.importorskip("filelock")
pytest.importorskip("pyarrow")

import chromadb
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection
from migrated import IDS, TEXTS, N, content

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import open_collection
from koe5_integrations.errors import ConfigError
from koe5_integrations.ingestion.diagnosis import diagnose
from koe5_integrations.ingestion.migration import migrate
from koe5_integrations.ingestion.shards import ShardFolder


def test_a_langchain_store_goes_on_with_the_new_collection(
    folder: Path, encoder: KoE5Encoder
) -> None:
    """What LangChain stored is found through LangChain afterwards, with cosine scores."""
    langchain_chroma = pytest.importorskip("langchain_chroma")
    from koe5_integrations.langchain import KoE5Embeddings

    with chromadb.PersistentClient(folder) as client:
        plain = KoE5Embeddings(model=encoder.model, passage_prompt="", query_prompt="")
        store = langchain_chroma.Chroma("notes", plain, client=client)
        store.add_texts(TEXTS, metadatas=[{"쪽": i} for i in range(N)], ids=IDS)
    migrate("notes", encoder=encoder, persist_dir=folder)
    with chromadb.PersistentClient(folder) as client:
        right = KoE5Embeddings(model=encoder.model)
        store = langchain_chroma.Chroma("notes", right, client=client)
        (found, distance), *_ = store.similarity_search_with_score(TEXTS[7], k=3)
        scores = encoder.encode_passages(TEXTS) @ encoder.encode_queries([TEXTS[7]])[0]
        assert distance == pytest.approx(1 - scores.max(), abs=1e-4)
        assert found.metadata == {"쪽": IDS.index(found.id)}


def test_llama_index_nodes_stay_nodes(folder: Path, encoder: KoE5Encoder) -> None:
    """A node's relations survive, so that its document can still be deleted by its id."""
    pytest.importorskip("llama_index.vector_stores.chroma")
    from llama_index.core import Document, StorageContext, VectorStoreIndex
    from llama_index.vector_stores.chroma import ChromaVectorStore

    from koe5_integrations.llama_index import KoE5Embedding

    plain = KoE5Embedding(model_name=encoder.model, passage_prompt="", query_prompt="")
    with chromadb.PersistentClient(folder) as client:
        made = client.create_collection("notes", embedding_function=None)
        VectorStoreIndex.from_documents(
            [Document(text=text, id_=f"d{i}") for i, text in enumerate(TEXTS[:10])],
            storage_context=StorageContext.from_defaults(
                vector_store=ChromaVectorStore(chroma_collection=made)
            ),
            embed_model=plain,
        )
    old = content(folder, "notes")
    migrate("notes", encoder=encoder, persist_dir=folder)
    assert content(folder, "notes") == old
    with chromadb.PersistentClient(folder) as client:
        new = ChromaVectorStore(chroma_collection=open_collection(client, "notes", encoder))
        new.delete("d3")
    assert len(content(folder, "notes")) == 9


# A server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ClientAPI]:
    port = free_port()
    process = start_server(tmp_path / "served", port)
    with chromadb.HttpClient(host="127.0.0.1", port=port) as client:
        yield client
    process.kill()
    process.wait()


def test_a_served_collection_is_migrated(
    server: ClientAPI, tmp_path: Path, encoder: KoE5Encoder
) -> None:
    """On a server the same happens; the shards are where they were asked for."""
    plain: Collection = server.create_collection("notes", embedding_function=None)
    vectors = KoE5Encoder(encoder.model, passage_prompt="").encode_passages(TEXTS)
    plain.add(ids=IDS, documents=TEXTS, embeddings=vectors)
    url = f"http://127.0.0.1:{server.get_settings().chroma_server_http_port}"
    with pytest.raises(ConfigError, match="shards= is needed"):
        migrate("notes", encoder=encoder, url=url)
    result = migrate("notes", encoder=encoder, url=url, shards=tmp_path / "shards")
    there = {collection.name: collection.count() for collection in server.list_collections()}
    assert there == {"notes": N, result.before: N}
    new = open_collection(server, "notes", encoder)
    assert diagnose(new, encoder).made == {"right": N}
    with ShardFolder.existing(tmp_path / "shards") as shards:
        assert shards.count() == (N, N)
