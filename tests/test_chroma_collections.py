"""Collections of open_collection(): made once, opened again, and refused to other settings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from chroma_samples import IDS, QUERY, TEXTS, expected_distances, found_distances
from new_process import run_python
from tiny_models import make_static

pytest.importorskip("chromadb")

import chromadb
from chromadb.api import ClientAPI
from chromadb.api.types import DefaultEmbeddingFunction
from chromadb.errors import InvalidArgumentError

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import KoE5EmbeddingFunction, open_collection
from koe5_integrations.errors import CollectionError, ConfigError, FingerprintMismatchError


@pytest.fixture
def client(tmp_path: Path) -> ClientAPI:
    return chromadb.PersistentClient(tmp_path / "chroma")


@pytest.fixture
def function(static_model: Path) -> KoE5EmbeddingFunction:
    return KoE5EmbeddingFunction(static_model)


# Opening


def test_open_collection_creates_and_reopens(
    client: ClientAPI, function: KoE5EmbeddingFunction, static_model: Path
) -> None:
    """A new collection gets function, space, fingerprint and metadata, which re-opening keeps."""
    created = open_collection(client, "docs", function, metadata={"source": "faq", "year": 2026})
    created.add(ids=IDS, documents=TEXTS)
    same = KoE5EmbeddingFunction(str(static_model), device="cpu", batch_size=1)
    reopened = open_collection(client, "docs", same, metadata={"source": "other"})
    assert reopened.id == created.id
    assert reopened.count() == 4
    assert reopened.configuration_json["hnsw"]["space"] == "cosine"
    assert reopened.configuration_json["embedding_function"]["name"] == "koe5"
    metadata = dict(reopened.metadata)
    assert metadata.pop("koe5:fingerprint") == str(function.encoder.fingerprint)
    assert metadata.pop("koe5:fingerprint_fields") == function.encoder.fingerprint.to_json()
    assert metadata == {"source": "faq", "year": 2026}
    assert found_distances(reopened) == pytest.approx(
        expected_distances(function.encoder), abs=1e-5
    )


def test_open_collection_takes_an_encoder(client: ClientAPI, static_model: Path) -> None:
    """An encoder can be given instead of a function."""
    encoder = KoE5Encoder(static_model, query_prompt="질문: ", batch_size=3)
    collection = open_collection(client, "docs", encoder)
    collection.add(ids=IDS, documents=TEXTS)
    assert found_distances(collection) == pytest.approx(expected_distances(encoder), abs=1e-5)
    function = KoE5EmbeddingFunction(str(static_model), query_prompt="질문: ")
    assert open_collection(client, "docs", function).count() == 4


def test_a_new_process_reopens_and_queries_by_text(
    client: ClientAPI, tmp_path: Path, static_model: Path
) -> None:
    """Another process that imports us finds the same, with the function rebuilt from its config."""
    function = KoE5EmbeddingFunction(str(static_model), query_prompt="질문: ")
    open_collection(client, "docs", function).upsert(ids=IDS, documents=TEXTS)
    script = """
import json, sys
import chromadb
import koe5_integrations.chroma
collection = chromadb.PersistentClient(sys.argv[1]).get_collection("docs")
found = collection.query(query_texts=[sys.argv[2]], n_results=4, include=["distances"])
collection.upsert(ids=["new"], documents=[sys.argv[2]])
[new] = collection.get(["new"], include=["embeddings"])["embeddings"]
config = collection.configuration["embedding_function"].get_config()
print(json.dumps([found["ids"][0], found["distances"][0], config, new.tolist()]))
"""
    ids, distances, config, new = run_python(script, str(tmp_path / "chroma"), QUERY)
    expected = dict(zip(IDS, expected_distances(function.encoder), strict=True))
    assert dict(zip(ids, distances, strict=True)) == pytest.approx(expected, abs=1e-5)
    assert config == function.get_config()
    assert new == pytest.approx(function.encoder.encode_passages([QUERY])[0], abs=1e-6)


def test_the_same_weights_elsewhere_open_the_collection(
    client: ClientAPI, static_model: Path, tmp_path: Path
) -> None:
    """A model folder may move: the collection opens, queries and shows its settings."""
    before, after = tmp_path / "before", tmp_path / "after"
    shutil.copytree(static_model, before)
    open_collection(client, "docs", KoE5EmbeddingFunction(str(before))).add(
        ids=IDS, documents=TEXTS
    )
    before.rename(after)
    moved = KoE5EmbeddingFunction(str(after))
    collection = open_collection(client, "docs", moved)
    assert found_distances(collection) == pytest.approx(expected_distances(moved.encoder), abs=1e-5)
    assert collection.configuration["hnsw"]["space"] == "cosine"
    by_chroma_alone = client.get_collection("docs")
    with pytest.raises(ConfigError, match="there is no such folder"):
        by_chroma_alone.query(query_texts=[QUERY])


def test_cosine_is_the_default_space(client: ClientAPI, function: KoE5EmbeddingFunction) -> None:
    """A collection that Chroma itself creates with our function measures by cosine."""
    assert function.default_space() == "cosine"
    assert set(function.supported_spaces()) == {"cosine", "ip", "l2"}
    collection = client.create_collection("plain", embedding_function=function)
    assert collection.configuration_json["hnsw"]["space"] == "cosine"


def test_metadata_cannot_change_the_space_or_the_fingerprint(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """Entries of the user do not override what open_collection() promises."""
    metadata = {"hnsw:space": "l2", "koe5:fingerprint": "forged"}
    open_collection(client, "docs", function, metadata=metadata)
    collection = open_collection(client, "docs", function)
    assert collection.configuration_json["hnsw"]["space"] == "cosine"


# Refused


@pytest.mark.parametrize("given", ["koe5-mini", DefaultEmbeddingFunction(), object()])
def test_open_collection_takes_no_other_function(client: ClientAPI, given: Any) -> None:
    """Anything but our function or encoder is refused before a collection is made."""
    with pytest.raises(ConfigError, match="must be a KoE5EmbeddingFunction or a KoE5Encoder"):
        open_collection(client, "docs", given)
    assert client.list_collections() == []


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"query_prompt": "질문: "}, "query_prompt: 'query: ' there, '질문: ' here"),
        ({"passage_prompt": ""}, "passage_prompt: 'passage: ' there, '' here"),
        ({"max_seq_length": 128}, "max_seq_length: None there, 128 here"),
        ({"truncate_dim": 8}, "truncate_dim: None there, 8 here"),
        ({"precision": "bf16"}, "precision: 'fp32' there, 'bf16' here"),
        ({"normalize_unicode": False}, "unicode: 'NFC' there, 'none' here"),
        ({"profile": "jhgan/ko-sbert-sts"}, "normalize: True there, False here"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.filterwarnings("ignore::koe5_integrations.errors.TruncateDimWarning")  # meant here
def test_other_settings_are_refused_with_both_sides(
    client: ClientAPI,
    function: KoE5EmbeddingFunction,
    static_model: Path,
    options: dict[str, Any],
    difference: str,
) -> None:
    """A collection is not opened with any setting that makes other vectors, and stays as it is."""
    collection = open_collection(client, "docs", function)
    collection.add(ids=IDS, documents=TEXTS)
    other = KoE5EmbeddingFunction(str(static_model), **options)
    with pytest.raises(FingerprintMismatchError) as caught:
        open_collection(client, "docs", other)
    message = str(caught.value)
    assert difference in message
    assert message.count(" there, ") == (3 if "profile" in options else 1)
    assert str(function.encoder.fingerprint) in message
    assert str(other.encoder.fingerprint) in message
    assert open_collection(client, "docs", function).count() == 4


def test_another_model_is_refused_with_both_names(
    client: ClientAPI, function: KoE5EmbeddingFunction, tmp_path: Path
) -> None:
    """A collection is not opened with another model, and the error names both."""
    open_collection(client, "docs", function)
    other = KoE5EmbeddingFunction(str(make_static(tmp_path / "other", seed=1)))
    here, there = other.encoder.fingerprint, function.encoder.fingerprint
    with pytest.raises(FingerprintMismatchError) as caught:
        open_collection(client, "docs", other)
    assert f"embedded with {there.model!r}" in str(caught.value)
    assert f"not with {here.model!r}" in str(caught.value)
    assert f"weights: {there.weights!r} there, {here.weights!r} here" in str(caught.value)


def test_a_stored_configuration_cannot_be_changed(
    client: ClientAPI, function: KoE5EmbeddingFunction, static_model: Path
) -> None:
    """Giving a collection another configuration of our function is refused, the same one is not."""
    function.validate_config_update(function.get_config(), function.get_config())
    changed = KoE5EmbeddingFunction(str(static_model), passage_prompt="문서: ")
    with pytest.raises(ConfigError, match="can't go on with"):
        function.validate_config_update(function.get_config(), changed.get_config())
    with pytest.raises(ConfigError, match="unknown: device"):
        function.validate_config_update(function.get_config(), {"model": "x", "device": "cpu"})
    collection = open_collection(client, "docs", function)
    with pytest.raises(ConfigError, match="can't go on with"):
        collection.modify(configuration={"embedding_function": changed})


def test_a_collection_without_fingerprint_is_refused(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """A collection of our function that was not made by open_collection() is refused."""
    client.create_collection("docs", embedding_function=function)
    with pytest.raises(CollectionError, match="has no fingerprint"):
        open_collection(client, "docs", function)
    opened = open_collection(client, "erased", function)
    opened.modify(metadata={"source": "faq"})
    with pytest.raises(CollectionError, match="has no fingerprint"):
        open_collection(client, "erased", function)


def test_a_collection_of_another_function_is_refused(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """A collection of Chroma's own function is refused by name, whatever its metadata says."""
    ours = open_collection(client, "ours", function)
    for name, metadata in (("theirs", None), ("copied", dict(ours.metadata))):
        client.create_collection(
            name, embedding_function=DefaultEmbeddingFunction(), metadata=metadata
        )
        with pytest.raises(CollectionError, match="the embedding function 'default', not 'koe5'"):
            open_collection(client, name, function)


@pytest.mark.parametrize("space", ["l2", "ip"])
def test_a_collection_in_another_space_is_refused(
    client: ClientAPI, function: KoE5EmbeddingFunction, space: str
) -> None:
    """A collection with our fingerprint that does not measure by cosine is refused."""
    metadata = dict(open_collection(client, "ours", function).metadata)
    client.create_collection(
        "docs",
        embedding_function=function,
        configuration={"hnsw": {"space": space}},
        metadata=metadata,
    )
    with pytest.raises(CollectionError, match=f"measures distance by '{space}', not 'cosine'"):
        open_collection(client, "docs", function)


def test_an_impossible_name_is_chromas_own_error(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """A name that Chroma does not allow raises Chroma's error, which says what it allows."""
    with pytest.raises(InvalidArgumentError, match="3-512 characters"):
        open_collection(client, "한글 이름", function)
