"""Collections of all makes migrated: what is kept, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import make_static

pytest.importorskip("chromadb")
pytest.importorskip("filelock")
pytest.importorskip("pyarrow")

import chromadb
from migrated import TEXTS, N, before_of, content, names

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import open_collection
from koe5_integrations.errors import CollectionError, ConfigError, LockedError
from koe5_integrations.ingestion import rebuild
from koe5_integrations.ingestion.diagnosis import diagnose
from koe5_integrations.ingestion.locking import FolderLock
from koe5_integrations.ingestion.migration import migrate, plan_migration
from koe5_integrations.ingestion.shards import ShardFolder

Make = Callable[..., None]


def test_the_new_collection_takes_the_old_ones_place(
    make: Make, folder: Path, encoder: KoE5Encoder
) -> None:
    """Ids, texts and metadata are kept, vectors are right, and the old one is kept beside it."""
    make()
    old = content(folder, "notes")
    result = migrate("notes", encoder=encoder, persist_dir=folder)
    assert (result.rows, result.embedded, result.loaded, result.left_out) == (N, N, N, 0)
    assert names(folder) == ["notes", result.before]
    assert result.before == before_of("notes", folder)
    assert content(folder, "notes") == content(folder, result.before) == old
    with chromadb.PersistentClient(folder) as client:
        new = open_collection(client, "notes", encoder)
        diagnosis = diagnose(new, encoder)
        assert new.metadata["owner"] == "people"
    assert (diagnosis.made, diagnosis.findings) == ({"right": N}, [])
    with ShardFolder.existing(folder.with_name("db.shards") / "notes") as shards:
        assert shards.count() == (N, N)
        assert shards.path == result.shards
        assert shards.clean


def test_its_shards_make_it_anew(make: Make, folder: Path, encoder: KoE5Encoder) -> None:
    """Rebuilt from its shards, the new collection has the rows and metadata of the old one."""
    make()
    old = content(folder, "notes")
    migrate("notes", encoder=encoder, persist_dir=folder)
    rebuild(encoder=encoder, persist_dir=folder, collection="notes")
    assert content(folder, "notes") == old


def test_a_new_name_leaves_the_old_collection_alone(
    make: Make, folder: Path, encoder: KoE5Encoder
) -> None:
    """With ``to`` nothing is renamed, and a name that is taken is refused before anything else."""
    make()
    old = content(folder, "notes")
    result = migrate("notes", encoder=encoder, persist_dir=folder, to="notes-2")
    assert names(folder) == ["notes", "notes-2"]
    assert result.before is None
    assert content(folder, "notes") == content(folder, "notes-2") == old
    make(name="other")
    with pytest.raises(CollectionError, match="'notes' already"):
        migrate("other", encoder=encoder, persist_dir=folder, to="notes")
    with pytest.raises(ConfigError, match="is the collection itself"):
        migrate("notes", encoder=encoder, persist_dir=folder, to="notes")


def test_done_twice_it_is_done_once(make: Make, folder: Path, encoder: KoE5Encoder) -> None:
    """A second run embeds nothing; asked to, it deletes the old collection, and then no other."""
    make()
    migrate("notes", encoder=encoder, persist_dir=folder)
    again = migrate("notes", encoder=encoder, persist_dir=folder)
    assert (again.already, again.embedded, again.before) == (True, 0, before_of("notes", folder))
    dropped = migrate("notes", encoder=encoder, persist_dir=folder, drop_old=True)
    assert (dropped.already, dropped.before) == (True, None)
    assert names(folder) == ["notes"]


def test_a_collection_can_be_migrated_again_to_another_model(
    make: Make, folder: Path, encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """The shards of the first migration go with the collection they belong to."""
    make()
    first = migrate("notes", encoder=encoder, persist_dir=folder)
    other = KoE5Encoder(make_static(tmp_path / "other", dim=8, seed=3))
    second = migrate("notes", encoder=other, persist_dir=folder)
    assert first.before != second.before
    assert names(folder) == sorted(["notes", first.before, second.before])
    shards = folder.with_name("db.shards")
    assert sorted(path.name for path in shards.iterdir()) == ["notes", second.before]
    with ShardFolder.existing(shards / "notes") as new:
        assert new.dim == 8
    with ShardFolder.existing(shards / str(second.before)) as old:
        assert old.dim == encoder.dim


def test_what_is_deleted_leaves_nothing_behind(
    make: Make, folder: Path, encoder: KoE5Encoder
) -> None:
    """Lists in the metadata of the dropped collection do not turn up in the next one's rows.

    They do if a collection is deleted with its rows: https://github.com/chroma-core/chroma/issues/7594
    """
    make()
    result = migrate("notes", encoder=encoder, persist_dir=folder, drop_old=True)
    assert (result.before, names(folder)) == (None, ["notes"])
    migrate("notes", encoder=encoder, persist_dir=folder, to="copy", drop_old=True)
    assert names(folder) == ["copy"]
    with chromadb.PersistentClient(folder) as client:
        clean = client.create_collection("clean", embedding_function=None)
        clean.add(ids=["1", "2"], embeddings=[[1.0, 2.0], [2.0, 1.0]], documents=["ㄱ", "ㄴ"])
        assert clean.get()["metadatas"] == [None, None]


def test_equal_texts_are_embedded_once(make: Make, folder: Path, encoder: KoE5Encoder) -> None:
    """Rows of equal texts share a vector, and stay rows of their own."""
    make(texts=[TEXTS[i % 10] for i in range(N)])
    result = migrate("notes", encoder=encoder, persist_dir=folder)
    assert (result.embedded, result.reused) == (10, N - 10)
    assert len(content(folder, "notes")) == N


def test_long_and_prefixed_texts_are_counted(make: Make, folder: Path, static_model: Path) -> None:
    """What is cut, and what brings a prefix of its own, is in the result."""
    short = KoE5Encoder(static_model, max_seq_length=40)
    make(texts=["겨울 " * 60, "passage: 봄", *TEXTS[2:]])
    result = migrate("notes", encoder=short, persist_dir=folder)
    assert (result.cut, result.prefixed) == (1, 1)
    assert result.cut_tokens > 20


def test_nothing_is_made_where_nothing_is(folder: Path, make: Make, encoder: KoE5Encoder) -> None:
    """A mistyped name, a folder without a database and one in use are refused as they are."""
    with pytest.raises(CollectionError, match="holds no Chroma database"):
        migrate("notes", encoder=encoder, persist_dir=folder)
    assert not folder.exists()
    make()
    with pytest.raises(CollectionError, match="no collection 'nots'; there are: 'notes'"):
        migrate("nots", encoder=encoder, persist_dir=folder)
    with FolderLock(folder, "koe5 ingest"), pytest.raises(LockedError):
        migrate("notes", encoder=encoder, persist_dir=folder)
    assert names(folder) == ["notes"]
    assert not folder.with_name("db.shards").exists()


def test_a_plan_writes_nothing(make: Make, folder: Path, encoder: KoE5Encoder) -> None:
    """A dry run counts rows, losses, repetitions and tokens, and estimates the time."""
    make(texts=[None, "", *[TEXTS[i % 100] for i in range(2, N)]])
    plan = plan_migration("notes", encoder=encoder, persist_dir=folder)
    assert (plan.rows, plan.left_out, plan.repeated) == (N, 2, N - 102)
    assert plan.tokens > plan.rows
    assert plan.bytes == (N - 2) * encoder.dim * 4
    assert plan.seconds > 0
    assert names(folder) == ["notes"]
    assert not folder.with_name("db.shards").exists()
