"""verify() on real collections and shards, sound ones and such as something has happened to."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("chromadb")
pytest.importorskip("filelock")
pytest.importorskip("pyarrow")

import chromadb
from chroma_samples import DAMAGES, free_port, index_folder, start_server
from tiny_models import KOREAN, make_static

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import open_collection
from koe5_integrations.errors import ConfigError, LockedError, PrefixedTextWarning
from koe5_integrations.ingestion.comparing import IdSets, Sample, Truth
from koe5_integrations.ingestion.locking import FolderLock
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.ingestion.projection import Projection
from koe5_integrations.ingestion.shards import ShardFolder
from koe5_integrations.ingestion.stores.chroma import ChromaStore
from koe5_integrations.ingestion.verification import Check, verify

CHECKS = [
    "shards",
    "collection",
    "fingerprint",
    "space",
    "loading",
    "count",
    "ids",
    "content",
    "search",
    "encoder",
]


@pytest.fixture(scope="module")
def encoder(static_model: Path) -> KoE5Encoder:
    return KoE5Encoder(static_model)


def some_passages() -> list[Passage]:
    """Korean passages of one-passage documents; some have equal texts, one starts with a prefix."""
    texts = [f"{text} {i}" for i in range(6) for text in KOREAN[:5]]
    texts += ["같은 글"] * 8 + ["passage: 이미 붙은 글"]
    return [
        Passage(f"문서 {i}", f"문서 {i}", f"{i:032x}", "notes", text, {"#n": i, "lang": "ko"}, 0, 1)
        for i, text in enumerate(texts)
    ]


def load(shards: ShardFolder, store: ChromaStore) -> None:
    for sequence in shards.unloaded(store.key):
        change = shards.change(sequence)
        store.upsert(change.passages, change.vectors)
        store.delete(change.removed_ids)
        shards.mark_loaded(store.key, sequence)


def write(folder: Path, encoder: KoE5Encoder) -> None:
    passages = some_passages()
    with pytest.warns(PrefixedTextWarning):
        vectors = encoder.encode_passages([passage.text for passage in passages])
    with ShardFolder(folder, fingerprint=encoder.fingerprint, dim=encoder.dim) as shards:
        shards.write(passages[:20], vectors[:20])
        shards.write(passages[20:], vectors[20:], removed=["문서 0"])


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory, encoder: KoE5Encoder) -> Path:
    """A database whose index is on disk; its shards are beside it."""
    folder = tmp_path_factory.mktemp("ingested") / "chroma_db"
    shards = folder.with_name("chroma_db.shards") / "notes"
    write(shards, encoder)
    with chromadb.PersistentClient(folder) as client:
        open_collection(client, "notes", encoder, hnsw={"sync_threshold": 10})
    with (
        ShardFolder.existing(shards) as opened,
        ChromaStore("notes", encoder, persist_dir=folder) as store,
    ):
        load(opened, store)
    return folder


@pytest.fixture
def copy(ingested: Path, tmp_path: Path) -> Path:
    """A copy of both, which something may happen to."""
    shutil.copytree(ingested.with_name("chroma_db.shards"), tmp_path / "chroma_db.shards")
    return shutil.copytree(ingested, tmp_path / "chroma_db")


def by_name(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


# All of it


def test_what_was_ingested_is_sound(ingested: Path) -> None:
    """Every check passes and says what it has seen, and can be made again."""
    for _ in range(2):
        found = verify(persist_dir=ingested, collection="notes")
        assert [(check.name, check.ok) for check in found.checks] == [(c, True) for c in CHECKS]
        assert found.sound
    checks = by_name(found.checks)
    assert "38 documents in 38 passages" in checks["shards"].detail
    assert "all of its 38 rows" in checks["collection"].detail
    assert "38 of 38 sampled passages find themselves" in checks["search"].detail
    assert "8 passages embedded anew" in checks["encoder"].detail


def test_a_damaged_collection_is_not_opened_here(copy: Path) -> None:
    """What would end the process that opens it is a check that failed, with the remedy."""
    DAMAGES["vectors scrambled"](index_folder(copy, "notes"))
    found = verify(persist_dir=copy, collection="notes")
    assert not found.sound
    assert [check.name for check in found.checks] == ["shards", "collection"]
    assert "it is damaged: " in found.checks[1].detail
    assert "koe5 ingest --rebuild" in found.checks[1].detail


def test_a_collection_that_is_gone(copy: Path, ingested: Path) -> None:
    """Without a collection nothing is sound, whatever the shards are like; nothing is made."""
    shutil.rmtree(copy)
    found = verify(persist_dir=copy, collection="notes")
    assert [check.ok for check in found.checks] == [True, False]
    assert f"{copy} has no Chroma collection 'notes'" in found.checks[1].detail
    assert not copy.exists()


def test_shards_that_are_gone(copy: Path, tmp_path: Path) -> None:
    """Without shards there is nothing to verify against, which is not sound either."""
    found = verify(persist_dir=copy, collection="notes", shards=tmp_path / "nowhere")
    assert [(check.name, check.ok) for check in found.checks] == [
        ("shards", False),
        ("collection", True),
    ]
    assert "nowhere is no folder of shards" in found.checks[0].detail
    assert not (tmp_path / "nowhere").exists()


def test_nobody_may_be_writing(copy: Path) -> None:
    """While the database or the shards are locked, nothing is verified."""
    shards = copy.with_name("chroma_db.shards") / "notes"
    for folder in (copy, shards):
        with FolderLock(folder, "a test"), pytest.raises(LockedError, match="a test"):
            verify(persist_dir=copy, collection="notes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one of persist_dir= and url="),
        ({"persist_dir": "x", "url": "http://127.0.0.1"}, "give one of persist_dir= and url="),
        ({"url": "http://127.0.0.1:1"}, "shards= is needed"),
        ({"persist_dir": "x", "sample": 0}, "sample=0 must be at least 1"),
        ({"persist_dir": "x", "collection": "../x"}, "collection='../x' must be"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    """What can't be verified is an error, before anything is opened."""
    with pytest.raises(ConfigError, match=message):
        verify(**{"collection": "notes", **arguments})


def test_a_served_collection(tmp_path: Path, encoder: KoE5Encoder) -> None:
    """Over HTTP the same is checked; what a server says of the model is not used."""
    write(tmp_path / "shards", encoder)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = start_server(tmp_path / "served", port)
    try:
        with (
            ShardFolder.existing(tmp_path / "shards") as shards,
            ChromaStore("notes", encoder, url=url) as store,
        ):
            load(shards, store)
        found = verify(url=url, collection="notes", shards=tmp_path / "shards")
        assert [(check.name, check.ok) for check in found.checks] == [(c, True) for c in CHECKS]
    finally:
        process.kill()
        process.wait()


# One by one


def look(database: Path, **encoder: Any) -> dict[str, Check]:
    """Make the checks that come after the probe."""
    found: dict[str, Check] = {}
    with ExitStack() as opened:
        shards = database.with_name("chroma_db.shards") / "notes"
        truth = Truth(shards, opened.enter_context(IdSets()), Sample(256), opened)
        assert truth.read()[0]
        client = opened.enter_context(chromadb.PersistentClient(database))
        collection = client.get_collection("notes", embedding_function=None)
        projection = Projection(collection, str(database), truth)
        for name, check in projection.checks.items():
            found[name] = Check(name, *check())
        given = {"model": None, "device": None, "cache_folder": None, **encoder}
        found["encoder"] = Check("encoder", *projection.embedded_anew(**given))
    return found


def test_rows_that_are_missing_or_too_many(copy: Path) -> None:
    """They are counted and the first are named, so that a mere count can't hide one for another."""
    with chromadb.PersistentClient(copy) as client:
        collection = client.get_collection("notes", embedding_function=None)
        collection.delete(["문서 1", "문서 2", "문서 3", "문서 4", "문서 5"])
        extra = [f"extra {i}" for i in range(5)]
        collection.upsert(extra, embeddings=np.eye(5, 16, dtype=np.float32), documents=extra)
    found = look(copy)
    assert found["count"].ok
    assert "5 passages are missing from the collection ('문서 1', '문서 2', " in found["ids"].detail
    assert "5 rows belong to no passage ('extra 0', 'extra 1', 'extra 2', …)" in found["ids"].detail


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"documents": ["다른 글"], "embeddings": np.eye(1, 16)}, "text and vector"),
        ({"metadatas": [{"lang": "en"}]}, "metadata"),
        ({"metadatas": [{"more": 1}]}, "metadata"),
        ({"embeddings": np.eye(1, 16)}, "vector"),
    ],
    ids=["text", "changed", "added", "vector"],
)
def test_a_row_that_was_changed(copy: Path, change: dict[str, Any], what: str) -> None:
    """A passage whose text, metadata or vector is another than in the shards is named."""
    with chromadb.PersistentClient(copy) as client:
        client.get_collection("notes", embedding_function=None).update(["문서 7"], **change)
    found = look(copy)
    assert {name for name, check in found.items() if check.ok is False} >= {"content"}
    assert f"passage '문서 7' has another {what} than in the shards" in found["content"].detail


def test_shards_that_were_not_loaded(copy: Path, encoder: KoE5Encoder) -> None:
    """A shard that waits to be loaded is reported with what loads it."""
    passages = [replace(p, id=f"더 {p.id}", document_id=f"더 {p.id}") for p in some_passages()[1:3]]
    with ShardFolder.existing(copy.with_name("chroma_db.shards") / "notes") as shards:
        shards.write(passages, encoder.encode_passages([p.text for p in passages]))
    found = look(copy)
    # Since the copy lies elsewhere, nothing is known to have been loaded into it.
    assert "3 shards have not been loaded into it yet: run the same" in found["loading"].detail
    assert "40 passages" in found["count"].detail
    assert "2 passages are missing" in found["ids"].detail


def test_another_space_and_another_fingerprint(copy: Path, encoder: KoE5Encoder) -> None:
    """A collection of other settings is not sound though its rows may be the same."""
    with chromadb.PersistentClient(copy) as client:
        metadata = {"koe5:fingerprint": "f" * 32, "koe5:fingerprint_fields": '{"pooling": "cls"}'}
        client.delete_collection("notes")
        client.create_collection("notes", embedding_function=None, metadata=metadata)
    found = look(copy)
    assert found["space"].detail.startswith("distance is measured by 'l2'")
    assert "pooling: 'cls' there, 'mean' here" in found["fingerprint"].detail
    assert found["search"].ok is False


def test_texts_that_the_vectors_are_not_of(tmp_path: Path, encoder: KoE5Encoder) -> None:
    """Vectors that the model does not make of the texts are noticed, if the model is at hand."""
    passages = some_passages()[:4]
    database = tmp_path / "chroma_db"
    shards = tmp_path / "chroma_db.shards" / "notes"
    with (
        ShardFolder(shards, fingerprint=encoder.fingerprint, dim=encoder.dim) as opened,
        ChromaStore("notes", encoder, persist_dir=database) as store,
    ):
        opened.write(passages, encoder.encode_passages([f"{p.text} 아님" for p in passages]))
        load(opened, store)
    found = look(database)
    assert found["content"].ok
    assert "embedded anew has a cosine of" in found["encoder"].detail
    other = make_static(tmp_path / "other", seed=5)
    found = look(database, model=str(other))
    assert found["encoder"].ok is None
    assert "the model at hand is not that of the shards: weights: " in found["encoder"].detail
    found = look(database, model=str(tmp_path / "gone"))
    assert found["encoder"].ok is None
    assert "there is no such folder" in found["encoder"].detail


def test_nothing_ingested_is_sound(tmp_path: Path, encoder: KoE5Encoder) -> None:
    """An empty collection of empty shards is what it should be."""
    shards = tmp_path / "chroma_db.shards" / "notes"
    ShardFolder(shards, fingerprint=encoder.fingerprint, dim=encoder.dim).close()
    ChromaStore("notes", encoder, persist_dir=tmp_path / "chroma_db").close()
    found = look(tmp_path / "chroma_db")
    assert found.pop("encoder").ok is None
    assert all(check.ok for check in found.values())


def test_vectors_of_shards_are_checked(tmp_path: Path, encoder: KoE5Encoder) -> None:
    """A vector that is not of unit length, where the model's are, makes the shards unsound."""
    passages = some_passages()[:3]
    vectors = encoder.encode_passages([p.text for p in passages])
    vectors[1] *= 0.5
    with ShardFolder(tmp_path, fingerprint=encoder.fingerprint, dim=encoder.dim) as shards:
        shards.write(passages, vectors)
    with ExitStack() as opened:
        truth = Truth(tmp_path, opened.enter_context(IdSets()), Sample(2), opened)
        ok, detail = truth.read()
    assert not ok
    assert "the vector of passage '문서 1' is not of unit length" in detail


def test_a_sample_is_drawn_evenly(encoder: KoE5Encoder) -> None:
    """Of any number of passages so many are kept, with their vectors, from all over."""
    sample = Sample(200)
    passages = [replace(some_passages()[0], id=str(i)) for i in range(1000)]
    vectors = np.arange(1000, dtype=np.float32).reshape(-1, 1)
    for start in range(0, 1000, 100):
        sample.add(passages[start : start + 100], vectors[start : start + 100])
    numbers = [int(passage.id) for passage in sample.passages]
    assert numbers == sample.vectors[:, 0].astype(int).tolist()
    assert len(set(numbers)) == 200
    assert 350 < np.mean(numbers) < 650
