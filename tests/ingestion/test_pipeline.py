"""Documents to a searchable store, as its users call it."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingested import SENTENCES, check_sound, check_stored

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import (
    CollectionError,
    ConfigError,
    EncodingError,
    FingerprintMismatchError,
    LockedError,
    SourceError,
)
from koe5_integrations.ingestion import Summary, default_shards, ingest, rebuild, writing
from koe5_integrations.ingestion.each import embed_each
from koe5_integrations.ingestion.locking import FolderLock
from koe5_integrations.types import Vectors

DOCUMENTS = [{"id": f"d{i}", "text": text, "n": i} for i, text in enumerate(SENTENCES[:30])]


@pytest.fixture
def run(static_model: Path, tmp_path: Path) -> Callable[..., Summary]:
    """Ingest into ``chroma`` in the test's folder."""

    def ingest_here(documents: Any = None, *, sources: Any = None, **options: Any) -> Summary:
        options = {"encoder": str(static_model), "collection": "notes", **options}
        given = {"documents": documents} if sources is None else {}
        return ingest(sources, persist_dir=tmp_path / "chroma", **given, **options)

    return ingest_here


def quarantined(tmp_path: Path) -> list[dict[str, Any]]:
    path = tmp_path / "chroma.shards" / "notes" / "quarantine.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_documents_become_searchable(run: Callable[..., Summary], tmp_path: Path) -> None:
    """Each is stored once, with its metadata, and counted."""
    summary = run(DOCUMENTS, shard_size=8)
    assert (summary.new, summary.embedded) == (30, 30)
    assert (summary.to_load, summary.loaded) == (30, 30)
    assert (summary.documents, summary.passages, summary.shards) == (30, 30, 4)
    assert summary.quarantine is None
    check_sound(tmp_path, DOCUMENTS)


def test_a_second_run_does_nothing(run: Callable[..., Summary], tmp_path: Path) -> None:
    """What is stored is neither embedded nor written nor loaded again."""
    run(DOCUMENTS)
    summary = run(DOCUMENTS)
    assert (summary.unchanged, summary.new, summary.changed) == (30, 0, 0)
    assert (summary.embedded, summary.shards, summary.loaded) == (0, 0, 0)
    check_stored(tmp_path, DOCUMENTS)


def test_changed_documents_replace_what_was_stored(
    run: Callable[..., Summary], tmp_path: Path
) -> None:
    """Text and metadata are the new ones, with no key of the old left over."""
    run(DOCUMENTS)
    changed = [{"id": "d0", "text": SENTENCES[40], "author": "김"}, *DOCUMENTS[1:]]
    summary = run(changed)
    assert (summary.changed, summary.unchanged, summary.embedded) == (1, 29, 1)
    check_stored(tmp_path, changed)


def test_new_metadata_alone_needs_no_embedding(run: Callable[..., Summary], tmp_path: Path) -> None:
    """The vector of a text that any shard has is used again."""
    run(DOCUMENTS)
    moved = [{**document, "folder": "archive"} for document in DOCUMENTS]
    summary = run(moved)
    assert (summary.changed, summary.embedded, summary.reused) == (30, 0, 30)
    check_stored(tmp_path, moved)


def test_a_shorter_document_leaves_no_stale_passages(
    run: Callable[..., Summary], tmp_path: Path
) -> None:
    """A long document's passages go when it becomes a short one."""
    long = {"id": "long", "text": "\n\n".join(SENTENCES[:60])}
    summary = run([long], chunk_tokens=64)
    assert summary.passages > 5
    run([{"id": "long", "text": SENTENCES[0]}], chunk_tokens=64)
    check_stored(tmp_path, [{"id": "long", "text": SENTENCES[0]}])


def test_sync_removes_what_left_its_own_source(run: Callable[..., Summary], tmp_path: Path) -> None:
    """Documents of other sources stay, and so does everything without sync."""
    run(DOCUMENTS[:10], source="a")
    run(DOCUMENTS[10:20], source="b")
    run(DOCUMENTS[:5], source="a")
    check_stored(tmp_path, DOCUMENTS[:20])
    summary = run(DOCUMENTS[:5], source="a", sync=True)
    assert summary.removed == 5
    check_stored(tmp_path, [*DOCUMENTS[:5], *DOCUMENTS[10:20]])


def test_sync_does_not_take_an_empty_source_at_its_word(
    run: Callable[..., Summary], tmp_path: Path
) -> None:
    """A source with nothing in it is more likely gone than meant to be empty."""
    run(DOCUMENTS)
    with pytest.raises(SourceError, match="nothing was read"):
        run([], sync=True)
    check_stored(tmp_path, DOCUMENTS)


def test_sync_keeps_what_could_not_be_read(run: Callable[..., Summary], tmp_path: Path) -> None:
    """A document that can't be read today has not left its source."""
    source = tmp_path / "docs.jsonl"
    lines = [json.dumps(document) for document in DOCUMENTS[:4]]
    source.write_text("\n".join(lines), encoding="utf-8")
    run(sources=[source])
    named = json.dumps({"id": "d1", "text": None})
    source.write_text("\n".join([lines[0], named, lines[2]]), encoding="utf-8")
    summary = run(sources=[source], sync=True)
    assert (summary.quarantined, summary.removed, summary.not_synced) == (1, 1, [])
    source.write_text("\n".join([lines[0], "{", lines[2]]), encoding="utf-8")
    summary = run(sources=[source], sync=True)
    assert (summary.quarantined, summary.removed) == (1, 0)
    assert len(summary.not_synced) == 1


@pytest.mark.parametrize("at", [0, 17, 29])
def test_one_poison_document_is_quarantined_alone(
    at: int, run: Callable[..., Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever document the model fails at, the others of its batch are stored."""
    encode = KoE5Encoder.encode_passages

    def fails_at_poison(self: KoE5Encoder, texts: Any, **options: Any) -> Vectors:
        if any("독약" in text for text in texts):
            raise EncodingError("the model returned NaN or infinity for texts[?]")
        return encode(self, texts, **options)

    monkeypatch.setattr(KoE5Encoder, "encode_passages", fails_at_poison)
    poisoned = [*DOCUMENTS]
    poisoned[at] = {**poisoned[at], "text": "독약"}
    summary = run(poisoned)
    assert (summary.new, summary.quarantined) == (29, 1)
    (line,) = quarantined(tmp_path)
    assert line["id"] == f"d{at}"
    assert "NaN" in line["reason"]
    check_stored(tmp_path, [d for d in DOCUMENTS if d["id"] != f"d{at}"])


def test_a_mended_document_leaves_the_quarantine(
    run: Callable[..., Summary], tmp_path: Path
) -> None:
    """The next run stores it, and nothing more is said of it."""
    assert run([*DOCUMENTS[:3], {"id": "x", "text": "  "}]).quarantined == 1
    assert quarantined(tmp_path)[0]["id"] == "x"
    mended = [*DOCUMENTS[:3], {"id": "x", "text": SENTENCES[50]}]
    assert run(mended).quarantined == 0
    assert quarantined(tmp_path) == []
    check_stored(tmp_path, mended)


def test_an_id_given_twice(run: Callable[..., Summary], tmp_path: Path) -> None:
    """The same document again is skipped; another under its id is quarantined, in any slice."""
    again = [DOCUMENTS[0], {**DOCUMENTS[1], "text": "다른 글"}]
    summary = run([*DOCUMENTS, *again], shard_size=4)
    assert (summary.new, summary.duplicates, summary.quarantined) == (30, 1, 1)
    summary = run([*again[:1], *DOCUMENTS, *again])
    assert (summary.unchanged, summary.duplicates, summary.quarantined) == (30, 2, 1)
    check_stored(tmp_path, DOCUMENTS)


def test_equal_texts_are_embedded_once(run: Callable[..., Summary], tmp_path: Path) -> None:
    """Within a shard and across shards, under ids of their own."""
    copies = [{"id": f"c{i}", "text": SENTENCES[0]} for i in range(20)]
    summary = run(copies, shard_size=6)
    assert (summary.new, summary.embedded) == (20, 1)
    check_stored(tmp_path, copies)


def test_a_generator_is_read_once_and_not_ahead(run: Callable[..., Summary]) -> None:
    """Its items are taken as they are needed: memory does not grow with their number."""
    read = 0

    def documents() -> Iterator[dict[str, str]]:
        nonlocal read
        for i in range(5000):
            read += 1
            yield {"id": str(i), "text": f"{i}번째 문서입니다."}

    seen: list[tuple[int, int]] = []
    summary = run(
        documents(), shard_size=100, on_progress=lambda summary: seen.append((read, summary.new))
    )
    assert summary.new == 5000
    assert max(ahead - new for ahead, new in seen[:-1]) <= 1024 + 100


def test_documents_are_read_while_the_model_works(
    run: Callable[..., Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model on a GPU or a server does not wait for the documents that come next."""
    wanted = threading.Event()
    waited: list[bool] = []

    def documents() -> Iterator[dict[str, str]]:
        for i in range(3000):
            if i == 2000:
                wanted.set()
            yield {"id": str(i), "text": f"{i}번째 문서입니다."}

    def embed(encoder: KoE5Encoder, texts: Sequence[str]) -> Any:
        waited.append(wanted.wait(30))
        return embed_each(encoder, texts)

    monkeypatch.setattr(writing, "embed_each", embed)
    assert run(documents(), shard_size=1000).new == 3000
    assert waited == [True] * 3


def test_a_lost_store_is_loaded_again(run: Callable[..., Summary], tmp_path: Path) -> None:
    """The shards are the truth: who deletes the database has lost nothing."""
    run(DOCUMENTS)
    shutil.rmtree(tmp_path / "chroma")
    summary = run(DOCUMENTS[:1])
    assert (summary.embedded, summary.loaded) == (0, 30)
    check_stored(tmp_path, DOCUMENTS)


def test_rows_deleted_behind_its_back_come_back(
    run: Callable[..., Summary], tmp_path: Path
) -> None:
    """A run notices that the store holds less than it was given."""
    import chromadb

    run(DOCUMENTS)
    client = chromadb.PersistentClient(str(tmp_path / "chroma"))
    client.get_collection("notes", embedding_function=None).delete(["d3", "d4"])
    client.close()
    summary = run(DOCUMENTS)
    assert "2 passages were missing" in summary.rebuilt
    assert summary.embedded == 0
    check_stored(tmp_path, DOCUMENTS)


def test_rebuild_embeds_nothing(
    run: Callable[..., Summary], static_model: Path, tmp_path: Path
) -> None:
    """The collection is made anew from the shards."""
    run(DOCUMENTS)
    encoder = KoE5Encoder(static_model)
    summary = rebuild(encoder=encoder, persist_dir=tmp_path / "chroma", collection="notes")
    assert (summary.loaded, summary.passages, encoder.computed) == (30, 30, 0)
    assert summary.rebuilt == "asked for"
    check_sound(tmp_path, DOCUMENTS)


def test_rebuild_needs_shards(static_model: Path, tmp_path: Path) -> None:
    """A wrong folder is an error that names it, and nothing is made."""
    with pytest.raises(ValueError, match="no shards here"):
        rebuild(encoder=str(static_model), persist_dir=tmp_path / "chroma", collection="notes")
    assert not list(tmp_path.iterdir())


def test_another_model_is_refused(
    run: Callable[..., Summary], static_model: Path, tmp_path: Path
) -> None:
    """Vectors of two models never meet in one collection, and both sides are named."""
    run(DOCUMENTS)
    with pytest.raises(FingerprintMismatchError, match="koe5-mini"):
        run(DOCUMENTS, encoder="koe5-mini")
    with pytest.raises(FingerprintMismatchError, match="passage_prompt"):
        run(DOCUMENTS, encoder=KoE5Encoder(static_model, passage_prompt="document: "))
    check_stored(tmp_path, DOCUMENTS)


def test_a_collection_of_others_is_refused(run: Callable[..., Summary], tmp_path: Path) -> None:
    """Whatever is in it is left alone."""
    import chromadb

    client = chromadb.PersistentClient(str(tmp_path / "chroma"))
    client.create_collection("notes", embedding_function=None)
    client.close()
    with pytest.raises(CollectionError, match="notes"):
        run(DOCUMENTS)


def test_a_second_writer_is_refused(run: Callable[..., Summary], tmp_path: Path) -> None:
    """Before it reads or embeds anything, and the first one is named."""
    with (
        FolderLock(tmp_path / "chroma", "a test"),
        pytest.raises(LockedError, match="a test"),
    ):
        run(iter([pytest.fail]))
    assert run(DOCUMENTS).new == 30


def test_an_error_of_the_source_keeps_what_was_done(
    run: Callable[..., Summary], tmp_path: Path
) -> None:
    """Shards written before a generator broke are kept, and not embedded again."""

    def breaks() -> Iterator[dict[str, Any]]:
        yield from ({"id": f"n{i}", "text": f"{i}번 글"} for i in range(3000))
        raise ConnectionError("the database went away")

    with pytest.raises(ConnectionError):
        run(breaks(), shard_size=500)
    done = run(DOCUMENTS[:1]).documents - 1
    assert done == 2000  # of two slices of 1,024 documents, in shards of 500
    summary = run({"id": f"n{i}", "text": f"{i}번 글"} for i in range(3000))
    assert (summary.embedded, summary.unchanged) == (3000 - done, done)


def test_vectors_are_the_encoders(
    run: Callable[..., Summary], static_model: Path, tmp_path: Path
) -> None:
    """What is stored is what encode_passages returns."""
    import chromadb

    run(DOCUMENTS, shard_size=7)
    client = chromadb.PersistentClient(str(tmp_path / "chroma"))
    stored = client.get_collection("notes", embedding_function=None).get(include=["embeddings"])
    client.close()
    encoder = KoE5Encoder(static_model)
    texts = {document["id"]: document["text"] for document in DOCUMENTS}
    expected = encoder.encode_passages([texts[id] for id in stored["ids"]])
    np.testing.assert_allclose(stored["embeddings"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either sources= or documents="),
        ({"sources": "a.txt", "documents": []}, "either sources= or documents="),
        ({"documents": [], "collection": None}, "collection="),
        ({"documents": [], "url": "http://127.0.0.1:1"}, "give one of persist_dir="),
        ({"documents": [], "persist_dir": None, "url": "http://127.0.0.1:1"}, "shards= is needed"),
        ({"documents": [], "shard_size": 0}, "shard_size=0"),
        ({"documents": [], "chunk_tokens": 0}, "chunk_tokens=0"),
        ({"documents": [], "collection": "한글"}, "한글"),
    ],
)
def test_impossible_arguments(
    arguments: dict[str, Any], message: str, static_model: Path, tmp_path: Path
) -> None:
    """Each is refused with the remedy, before anything is made."""
    here = {"encoder": str(static_model), "persist_dir": tmp_path / "db", "collection": "notes"}
    with pytest.raises(ConfigError, match=message):
        ingest(**{**here, **arguments})
    assert not list(tmp_path.iterdir())


def test_shards_lie_beside_the_store() -> None:
    """So that deleting the store does not delete what it can be rebuilt from."""
    assert default_shards("/data/chroma_db/", "notes") == Path("/data/chroma_db.shards/notes")
