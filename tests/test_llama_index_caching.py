"""LlamaIndex's caches over KoE5Embedding: no vector of another role, model or setting."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_samples import QUERY, TEXTS, text_nodes

pytest.importorskip("llama_index.core")

from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.storage.kvstore import SimpleKVStore

from koe5_integrations.errors import PrefixedTextWarning
from koe5_integrations.llama_index import KoE5Embedding, RoleKeyedCache

# The embeddings cache


def _read(embedding: KoE5Embedding) -> dict[str, Callable[[str], list[float]]]:
    """Every way a vector is asked for."""
    return {
        "query": embedding.get_query_embedding,
        "text": embedding.get_text_embedding,
        "batch": lambda text: embedding.get_text_embedding_batch([text, text])[1],
        "aquery": lambda text: asyncio.run(embedding.aget_query_embedding(text)),
        "atext": lambda text: asyncio.run(embedding.aget_text_embedding(text)),
        "abatch": lambda text: asyncio.run(embedding.aget_text_embedding_batch([text]))[0],
        "aggregate": lambda text: embedding.get_agg_embedding_from_queries([text]),
    }


@pytest.mark.parametrize("assigned", [False, True], ids=["given", "assigned"])
@pytest.mark.parametrize("first", list(_read(KoE5Embedding())))
def test_a_cache_never_mixes_roles(static_model: Path, first: str, assigned: bool) -> None:
    """Whichever way a text is first embedded, questions and texts keep their own vectors."""
    plain = KoE5Embedding(model_name=static_model)
    query, text = plain.get_query_embedding(QUERY), plain.get_text_embedding(QUERY)
    store = SimpleKVStore()
    if assigned:
        cached = KoE5Embedding(model_name=static_model)
        cached.embeddings_cache = store
    else:
        cached = KoE5Embedding(model_name=static_model, embeddings_cache=store)
    ways = _read(cached)
    ways[first](QUERY)
    assert len(store.get_all("embeddings")) == 1
    for name, read in ways.items():
        expected = query if "query" in name or name == "aggregate" else text
        assert read(QUERY) == pytest.approx(expected, abs=1e-6), name
    assert len(store.get_all("embeddings")) == 2


def test_a_cache_never_mixes_models_or_settings(
    static_model: Path, other_static_model: Path
) -> None:
    """Adapters that share one store each get their own model's and settings' vectors."""
    store = SimpleKVStore()
    options: list[dict[str, Any]] = [
        {"model_name": static_model},
        {"model_name": other_static_model},
        {"model_name": static_model, "query_prompt": "질문: ", "passage_prompt": "문서: "},
        {"model_name": static_model, "max_seq_length": 3, "on_truncation": "ignore"},
        {"model_name": static_model, "profile": "jhgan/ko-sbert-sts"},
    ]
    for given in options:
        shared, plain = KoE5Embedding(**given, embeddings_cache=store), KoE5Embedding(**given)
        for _ in range(2):
            assert shared.get_query_embedding(QUERY) == plain.get_query_embedding(QUERY)
            assert shared.get_text_embedding(QUERY) == plain.get_text_embedding(QUERY)
    distinct = len({str(KoE5Embedding(**given).encoder.fingerprint) for given in options})
    assert distinct == len(options)


def test_a_cache_keeps_texts_apart_that_on_prefixed_reads_differently(static_model: Path) -> None:
    """A prefixed text is not shared by an adapter that keeps prefixes and one that adds them."""
    store = SimpleKVStore()
    adding = KoE5Embedding(model_name=static_model, embeddings_cache=store)
    keeping = KoE5Embedding(model_name=static_model, embeddings_cache=store, on_prefixed="keep")
    with pytest.warns(PrefixedTextWarning):
        added = adding.get_query_embedding("query: " + QUERY)
    assert keeping.get_query_embedding("query: " + QUERY) == adding.get_query_embedding(QUERY)
    assert keeping.get_query_embedding("query: " + QUERY) != added


def test_a_cache_follows_a_model_set_later(static_model: Path, other_static_model: Path) -> None:
    """After the model of an adapter is changed, its cache no longer finds the old vectors."""
    embedding = KoE5Embedding(model_name=static_model, embeddings_cache=SimpleKVStore())
    embedding.get_text_embedding(QUERY)
    embedding.model_name = str(other_static_model)
    other = KoE5Embedding(model_name=other_static_model)
    assert embedding.get_text_embedding(QUERY) == other.get_text_embedding(QUERY)
    second = KoE5Embedding(model_name=static_model, embeddings_cache=embedding.embeddings_cache)
    assert second.get_text_embedding(QUERY) != other.get_text_embedding(QUERY)


def test_a_cached_vector_is_returned(static_model: Path) -> None:
    """What the store holds is returned without embedding again."""
    store = SimpleKVStore()
    embedding = KoE5Embedding(model_name=static_model, embeddings_cache=store)
    embedding.get_text_embedding(QUERY)
    [key] = store.get_all("embeddings")
    assert key.startswith(f"{embedding.encoder.fingerprint}:passage:")
    store.put(key, {"marked": [1.0, 2.0]}, "embeddings")
    assert embedding.get_text_embedding(QUERY) == [1.0, 2.0]
    assert embedding.get_text_embedding_batch([QUERY]) == [[1.0, 2.0]]
    assert isinstance(embedding.embeddings_cache, RoleKeyedCache)
    assert embedding.embeddings_cache.store is store
    assert embedding.embeddings_cache.delete(QUERY, "embeddings")
    assert store.get_all("embeddings") == {}


async def test_concurrent_questions_and_texts_keep_their_roles(static_model: Path) -> None:
    """Questions and texts embedded at the same time through one cache keep their vectors."""
    plain = KoE5Embedding(model_name=static_model)
    cached = KoE5Embedding(model_name=static_model, embeddings_cache=SimpleKVStore())
    texts = [f"{i}번째 글" for i in range(20)]
    for _ in range(2):
        found = await asyncio.gather(
            *(
                method(text)
                for text in texts
                for method in (cached.aget_query_embedding, cached.aget_text_embedding)
            )
        )
        expected = [
            method(text)
            for text in texts
            for method in (plain.get_query_embedding, plain.get_text_embedding)
        ]
        np.testing.assert_allclose(found, expected, atol=1e-6)


# The ingestion pipeline's cache


class _CountedPipeline:
    """Runs one set of nodes through pipelines that share a cache, counting what is embedded."""

    def __init__(self) -> None:
        self.cache = IngestionCache()

    def embedded(self, **options: Any) -> int:
        handler = LlamaDebugHandler(print_trace_on_end=False)
        embedding = KoE5Embedding(**options, callback_manager=CallbackManager([handler]))
        nodes = IngestionPipeline(transformations=[embedding], cache=self.cache).run(
            nodes=text_nodes()
        )
        np.testing.assert_allclose(
            [node.embedding for node in nodes],
            KoE5Embedding(**options).get_text_embedding_batch(TEXTS),
            atol=1e-6,
        )
        pairs = handler.get_event_pairs(CBEventType.EMBEDDING)
        return sum(len(end.payload["chunks"]) for _, end in pairs)


def test_ingesting_again_embeds_nothing(static_model: Path) -> None:
    """A second run over the same nodes takes all vectors from the pipeline's cache."""
    pipeline = _CountedPipeline()
    assert pipeline.embedded(model_name=static_model) == 4
    assert pipeline.embedded(model_name=static_model) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"passage_prompt": ""},
        {"max_seq_length": 3, "on_truncation": "ignore"},
        {"profile": "jhgan/ko-sbert-sts"},
        {"normalize_unicode": False},
        {"on_prefixed": "keep"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_of_the_vectors_misses_the_ingestion_cache(
    static_model: Path, change: dict[str, Any]
) -> None:
    """Changing an option that changes vectors embeds again instead of mixing two kinds."""
    pipeline = _CountedPipeline()
    assert pipeline.embedded(model_name=static_model) == 4
    assert pipeline.embedded(model_name=static_model, **change) == 4


def test_other_weights_miss_the_ingestion_cache(
    static_model: Path, other_static_model: Path, tmp_path: Path
) -> None:
    """Another model, or another model's weights in the same folder, embeds again."""
    pipeline = _CountedPipeline()
    assert pipeline.embedded(model_name=static_model) == 4
    assert pipeline.embedded(model_name=other_static_model) == 4
    folder = tmp_path / "model"
    for model, expected in ((static_model, 4), (static_model, 0), (other_static_model, 4)):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(model, folder)
        assert pipeline.embedded(model_name=folder) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"device": "cpu"},
        {"batch_size": 1},
        {"batch_tokens": 16},
        {"embed_batch_size": 2},
        {"num_workers": 3},
        {"on_truncation": "ignore"},
        {"show_progress_bar": True},
        {"backend": "static"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_belongs_to_the_machine_hits_the_ingestion_cache(
    static_model: Path, change: dict[str, Any]
) -> None:
    """Another device or batch size takes the vectors from the cache."""
    pipeline = _CountedPipeline()
    assert pipeline.embedded(model_name=static_model) == 4
    assert pipeline.embedded(model_name=static_model, **change) == 0
