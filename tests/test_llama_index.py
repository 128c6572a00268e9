"""KoE5Embedding inside LlamaIndex: its vectors of questions, texts and nodes, and in indexes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_samples import QUERY, TEXTS, text_nodes

pytest.importorskip("llama_index.core")

from llama_index.core import Settings, StorageContext, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from llama_index.core.schema import MetadataMode, TextNode

from koe5_integrations.errors import EmptyTextError, InvalidUnicodeError, TextTypeError
from koe5_integrations.llama_index import KoE5Embedding


@pytest.fixture
def embedding(static_model: Path) -> KoE5Embedding:
    return KoE5Embedding(model_name=static_model)


def _ranked_ids(embedding: KoE5Embedding) -> list[str]:
    encoder = embedding.encoder
    cosines = encoder.encode_passages(TEXTS) @ encoder.encode_queries([QUERY])[0]
    return [f"node-{i}" for i in np.argsort(-cosines)]


# Embedding


def test_questions_and_texts_get_their_own_prompt(embedding: KoE5Embedding) -> None:
    """The same text is another vector as a question than as a text, and both are Python floats."""
    query, text = embedding.get_query_embedding(QUERY), embedding.get_text_embedding(QUERY)
    assert query != text
    assert query == embedding.encoder.encode_queries([QUERY])[0].tolist()
    assert text == embedding.encoder.encode_passages([QUERY])[0].tolist()
    assert {type(number) for number in [*query, *text]} == {float}
    assert embedding.similarity(text, text) == pytest.approx(1)


@pytest.mark.parametrize("embed_batch_size", [1, 3, 2048])
@pytest.mark.parametrize("num_workers", [None, 2])
async def test_async_batches_equal_sync_batches(
    static_model: Path, embed_batch_size: int, num_workers: int | None
) -> None:
    """However texts are batched, sync or async, each gets the vector it has alone, in order."""
    embedding = KoE5Embedding(
        model_name=static_model, embed_batch_size=embed_batch_size, num_workers=num_workers
    )
    texts = [f"{i}번째 문서" for i in range(10)]
    alone = [embedding.get_text_embedding(text) for text in texts]
    np.testing.assert_allclose(embedding.get_text_embedding_batch(texts), alone, atol=1e-6)
    np.testing.assert_allclose(await embedding.aget_text_embedding_batch(texts), alone, atol=1e-6)
    concurrent = await asyncio.gather(*map(embedding.aget_text_embedding, texts))
    np.testing.assert_allclose(concurrent, alone, atol=1e-6)
    questions = await asyncio.gather(*map(embedding.aget_query_embedding, texts))
    np.testing.assert_allclose(
        questions, [embedding.get_query_embedding(text) for text in texts], atol=1e-6
    )


async def test_no_texts_are_no_vectors(embedding: KoE5Embedding) -> None:
    """An empty batch gives an empty list."""
    assert embedding.get_text_embedding_batch([]) == []
    assert await embedding.aget_text_embedding_batch([]) == []
    assert embedding([]) == []


@pytest.mark.parametrize(
    ("bad", "error"),
    [("", EmptyTextError), ("\ud800빵", InvalidUnicodeError), (None, TextTypeError)],
    ids=["empty", "surrogate", "None"],
)
async def test_a_bad_text_is_our_error(
    embedding: KoE5Embedding, bad: Any, error: type[Exception]
) -> None:
    """A text that can't be embedded raises our error with its position in the batch."""
    with pytest.raises(error) as caught:
        embedding.get_text_embedding_batch(["파이썬", bad])
    assert caught.value.position == 1
    with pytest.raises(error) as caught:
        await embedding.aget_text_embedding_batch(["파이썬", bad])
    assert caught.value.position == 1
    for method in (embedding.get_query_embedding, embedding.get_text_embedding):
        with pytest.raises(error):
            method(bad)


async def test_async_does_not_block_the_event_loop(embedding: KoE5Embedding) -> None:
    """Other tasks go on while a batch is embedded."""
    task = asyncio.create_task(embedding.aget_text_embedding_batch(TEXTS * 1000))
    turns = 0
    while not task.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert len(await task) == 4000
    assert turns > 3


def test_rate_limiter_is_asked_once_a_batch(static_model: Path) -> None:
    """A rate limiter given by the user is asked before each batch."""
    limiter = TokenBucketRateLimiter(requests_per_minute=600)
    embedding = KoE5Embedding(model_name=static_model, rate_limiter=limiter, embed_batch_size=2)
    before = limiter._request_tokens
    embedding.get_text_embedding_batch(TEXTS)
    assert before - limiter._request_tokens == pytest.approx(2, abs=0.9)


def test_callback_manager_can_be_assigned(embedding: KoE5Embedding) -> None:
    """A callback manager assigned later hears of every embedding, without the model's options."""
    handler = LlamaDebugHandler(print_trace_on_end=False)
    embedding.callback_manager = CallbackManager([handler])
    embedding.get_text_embedding_batch(TEXTS)
    [(start, end)] = handler.get_event_pairs(CBEventType.EMBEDDING)
    assert start.payload["serialized"]["class_name"] == "KoE5Embedding"
    assert end.payload["chunks"] == TEXTS


# Nodes and indexes


async def test_async_ingestion_embeds_the_same(embedding: KoE5Embedding) -> None:
    """The async pipeline gives the vectors of the sync one."""
    pipeline = IngestionPipeline(transformations=[embedding], disable_cache=True)
    nodes = await pipeline.arun(nodes=text_nodes())
    np.testing.assert_allclose(
        [node.embedding for node in nodes], embedding.get_text_embedding_batch(TEXTS), atol=1e-6
    )


def test_metadata_meant_for_embedding_is_embedded(embedding: KoE5Embedding) -> None:
    """A node is embedded as LlamaIndex shows it to embeddings: some metadata, then the text."""
    node = TextNode(
        text=TEXTS[0],
        metadata={"title": "빵 이야기", "path": "/srv/빵.txt"},
        excluded_embed_metadata_keys=["path"],
    )
    [embedded] = embedding([node])
    shown = node.get_content(metadata_mode=MetadataMode.EMBED)
    assert shown == f"title: 빵 이야기\n\n{TEXTS[0]}"
    assert embedded.embedding == embedding.get_text_embedding(shown)
    assert embedded.embedding != embedding.get_text_embedding(TEXTS[0])


async def test_index_in_memory_ranks_by_our_cosines(embedding: KoE5Embedding) -> None:
    """The default index finds nodes in the order of our dot products, sync and async."""
    index = VectorStoreIndex(text_nodes(), embed_model=embedding)
    retriever = index.as_retriever(similarity_top_k=4)
    found = retriever.retrieve(QUERY)
    assert [node.node_id for node in found] == _ranked_ids(embedding)
    encoder = embedding.encoder
    cosines = encoder.encode_passages(TEXTS) @ encoder.encode_queries([QUERY])[0]
    assert [node.score for node in found] == pytest.approx(sorted(cosines, reverse=True), abs=1e-5)
    again = await retriever.aretrieve(QUERY)
    assert [node.node_id for node in again] == [node.node_id for node in found]


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_index_on_a_chroma_collection_of_ours(
    embedding: KoE5Embedding, static_model: Path, tmp_path: Path, use_async: bool
) -> None:
    """An index over open_collection() is found again by another client, and by Chroma itself."""
    chromadb = pytest.importorskip("chromadb")
    stores = pytest.importorskip("llama_index.vector_stores.chroma")
    from koe5_integrations.chroma import KoE5EmbeddingFunction, open_collection

    function = KoE5EmbeddingFunction(static_model)
    collection = open_collection(chromadb.PersistentClient(tmp_path), "nodes", function)
    store = stores.ChromaVectorStore(chroma_collection=collection)
    VectorStoreIndex(
        text_nodes(),
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=embedding,
        use_async=use_async,
    )
    reopened = open_collection(chromadb.PersistentClient(tmp_path), "nodes", function)
    store = stores.ChromaVectorStore(chroma_collection=reopened)
    index = VectorStoreIndex.from_vector_store(store, embed_model=embedding)
    found = index.as_retriever(similarity_top_k=4).retrieve(QUERY)
    assert [node.node_id for node in found] == _ranked_ids(embedding)
    by_chroma = reopened.query(query_texts=[QUERY], n_results=4)
    assert by_chroma["ids"] == [_ranked_ids(embedding)]
    stored = reopened.get(["node-2"], include=["embeddings"])["embeddings"]
    np.testing.assert_allclose(stored, [embedding.get_text_embedding(TEXTS[2])], atol=1e-6)


@pytest.fixture
def restored_settings() -> Iterator[None]:
    before = Settings._embed_model
    yield
    Settings._embed_model = before


@pytest.mark.usefixtures("restored_settings")
def test_settings_embed_model(embedding: KoE5Embedding) -> None:
    """An adapter set in LlamaIndex's global settings is the one indexes use."""
    Settings.embed_model = embedding
    assert Settings.embed_model is embedding
    found = VectorStoreIndex(text_nodes()).as_retriever(similarity_top_k=4).retrieve(QUERY)
    assert [node.node_id for node in found] == _ranked_ids(embedding)
