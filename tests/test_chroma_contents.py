"""What collections hold and find: on disk, opened by several at once, and on a server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from chroma_samples import (
    IDS,
    QUERY,
    TEXTS,
    expected_distances,
    found_distances,
    free_port,
    start_server,
)

pytest.importorskip("chromadb")

import chromadb
from chromadb.api import ClientAPI
from chromadb.errors import InvalidArgumentError

from koe5_integrations.chroma import KoE5EmbeddingFunction, open_collection
from koe5_integrations.errors import EmptyTextError, FingerprintMismatchError, InvalidUnicodeError


@pytest.fixture
def function(static_model: Path) -> KoE5EmbeddingFunction:
    return KoE5EmbeddingFunction(static_model)


@pytest.fixture
def client(tmp_path: Path) -> ClientAPI:
    return chromadb.PersistentClient(tmp_path / "chroma")


def test_documents_are_passages_and_query_texts_are_queries(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """Distances of query_texts from added documents are those of our own vectors by role."""
    collection = open_collection(client, "docs", function)
    collection.add(ids=IDS, documents=TEXTS)
    assert found_distances(collection) == pytest.approx(
        expected_distances(function.encoder), abs=1e-5
    )
    stored = collection.get(IDS, include=["embeddings"])
    np.testing.assert_allclose(
        stored["embeddings"], function.encoder.encode_passages(TEXTS), atol=1e-6
    )


def test_upserting_an_id_again_replaces_its_vector(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """A changed text under the same id is found by its new vector, and there is still one of it."""
    collection = open_collection(client, "docs", function)
    collection.upsert(ids=IDS, documents=TEXTS)
    collection.upsert(ids=[IDS[0]], documents=[QUERY])
    assert collection.count() == 4
    stored = collection.get([IDS[0]], include=["embeddings", "documents"])
    assert stored["documents"] == [QUERY]
    np.testing.assert_allclose(
        stored["embeddings"], function.encoder.encode_passages([QUERY]), atol=1e-6
    )


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ("", EmptyTextError),
        ("\u200b \n", EmptyTextError),
        ("빵\ud800", InvalidUnicodeError),
    ],
    ids=["empty", "invisible", "surrogate"],
)
def test_a_bad_text_is_refused_before_anything_is_stored(
    client: ClientAPI, function: KoE5EmbeddingFunction, bad: str, error: type[Exception]
) -> None:
    """Documents and questions that can't be embedded raise our error with their position."""
    collection = open_collection(client, "docs", function)
    for write in (collection.add, collection.upsert):
        with pytest.raises(error) as caught:
            write(ids=[*IDS, "bad"], documents=[*TEXTS, bad])
        assert caught.value.position == 4
        assert collection.count() == 0
    collection.add(ids=IDS, documents=TEXTS)
    with pytest.raises(error) as caught:
        collection.update(ids=IDS[:2], documents=[QUERY, bad])
    assert caught.value.position == 1
    assert collection.get(IDS[:1])["documents"] == TEXTS[:1]
    with pytest.raises(error) as caught:
        collection.query(query_texts=[QUERY, bad])
    assert caught.value.position == 1


def test_nan_is_not_stored(client: ClientAPI, function: KoE5EmbeddingFunction) -> None:
    """Vectors of the user's own that are not finite are refused, with all that came along."""
    collection = open_collection(client, "docs", function)
    sound, broken = [1.0] * 16, [float("nan")] * 16
    with pytest.raises(InvalidArgumentError, match="NaN"):
        collection.upsert(ids=["sound", "broken"], embeddings=[sound, broken])
    assert collection.count() == 0


def test_more_documents_than_chroma_takes_at_once(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """Six thousand texts go in by slices of get_max_batch_size(), each with its own vector."""
    collection = open_collection(client, "docs", function)
    texts = [f"{i}번째 문서" for i in range(6000)]
    size = client.get_max_batch_size()
    assert size < len(texts)
    for start in range(0, len(texts), size):
        ids = [str(i) for i in range(start, min(start + size, len(texts)))]
        collection.upsert(ids=ids, documents=texts[start : start + size])
    assert collection.count() == 6000
    some = ["0", "5460", "5461", "5999"]
    stored = collection.get(some, include=["embeddings"])
    expected = function.encoder.encode_passages([texts[int(id_)] for id_ in stored["ids"]])
    np.testing.assert_allclose(stored["embeddings"], expected, atol=1e-6)


# Several at once


def test_threads_that_create_one_collection_get_the_same(
    client: ClientAPI, static_model: Path
) -> None:
    """Of many threads that open a new name at once, one creates it and all can use it."""

    def work(number: int) -> tuple[object, int]:
        function = KoE5EmbeddingFunction(str(static_model))
        collection = open_collection(client, f"docs-{number // 8}", function)
        collection.upsert(ids=[str(number)], documents=[f"{number}번째 문서"])
        return collection.name, collection.id.int

    with ThreadPoolExecutor(8) as pool:
        opened = set(pool.map(work, range(40)))
    assert len(opened) == 5
    assert [client.get_collection(f"docs-{i}").count() for i in range(5)] == [8] * 5


def test_processes_that_create_one_collection_get_the_same(
    tmp_path: Path, static_model: Path
) -> None:
    """Two processes that open new names at the same moment agree on the collections."""
    chromadb.PersistentClient(tmp_path)  # the folder itself is made before the race
    script = """
import json, sys
import chromadb
from koe5_integrations.chroma import KoE5EmbeddingFunction, open_collection
client = chromadb.PersistentClient(sys.argv[1])
function = KoE5EmbeddingFunction(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
opened = [str(open_collection(client, f"docs-{i}", function).id) for i in range(20)]
print(json.dumps(opened))
"""
    command = [sys.executable, "-c", script, str(tmp_path), str(static_model)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    opened = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert opened[0] == opened[1]
    assert len(set(opened[0])) == 20


# A server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Chroma server on loopback."""
    port = free_port()
    process = start_server(tmp_path_factory.mktemp("server"), port)
    yield port
    process.kill()
    process.wait()


def test_a_served_collection_is_opened_filled_and_queried(
    server: int, function: KoE5EmbeddingFunction, static_model: Path
) -> None:
    """Over HTTP a collection is created, filled, re-opened and queried as on disk."""
    client = chromadb.HttpClient(host="127.0.0.1", port=server)
    open_collection(client, "docs", function, metadata={"source": "faq"}).upsert(
        ids=IDS, documents=TEXTS
    )
    another = chromadb.HttpClient(host="127.0.0.1", port=server)
    collection = open_collection(another, "docs", function)
    assert collection.metadata["source"] == "faq"
    assert collection.configuration_json["hnsw"]["space"] == "cosine"
    assert found_distances(collection) == pytest.approx(
        expected_distances(function.encoder), abs=1e-5
    )
    assert found_distances(another.get_collection("docs")) == pytest.approx(
        found_distances(collection)
    )
    with pytest.raises(EmptyTextError):
        collection.upsert(ids=["bad"], documents=[""])
    with pytest.raises(FingerprintMismatchError, match="passage_prompt: 'passage: ' there, '' her"):
        open_collection(
            another, "docs", KoE5EmbeddingFunction(str(static_model), passage_prompt="")
        )


def test_clients_that_create_one_served_collection_get_the_same(
    server: int, function: KoE5EmbeddingFunction
) -> None:
    """Of several clients of a server that open a new name at once, all get the same collection."""

    def work(number: int) -> tuple[str, str]:
        client = chromadb.HttpClient(host="127.0.0.1", port=server)
        collection = open_collection(client, f"race-{number // 4}", function)
        return collection.name, str(collection.id)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(work, range(20)))) == 5
