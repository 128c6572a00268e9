"""KoE5Embedding's fields: given, set later, serialised and pickled."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from llama_samples import QUERY, TEXTS
from new_process import run_python

pytest.importorskip("llama_index.core")

from llama_index.core.callbacks import CallbackManager
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from llama_index.core.storage.kvstore import SimpleKVStore

from koe5_integrations.errors import ConfigError, FingerprintMismatchError, KoE5Error
from koe5_integrations.llama_index import KoE5Embedding


@pytest.fixture
def embedding(static_model: Path) -> KoE5Embedding:
    return KoE5Embedding(model_name=static_model)


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
    assert run_python(script, str(static_model)) == []


def test_repr_shows_what_was_set(static_model: Path) -> None:
    """The repr holds the arguments given, and none of the defaults."""
    embedding = KoE5Embedding(model=static_model, batch_size=2)
    assert repr(embedding) == f"KoE5Embedding(batch_size=2, model_name={str(static_model)!r})"
    assert repr(KoE5Embedding()) == "KoE5Embedding()"


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
    *checks, cached, new = run_python(script, stdin=pickle.dumps(embedding))
    assert checks == [True, True, True]
    assert cached == expected
    assert new == expected
