"""ChromaStore on real databases: in a folder, with a damaged index, on a server that is killed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("chromadb")
pytest.importorskip("filelock")

import chromadb
from chroma_samples import (
    DAMAGES,
    free_port,
    index_folder,
    numbered,
    passages_named,
    scramble,
    start_server,
    vectors_of,
)

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import open_collection
from koe5_integrations.errors import (
    CollectionError,
    ConfigError,
    FingerprintMismatchError,
    LockedError,
    ModelLoadError,
    StoreError,
)
from koe5_integrations.ingestion.stores import Store
from koe5_integrations.ingestion.stores.chroma import ChromaStore


@pytest.fixture
def store(folder: Path, encoder: KoE5Encoder) -> Iterator[ChromaStore]:
    with ChromaStore("notes", encoder, persist_dir=folder) as opened:
        yield opened


def rows(store: ChromaStore, *ids: str) -> dict[str, tuple[str, dict[str, Any], Any]]:
    """What is stored: text, metadata and vector by id."""
    got: Any = store.collection.get(
        list(ids) or None, include=["documents", "metadatas", "embeddings"]
    )
    columns = (got["documents"], got["metadatas"], got["embeddings"])
    return dict(zip(got["ids"], zip(*columns, strict=True), strict=True))


def all_ids(store: ChromaStore) -> list[str]:
    return [id for page in store.ids() for id in page]


# What is stored


def test_it_is_a_store(store: ChromaStore) -> None:
    """It can be used wherever ingestion wants a store."""
    anything: Store = store
    assert anything.count() == 0
    assert list(store.ids()) == []


def test_text_metadata_and_vector_are_stored(store: ChromaStore) -> None:
    """A passage is stored under its id, with its vector unchanged and its place in the document."""
    stored = vectors_of(2)
    store.upsert(passages_named("a", "b", lang="ko", page=3, score=0.5, draft=True), stored)
    assert store.count() == 2
    text, metadata, vector = rows(store)["b"]
    assert text == "b번 글"
    assert metadata == {
        "lang": "ko",
        "page": 3,
        "score": 0.5,
        "draft": True,
        "document_id": "b",
        "chunk": 0,
        "chunks": 1,
    }
    np.testing.assert_array_equal(np.float32(vector), stored[1])


def test_a_passage_replaces_all_that_was_under_its_id(store: ChromaStore) -> None:
    """Keys that the new metadata lack are gone, types may change, and no other row is touched."""
    before, after = vectors_of(3), vectors_of(2, seed=1)
    store.upsert(passages_named("a", "b", "c", stale="x", year="2025"), before)
    store.upsert(passages_named("new", "b", year=2026, fresh=True), after)
    stored = rows(store)
    assert stored["b"][1] == {
        "year": 2026,
        "fresh": True,
        "document_id": "b",
        "chunk": 0,
        "chunks": 1,
    }
    np.testing.assert_array_equal(np.float32(stored["b"][2]), after[1])
    assert stored["a"][1]["stale"] == stored["c"][1]["stale"] == "x"
    assert set(stored) == {"a", "b", "c", "new"}
    found = store.collection.query(query_embeddings=after[1:], n_results=1)
    assert found["ids"] == [["b"]]
    assert store.collection.get(where={"stale": "x"}, include=[])["ids"] == ["a", "c"]


def test_an_id_is_never_missing_while_it_is_replaced(
    store: ChromaStore, folder: Path, encoder: KoE5Encoder
) -> None:
    """A reader in the same process sees the old or the new passage at every moment."""
    store.upsert(passages_named("a", old="x"), vectors_of(1))
    seen: list[int] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            seen.append(len(store.collection.get(["a"], include=[])["ids"]))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(30):
        store.upsert(passages_named("a", **{f"key{i}": i}), vectors_of(1, seed=i))
    ended.set()
    reader.join()
    assert set(seen) == {1}


def test_what_chroma_cannot_keep_is_kept_otherwise(store: ChromaStore) -> None:
    """Reserved keys get a name of ours, and integers beyond 64 bits are text, not rounded."""
    odd: dict[str, Any] = {"#tag": "x", "$in": 1, "chroma:document": "y", "big": 2**63, "small": -3}
    store.upsert(passages_named("a", **odd), vectors_of(1))
    _, metadata, _ = rows(store)["a"]
    assert {k: v for k, v in metadata.items() if k not in ("document_id", "chunk", "chunks")} == {
        "metadata:#tag": "x",
        "metadata:$in": 1,
        "metadata:chroma:document": "y",
        "big": "9223372036854775808",
        "small": -3,
    }


def test_more_than_chroma_takes_at_once(store: ChromaStore) -> None:
    """Any number of passages is stored, listed and deleted, whatever Chroma's limit is."""
    n = store.collection._client.get_max_batch_size() + 40
    many = vectors_of(n)
    store.upsert(numbered(n), many)
    assert store.count() == n
    assert sorted(all_ids(store)) == sorted(f"p{i}" for i in range(n))
    some = rows(store, "p0", f"p{n - 1}")
    np.testing.assert_array_equal(np.float32(some[f"p{n - 1}"][2]), many[-1])
    store.delete([f"p{i}" for i in range(n - 1)])
    assert all_ids(store) == [f"p{n - 1}"]


def test_deleting_what_is_not_there_is_no_error(store: ChromaStore) -> None:
    """Unknown ids, and none at all, are deleted without a word."""
    store.delete(["nowhere"])
    store.upsert(passages_named("a"), vectors_of(1))
    store.delete([])
    store.delete(["nowhere", "a", "elsewhere"])
    assert store.count() == 0


def test_a_vector_that_chroma_refuses_is_a_store_error(store: ChromaStore) -> None:
    """Chroma's words are in the error, with the collection's name."""
    bad = vectors_of(1)
    bad[0, 0] = np.nan
    with pytest.raises(StoreError, match=r"db: collection 'notes': .*NaN"):
        store.upsert(passages_named("a"), bad)
    assert store.count() == 0


# Which collection it is


def test_the_collection_is_made_by_the_rules(store: ChromaStore, encoder: KoE5Encoder) -> None:
    """It is in cosine space, and says which model and settings its vectors were made with."""
    assert store.collection.configuration_json["hnsw"]["space"] == "cosine"
    assert store.collection.metadata["koe5:fingerprint"] == encoder.fingerprint.digest


def test_the_key_names_this_place_and_this_incarnation(folder: Path, encoder: KoE5Encoder) -> None:
    """Opened again it has the same key; made anew, or elsewhere, another one."""
    keys = []
    for place in (folder, folder, folder.with_name("other")):
        with ChromaStore("notes", encoder, persist_dir=place) as store:
            keys.append(store.key)
    with ChromaStore("notes", encoder, persist_dir=folder) as store:
        store.reset()
        keys.append(store.key)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert str(folder) in keys[0]


def test_another_model_and_a_foreign_collection_are_refused(
    folder: Path, encoder: KoE5Encoder, static_model: Path
) -> None:
    """Vectors of two kinds never meet in a collection, and the folder is free afterwards."""
    ChromaStore("notes", encoder, persist_dir=folder).close()
    other = KoE5Encoder(static_model, passage_prompt="문서: ")
    with pytest.raises(FingerprintMismatchError, match="passage_prompt: 'passage: ' there"):
        ChromaStore("notes", other, persist_dir=folder)
    with chromadb.PersistentClient(folder) as client:
        client.create_collection("theirs", embedding_function=None)
    with pytest.raises(CollectionError, match="no fingerprint"):
        ChromaStore("theirs", encoder, persist_dir=folder)
    ChromaStore("notes", encoder, persist_dir=folder).close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one of persist_dir=, url= and client="),
        ({"persist_dir": "x", "url": "http://127.0.0.1"}, "give one of"),
        ({"url": "127.0.0.1:8000"}, "url='127.0.0.1:8000' must be like http"),
        ({"url": "http://127.0.0.1:port"}, "must be like http"),
        ({"url": "http://me:secret@127.0.0.1:8000"}, r"^url= must be http://HOST:PORT alone"),
    ],
)
def test_an_impossible_place_is_refused(
    encoder: KoE5Encoder, arguments: dict[str, Any], message: str
) -> None:
    """One place must be given, a server as a URL without credentials."""
    with pytest.raises(ConfigError, match=message):
        ChromaStore("notes", encoder, **arguments)


@pytest.mark.parametrize(
    "name", ["", "ab", "../../notes", "한글 이름", "notes/", ".notes", "a" * 513]
)
def test_an_impossible_name_is_refused_before_anything_is_made(
    folder: Path, encoder: KoE5Encoder, name: str
) -> None:
    """A name that Chroma does not allow is an error that quotes it, and leaves no folder."""
    with pytest.raises(ConfigError, match="must be 3 to 512 characters"):
        ChromaStore(name, encoder, persist_dir=folder)
    assert not folder.exists()


def test_a_model_that_cannot_be_had_leaves_no_database(folder: Path, tmp_path: Path) -> None:
    """The model is looked for before a folder is made."""
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelLoadError):
        ChromaStore("notes", KoE5Encoder(tmp_path / "model"), persist_dir=folder)
    assert not folder.exists()


# One at a time


def test_a_second_one_is_refused_until_the_first_is_closed(
    store: ChromaStore, folder: Path, encoder: KoE5Encoder
) -> None:
    """A folder is written by one store at a time, whichever collection it is for."""
    with pytest.raises(LockedError, match="loading 'notes'"):
        ChromaStore("others", encoder, persist_dir=folder)
    store.close()
    ChromaStore("others", encoder, persist_dir=folder).close()


def test_closing_frees_the_folder(folder: Path, encoder: KoE5Encoder) -> None:
    """No file of it stays open, and another process can add to it, which is seen here."""
    with ChromaStore("notes", encoder, persist_dir=folder) as store:
        store.upsert(numbered(3), vectors_of(3))
        store.collection.query(query_embeddings=vectors_of(1), n_results=1)
    opened = Path("/proc/self/fd")
    if opened.is_dir():
        # Chroma's threads let go of them a moment later.
        for _ in range(200):
            targets = [str(fd.readlink()) for fd in opened.iterdir() if fd.is_symlink()]
            if not any(target.startswith(str(folder)) for target in targets):
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"files of {folder} are still open")
    script = """
import sys, chromadb
collection = chromadb.PersistentClient(sys.argv[1]).get_collection("notes", embedding_function=None)
collection.upsert(ids=["theirs"], embeddings=[[1.0] * 16], documents=["x"])
"""
    subprocess.run([sys.executable, "-c", script, folder], check=True)
    with ChromaStore("notes", encoder, persist_dir=folder) as store:
        assert sorted(all_ids(store)) == ["p0", "p1", "p2", "theirs"]


# A new beginning


def test_a_reset_empties_this_collection_alone(store: ChromaStore, encoder: KoE5Encoder) -> None:
    """What was stored is gone, another collection in the folder is not, and loading goes on."""
    other = open_collection(store._client, "other", encoder)
    other.upsert(ids=["theirs"], embeddings=vectors_of(1), documents=["x"])
    store.upsert(numbered(5), vectors_of(5))
    store.reset()
    assert store.count() == 0
    store.upsert(numbered(2, start=7), vectors_of(2, seed=7))
    assert all_ids(store) == ["p7", "p8"]
    found = store.collection.query(query_embeddings=vectors_of(2, seed=7), n_results=1)
    assert found["ids"] == [["p7"], ["p8"]]
    assert open_collection(store._client, "other", encoder).count() == 1


def test_a_reset_keeps_the_owners_settings(folder: Path, encoder: KoE5Encoder) -> None:
    """Metadata and index settings that somebody chose are those of the new collection, too."""
    chosen = {"sync_threshold": 50, "max_neighbors": 24, "ef_search": 77}
    with chromadb.PersistentClient(folder) as client:
        open_collection(client, "notes", encoder, metadata={"owner": "me"}, hnsw=chosen)
    with ChromaStore("notes", encoder, persist_dir=folder) as store:
        store.upsert(numbered(60), vectors_of(60))
        store.reset()
        hnsw = store.collection.configuration_json["hnsw"]
        assert {key: hnsw[key] for key in chosen} == chosen
        assert store.collection.metadata["owner"] == "me"
        assert store.collection.configuration_json["embedding_function"]["name"] == "koe5"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_reset_works_on_a_damaged_index(folder: Path, encoder: KoE5Encoder, damage: str) -> None:
    """However its index is damaged, the collection is made anew, and the broken files are gone."""
    with chromadb.PersistentClient(folder) as client:
        open_collection(client, "notes", encoder, hnsw={"sync_threshold": 20})
    with ChromaStore("notes", encoder, persist_dir=folder) as store:
        store.upsert(numbered(50), vectors_of(50))
    broken = index_folder(folder, "notes")
    DAMAGES[damage](broken)
    with ChromaStore("notes", encoder, persist_dir=folder) as store:
        store.reset()
        assert not broken.exists()
        store.upsert(numbered(50), vectors_of(50, seed=1))
        assert store.count() == 50
        found = store.collection.query(query_embeddings=vectors_of(50, seed=1), n_results=1)
        assert [ids[0] for ids in found["ids"]] == [f"p{i}" for i in range(50)]


def test_a_broken_database_is_an_error_that_destroys_nothing(
    folder: Path, encoder: KoE5Encoder
) -> None:
    """Where Chroma can't open its database, the error says the ways on, and no file is touched."""
    with ChromaStore("notes", encoder, persist_dir=folder) as store:
        store.upsert(numbered(3), vectors_of(3))
    database = folder / "chroma.sqlite3"
    scramble(database)
    before = database.read_bytes()
    with pytest.raises(StoreError, match=r"can't open its chroma\.sqlite3: .*not a database.*move"):
        ChromaStore("notes", encoder, persist_dir=folder)
    assert database.read_bytes() == before


# A server


class Server:
    """``chroma run`` on loopback, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self.process = start_server(self.folder, self.port)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("served"))
    yield started
    started.kill()


def test_a_served_collection_is_loaded_and_reset(server: Server, encoder: KoE5Encoder) -> None:
    """On a server it is the same, in requests that it takes; a client of one's own stays open."""
    with ChromaStore("notes", encoder, url=server.url) as store:
        assert store.key.startswith(f"chroma {server.url} ")
        # In one request they would be more than the 40 MB a server reads.
        store.upsert(numbered(300), vectors_of(300, dim=30_000))
        store.upsert(passages_named("p1", page=2), vectors_of(1, dim=30_000))
        assert store.count() == 300
        assert "lang" not in rows(store, "p1")["p1"][1]
        store.delete(["p0"])
        assert sorted(all_ids(store)) == sorted(f"p{i}" for i in range(1, 300))
    client = chromadb.HttpClient(host="127.0.0.1", port=server.port)
    with ChromaStore("notes", encoder, client=client) as store:
        key = store.key
        store.reset()
        assert (store.count(), store.key == key) == (0, False)
    assert client.heartbeat() > 0


def test_a_server_that_goes_away(server: Server, encoder: KoE5Encoder) -> None:
    """One that comes back is waited for; one that doesn't is an error with the remedy."""
    store = ChromaStore("others", encoder, url=server.url, patience=30)
    store.upsert(numbered(10), vectors_of(10))
    server.kill()
    starting = threading.Timer(0.3, server.start)
    starting.start()
    store.upsert(numbered(10, start=10), vectors_of(10, seed=1))
    starting.join()
    assert store.count() == 20
    impatient = ChromaStore("others", encoder, url=server.url, patience=0.2)
    server.kill()
    with pytest.raises(StoreError, match=f"{server.url} can't be reached any more: .*server runs"):
        impatient.upsert(numbered(1), vectors_of(1))
    with pytest.raises(StoreError, match=f"{server.url}: .*chroma run"):
        ChromaStore("others", encoder, url=server.url)
