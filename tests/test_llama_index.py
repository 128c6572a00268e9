"""KoE5Embedding inside LlamaIndex."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import KOREAN, make_static

pytest.importorskip("llama_index.core")

from llama_index.core import Settings, StorageContext, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from llama_index.core.schema import MetadataMode, TextNode
from llama_index.core.storage.kvstore import SimpleKVStore

from koe5_integrations.errors import (
    ConfigError,
    EmptyTextError,
    FingerprintMismatchError,
    InvalidUnicodeError,
    KoE5Error,
    PrefixedTextWarning,
    TextTypeError,
)
from koe5_integrations.llama_index import KoE5Embedding, RoleKeyedCache

QUERY, TEXTS = KOREAN[0], KOREAN[1:5]


@pytest.fixture
def embedding(static_model: Path) -> KoE5Embedding:
    return KoE5Embedding(model_name=static_model)


@pytest.fixture(scope="session")
def other_static_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same size."""
    return make_static(tmp_path_factory.mktemp("models") / "other-static", seed=1)


def _nodes() -> list[TextNode]:
    return [TextNode(text=text, id_=f"node-{i}") for i, text in enumerate(TEXTS)]


def _ranked_ids(embedding: KoE5Embedding) -> list[str]:
    encoder = embedding.encoder
    cosines = encoder.encode_passages(TEXTS) @ encoder.encode_queries([QUERY])[0]
    return [f"node-{i}" for i in np.argsort(-cosines)]


def _run_python(script: str, *arguments: str, stdin: bytes | None = None) -> Any:
    """Run a script in a new process and return what it prints as JSON."""
    command = [sys.executable, "-X", "utf8", "-c", script, *arguments]
    done = subprocess.run(command, input=stdin, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


# Construction


def test_model_and_model_name_are_the_same_argument(static_model: Path) -> None:
    """A model is given as model_name or as model, as a Path or as text."""
    given = [
        KoE5Embedding(model_name=static_model),
        KoE5Embedding(model_name=str(static_model)),
        KoE5Embedding(model=static_model),
        KoE5Embedding(model=str(static_model)),
    ]
    assert {embedding.model_name for embedding in given} == {str(static_model)}
    assert len({tuple(embedding.get_query_embedding(QUERY)) for embedding in given}) == 1


def test_options_of_other_wrappers_are_taken(static_model: Path, tmp_path: Path) -> None:
    """All arguments of LlamaIndex's own embeddings have their place here."""
    limiter = TokenBucketRateLimiter(requests_per_minute=600)
    embedding = KoE5Embedding(
        model_name=static_model,
        device="cpu",
        cache_folder=tmp_path,
        embed_batch_size=7,
        batch_size=2,
        max_length=256,
        num_workers=2,
        rate_limiter=limiter,
        embeddings_cache=SimpleKVStore(),
        callback_manager=CallbackManager([]),
        show_progress_bar=False,
    )
    assert embedding.embed_batch_size == 7
    assert embedding.rate_limiter is limiter
    assert embedding.encoder.config() == {
        "model": str(static_model),
        "device": "cpu",
        "cache_folder": str(tmp_path),
        "batch_size": 2,
        "max_seq_length": 256,
    }
    assert len(embedding.get_text_embedding_batch(TEXTS)) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "cls"}, "pooling= is no option of KoE5Embedding; there are .*model_name"),
        ({"model": "koe5-mini"}, "model= is another name .*: give one"),
        ({"batch_size": -1}, "batch_size=-1 must be at least 1"),
        ({"embed_batch_size": 0}, "embed_batch_size=0: .*greater than 0"),
        ({"normalize_unicode": "yes"}, "normalize_unicode='yes': .*boolean"),
        ({"embeddings_cache": {}}, "embeddings_cache={} must be a LlamaIndex key-value store"),
        ({"profile": "koe5"}, "profile='koe5' is not in the table"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_impossible_option_is_a_config_error(
    static_model: Path, options: dict[str, Any], message: str
) -> None:
    """An option that is unknown or impossible raises our error, not pydantic's."""
    with pytest.raises(ConfigError, match=message):
        KoE5Embedding(**{"model_name": static_model, **options})


def test_constructing_loads_no_model_and_no_torch(static_model: Path) -> None:
    """Constructing and printing adapters reads no weights."""
    script = """
import json, sys
from koe5_integrations.llama_index import KoE5Embedding
for model in ("nlpai-lab/KoE5", "koe5-mini", sys.argv[1]):
    repr(KoE5Embedding(model_name=model))
print(json.dumps(sorted({"torch", "transformers", "safetensors"} & set(sys.modules))))
"""
    assert _run_python(script, str(static_model)) == []


def test_repr_shows_what_was_set(static_model: Path) -> None:
    """The repr holds the arguments given, and none of the defaults."""
    embedding = KoE5Embedding(model=static_model, batch_size=2)
    assert repr(embedding) == f"KoE5Embedding(batch_size=2, model_name={str(static_model)!r})"
    assert repr(KoE5Embedding()) == "KoE5Embedding()"


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


# Fields set after construction


def test_a_field_set_later_takes_effect(static_model: Path, other_static_model: Path) -> None:
    """Whatever option is assigned after construction, the next vector follows it."""
    embedding = KoE5Embedding(model_name=static_model)
    for name, value in [
        ("query_prompt", "질문: "),
        ("batch_size", 2),
        ("normalize_unicode", False),
        ("on_prefixed", "keep"),
        ("on_truncation", "ignore"),
        ("max_seq_length", 4),
        ("model_name", other_static_model),
    ]:
        setattr(embedding, name, value)
        given = {field: getattr(embedding, field) for field in embedding.model_fields_set}
        fresh = KoE5Embedding(**given)
        assert embedding.encoder == fresh.encoder
        assert embedding.get_query_embedding(QUERY) == fresh.get_query_embedding(QUERY)
        assert embedding.to_dict() == fresh.to_dict()
    assert embedding.encoder.config() == {
        "model": str(other_static_model),
        "query_prompt": "질문: ",
        "batch_size": 2,
        "normalize_unicode": False,
        "on_prefixed": "keep",
        "max_seq_length": 4,
        "on_truncation": "ignore",
    }


def test_an_impossible_value_set_later_changes_nothing(embedding: KoE5Embedding) -> None:
    """A refused assignment raises our error and leaves the adapter as it was."""
    before = embedding.get_query_embedding(QUERY)
    for name, value in [
        ("batch_size", 0),
        ("model_name", "nlpai-lab/KoE6"),
        ("precision", "int4"),
        ("embeddings_cache", {}),
    ]:
        kept = getattr(embedding, name)
        with pytest.raises(KoE5Error):
            setattr(embedding, name, value)
        assert getattr(embedding, name) == kept
    assert embedding.get_query_embedding(QUERY) == before


def test_model_copy_follows_its_update(embedding: KoE5Embedding) -> None:
    """model_copy(update=…) gives an adapter whose vectors follow the change."""
    bare = embedding.model_copy(update={"query_prompt": ""})
    assert bare.get_query_embedding(QUERY) != embedding.get_query_embedding(QUERY)
    assert bare.to_dict() == {**embedding.to_dict(), "query_prompt": ""}


# Serialising


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"query_prompt": "질문: ", "passage_prompt": ""},
        {"max_seq_length": 256, "normalize_unicode": False, "on_prefixed": "keep"},
        {"profile": "jhgan/ko-sbert-sts"},
    ],
    ids=["defaults", "prompts", "text", "profile"],
)
def test_dict_and_json_round_trips(static_model: Path, options: dict[str, Any]) -> None:
    """from_dict and from_json rebuild an adapter with the same vectors."""
    embedding = KoE5Embedding(model_name=static_model, **options)
    assert set(embedding.to_dict()) == {"model_name", "weights", "class_name", *options}
    for twin in (
        KoE5Embedding.from_dict(embedding.to_dict()),
        KoE5Embedding.from_dict(json.loads(embedding.to_json())),
        KoE5Embedding.from_json(embedding.to_json()),
    ):
        assert twin.to_dict() == embedding.to_dict()
        assert twin.get_query_embedding(QUERY) == embedding.get_query_embedding(QUERY)
        assert twin.get_text_embedding(QUERY) == embedding.get_text_embedding(QUERY)


def test_from_dict_takes_what_belongs_to_the_machine_besides(static_model: Path) -> None:
    """Device and batch size are not serialised, and are given to from_dict instead."""
    embedding = KoE5Embedding(model_name=static_model, device="cpu", batch_size=2)
    data = embedding.to_dict()
    assert data == KoE5Embedding(model_name=static_model).to_dict()
    twin = KoE5Embedding.from_dict(data, device="cpu", embed_batch_size=8)
    assert (twin.device, twin.embed_batch_size) == ("cpu", 8)
    assert data == embedding.to_dict()


def test_from_dict_refuses_other_weights(
    static_model: Path, other_static_model: Path, tmp_path: Path
) -> None:
    """A folder whose weights changed since it was serialised is refused with both hashes."""
    folder = tmp_path / "model"
    shutil.copytree(static_model, folder)
    data = KoE5Embedding(model_name=folder).to_dict()
    shutil.rmtree(folder)
    shutil.copytree(other_static_model, folder)
    now = KoE5Embedding(model_name=folder).to_dict()["weights"]
    with pytest.raises(FingerprintMismatchError, match=f"{now}.*{data['weights']}"):
        KoE5Embedding.from_dict(data)
    moved = KoE5Embedding.from_dict(data, model_name=str(static_model))
    assert moved.to_dict()["weights"] == data["weights"]


def test_pickling_carries_the_settings_without_the_model(xlm_roberta: Path) -> None:
    """A pickle holds settings, not weights, and the copy gives the same vectors."""
    embedding = KoE5Embedding(model_name=xlm_roberta, batch_size=2)
    before = embedding.get_query_embedding(QUERY)
    pickled = pickle.dumps(embedding)
    assert len(pickled) < 8192
    for twin in (pickle.loads(pickled), copy.copy(embedding), copy.deepcopy(embedding)):
        assert repr(twin) == repr(embedding)
        assert twin.to_dict() == embedding.to_dict()
        assert twin.get_query_embedding(QUERY) == pytest.approx(before, abs=1e-6)


def test_a_pickle_works_in_a_new_process_without_torch(static_model: Path) -> None:
    """Another process unpickles adapter and cache, embeds alike there and loads no torch."""
    embedding = KoE5Embedding(model_name=static_model, embeddings_cache=SimpleKVStore())
    expected = [embedding.get_query_embedding("빵"), embedding.get_text_embedding("빵")]
    script = """
import json, pickle, sys
embedding = pickle.loads(sys.stdin.buffer.read())
unloaded = "koe5_integrations.backends.static" not in sys.modules
cached = [embedding.get_query_embedding("빵"), embedding.get_text_embedding("빵")]
still_unloaded = "koe5_integrations.backends.static" not in sys.modules
embedding.embeddings_cache = None
new = [embedding.get_query_embedding("빵"), embedding.get_text_embedding("빵")]
print(json.dumps([unloaded, still_unloaded, "torch" not in sys.modules, cached, new]))
"""
    *checks, cached, new = _run_python(script, stdin=pickle.dumps(embedding))
    assert checks == [True, True, True]
    assert cached == expected
    assert new == expected


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


# Ingestion


class _CountedPipeline:
    """Runs one set of nodes through pipelines that share a cache, counting what is embedded."""

    def __init__(self) -> None:
        self.cache = IngestionCache()

    def embedded(self, **options: Any) -> int:
        handler = LlamaDebugHandler(print_trace_on_end=False)
        embedding = KoE5Embedding(**options, callback_manager=CallbackManager([handler]))
        nodes = IngestionPipeline(transformations=[embedding], cache=self.cache).run(nodes=_nodes())
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


async def test_async_ingestion_embeds_the_same(embedding: KoE5Embedding) -> None:
    """The async pipeline gives the vectors of the sync one."""
    pipeline = IngestionPipeline(transformations=[embedding], disable_cache=True)
    nodes = await pipeline.arun(nodes=_nodes())
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


# Indexes


async def test_index_in_memory_ranks_by_our_cosines(embedding: KoE5Embedding) -> None:
    """The default index finds nodes in the order of our dot products, sync and async."""
    index = VectorStoreIndex(_nodes(), embed_model=embedding)
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
        _nodes(),
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
    found = VectorStoreIndex(_nodes()).as_retriever(similarity_top_k=4).retrieve(QUERY)
    assert [node.node_id for node in found] == _ranked_ids(embedding)
