"""Collections of all makes migrated: what is kept, what is checked, and what a crash leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chroma_samples import free_port, start_server
from tiny_models import KOREAN, make_static

pytest.importorskip("chromadb")
pytest.importorskip("filelock")
pytest.importorskip("pyarrow")

import chromadb
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import open_collection
from koe5_integrations.errors import (
    CollectionError,
    ConfigError,
    FingerprintMismatchError,
    LockedError,
    StoreError,
)
from koe5_integrations.ingestion import rebuild
from koe5_integrations.ingestion.diagnosis import diagnose
from koe5_integrations.ingestion.locking import FolderLock
from koe5_integrations.ingestion.migration import migrate, plan_migration
from koe5_integrations.ingestion.shards import ShardFolder

N = 150
TEXTS = [f"{KOREAN[i % 5]} {i}번" for i in range(N)]
IDS = [f"글#{i}" for i in range(N)]


@pytest.fixture
def encoder(static_model: Path) -> KoE5Encoder:
    return KoE5Encoder(static_model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "db"


Make = Callable[..., None]


@pytest.fixture
def make(folder: Path, static_model: Path) -> Make:
    """Make the collection ``notes`` without prefixes, in l2, with metadata of every kind."""

    def collection(texts: Any = TEXTS, ids: Any = IDS, name: str = "notes") -> None:
        plain = KoE5Encoder(static_model, passage_prompt="")
        metadatas: list[Any] = [{"쪽": i, "태그": ["ㄱ", "ㄴ"], "a": 0.5} for i in range(len(ids))]
        metadatas[0] = None
        with chromadb.PersistentClient(folder) as client:
            made = client.create_collection(
                name, embedding_function=None, metadata={"owner": "people"}
            )
            vectors = plain.encode_passages(
                [text if text and "\u3164" not in text else "없음" for text in texts]
            )
            made.add(ids=ids, documents=texts, embeddings=vectors, metadatas=metadatas)

    return collection


def names(folder: Path) -> list[str]:
    with chromadb.PersistentClient(folder) as client:
        return sorted(collection.name for collection in client.list_collections())


def content(folder: Path, name: str) -> dict[str, tuple[Any, Any]]:
    with chromadb.PersistentClient(folder) as client:
        got = client.get_collection(name, embedding_function=None).get()
    texts, metadatas = got["documents"] or [], got["metadatas"] or []
    return dict(zip(got["ids"], zip(texts, metadatas, strict=True), strict=True))


def before_of(name: str, folder: Path) -> str:
    (before,) = (each for each in names(folder) if each.startswith(f"{name}.before-"))
    return before


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


def test_rows_without_text_are_not_lost_in_silence(
    make: Make, folder: Path, encoder: KoE5Encoder
) -> None:
    """They stop the migration before anything is embedded, unless their loss is allowed."""
    texts: list[Any] = list(TEXTS)
    texts[3], texts[70] = None, " \u3164"
    make(texts=texts)
    with pytest.raises(CollectionError, match=r"2 of the 150 rows .* allow_loss=True") as caught:
        migrate("notes", encoder=encoder, persist_dir=folder)
    assert encoder.computed == 0
    assert names(folder) == ["notes", "notes.migrating"]
    quarantine = folder.with_name("db.shards") / "notes.migrating" / "quarantine.jsonl"
    assert str(quarantine) in str(caught.value)
    result = migrate("notes", encoder=encoder, persist_dir=folder, allow_loss=True)
    assert result.left_out == 2
    assert result.quarantine is not None
    lines = [json.loads(line) for line in result.quarantine.read_text("utf-8").splitlines()]
    assert [line["id"] for line in lines] == [IDS[3], IDS[70]]
    assert "no text" in lines[0]["reason"]
    assert content(folder, "notes").keys() == set(IDS) - {IDS[3], IDS[70]}


def test_a_text_that_cannot_be_embedded_is_left_out_alone(
    make: Make, folder: Path, static_model: Path
) -> None:
    """What only embedding shows stops the swap; allowed, exactly that row is left out."""
    strict = KoE5Encoder(static_model, max_seq_length=40, on_truncation="error")
    texts = list(TEXTS)
    texts[99] = "겨울 " * 60
    make(texts=texts)
    with pytest.raises(CollectionError, match="1 of the 150 rows"):
        migrate("notes", encoder=strict, persist_dir=folder)
    result = migrate("notes", encoder=strict, persist_dir=folder, allow_loss=True)
    assert (result.left_out, result.unchanged) == (1, N - 1)
    assert content(folder, "notes").keys() == set(IDS) - {IDS[99]}


def test_long_and_prefixed_texts_are_counted(make: Make, folder: Path, static_model: Path) -> None:
    """What is cut, and what brings a prefix of its own, is in the result."""
    short = KoE5Encoder(static_model, max_seq_length=40)
    make(texts=["겨울 " * 60, "passage: 봄", *TEXTS[2:]])
    result = migrate("notes", encoder=short, persist_dir=folder)
    assert (result.cut, result.prefixed) == (1, 1)
    assert result.cut_tokens > 20


def test_what_changes_between_two_runs_is_taken_in(
    make: Make, folder: Path, encoder: KoE5Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run after an interrupted one embeds what changed, and drops what was deleted."""
    make()
    from koe5_integrations.ingestion.migration import migrate as module

    def interrupt(*args: Any, **kw: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[module.__module__], "check_copy", interrupt)
        with pytest.raises(KeyboardInterrupt):
            migrate("notes", encoder=encoder, persist_dir=folder)
    with chromadb.PersistentClient(folder) as client:
        old = client.get_collection("notes", embedding_function=None)
        old.delete(IDS[:5])
        old.update(ids=IDS[5:7], documents=["겨울", "여름"], embeddings=[[0.0] * 16] * 2)
    changed = content(folder, "notes")
    result = migrate("notes", encoder=encoder, persist_dir=folder)
    assert (result.rows, result.embedded, result.unchanged) == (N - 5, 2, N - 7)
    assert content(folder, "notes") == changed


def test_other_settings_do_not_go_on_with_a_begun_migration(
    make: Make, folder: Path, encoder: KoE5Encoder, static_model: Path
) -> None:
    """Two models are not mixed: the second is refused, and may begin anew."""
    make(texts=[None, *TEXTS[1:]])
    with pytest.raises(CollectionError):
        migrate("notes", encoder=encoder, persist_dir=folder)
    other = KoE5Encoder(static_model, passage_prompt="문서: ")
    with pytest.raises(FingerprintMismatchError, match=r"unfinished .* --restart"):
        migrate("notes", encoder=other, persist_dir=folder, allow_loss=True)
    result = migrate("notes", encoder=other, persist_dir=folder, allow_loss=True, restart=True)
    assert result.embedded == N - 1


def test_a_copy_that_is_not_whole_is_not_swapped_in(
    make: Make, folder: Path, encoder: KoE5Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that loses rows, texts or vectors is noticed, and the old collection stays."""
    make()
    from koe5_integrations.ingestion.stores.chroma import ChromaStore

    upsert = ChromaStore.upsert

    def lose(self: ChromaStore, passages: Any, vectors: Any) -> None:
        upsert(self, passages[1:], vectors[1:])

    def swap_vectors(self: ChromaStore, passages: Any, vectors: Any) -> None:
        upsert(self, passages, np.roll(vectors, 1, axis=0))

    for fault, problem in [(lose, "rows were to be copied"), (swap_vectors, "not of its text")]:
        with monkeypatch.context() as patch:
            patch.setattr(ChromaStore, "upsert", fault)
            with pytest.raises(StoreError, match=problem):
                migrate("notes", encoder=encoder, persist_dir=folder, restart=True)
        assert "notes" in names(folder)
        with chromadb.PersistentClient(folder) as client:
            old = client.get_collection("notes", embedding_function=None)
            assert old.configuration_json["hnsw"]["space"] == "l2"


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


# Crashes

# What kills the process: which call of what, whether it has done its work by then; and how many
# rows the next run has to embed, if that is certain.
POINTS: dict[str, tuple[str, int, bool, int | None]] = {
    "while embedding": ("embed_each", 3, False, N - 80),
    "while loading": ("upsert", 2, True, None),
    "after the old one is renamed": ("modify", 2, True, 0),
    "before the shards are renamed": ("rename", 1, False, 0),
}

# Forks for each job, because imports take most of the time.
CRASH = """
import json, os, pathlib, signal, sys
from chromadb.api.models.Collection import Collection
from koe5_integrations import KoE5Encoder
from koe5_integrations.ingestion.migration import copying, migrate

owners = {"embed_each": copying, "upsert": Collection, "modify": Collection, "rename": pathlib.Path}
copying._FEWEST = copying._MOST = 40

def crash(folder, model, name, nth, after):
    call, calls = getattr(owners[name], name), 0
    def killing(*args, **kw):
        nonlocal calls
        calls += 1
        if calls == nth and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*args, **kw)
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owners[name], name, killing)
    migrate("notes", encoder=KoE5Encoder(model), persist_dir=folder)

for job in json.loads(sys.argv[1]):
    pid = os.fork()
    if not pid:
        try:
            crash(*job)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, job
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_any_point_it_is_finished_by_the_next_run(
    make: Make, folder: Path, encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """After kill -9 either collection has the name, and the next run embeds nothing twice."""
    make()
    old = content(folder, "notes")
    folders = {point: tmp_path / point / "db" for point in POINTS}
    for copy in folders.values():
        shutil.copytree(folder, copy)
    jobs = [
        (str(folders[point]), encoder.model, name, nth, after)
        for point, (name, nth, after, _) in POINTS.items()
    ]
    subprocess.run([sys.executable, "-c", CRASH, json.dumps(jobs)], check=True, timeout=60)
    for point, crashed in folders.items():
        there = names(crashed)
        assert ("notes" in there) is (point != "after the old one is renamed"), point
        result = migrate("notes", encoder=encoder, persist_dir=crashed)
        assert result.embedded == POINTS[point][3] or POINTS[point][3] is None, point
        before = before_of("notes", crashed)
        assert names(crashed) == ["notes", before], point
        assert content(crashed, "notes") == content(crashed, before) == old, point
        with ShardFolder.existing(result.shards) as shards:
            assert shards.count() == (N, N), point
        assert [path.name for path in result.shards.parent.iterdir()] == ["notes"], point


# Frameworks


def test_a_langchain_store_goes_on_with_the_new_collection(
    folder: Path, encoder: KoE5Encoder
) -> None:
    """What LangChain stored is found through LangChain afterwards, with cosine scores."""
    langchain_chroma = pytest.importorskip("langchain_chroma")
    from koe5_integrations.langchain import KoE5Embeddings

    with chromadb.PersistentClient(folder) as client:
        plain = KoE5Embeddings(model=encoder.model, passage_prompt="", query_prompt="")
        store = langchain_chroma.Chroma("notes", plain, client=client)
        store.add_texts(TEXTS, metadatas=[{"쪽": i} for i in range(N)], ids=IDS)
    migrate("notes", encoder=encoder, persist_dir=folder)
    with chromadb.PersistentClient(folder) as client:
        right = KoE5Embeddings(model=encoder.model)
        store = langchain_chroma.Chroma("notes", right, client=client)
        (found, distance), *_ = store.similarity_search_with_score(TEXTS[7], k=3)
        scores = encoder.encode_passages(TEXTS) @ encoder.encode_queries([TEXTS[7]])[0]
        assert distance == pytest.approx(1 - scores.max(), abs=1e-4)
        assert found.metadata == {"쪽": IDS.index(found.id)}


def test_llama_index_nodes_stay_nodes(folder: Path, encoder: KoE5Encoder) -> None:
    """A node's relations survive, so that its document can still be deleted by its id."""
    pytest.importorskip("llama_index.vector_stores.chroma")
    from llama_index.core import Document, StorageContext, VectorStoreIndex
    from llama_index.vector_stores.chroma import ChromaVectorStore

    from koe5_integrations.llama_index import KoE5Embedding

    plain = KoE5Embedding(model_name=encoder.model, passage_prompt="", query_prompt="")
    with chromadb.PersistentClient(folder) as client:
        made = client.create_collection("notes", embedding_function=None)
        VectorStoreIndex.from_documents(
            [Document(text=text, id_=f"d{i}") for i, text in enumerate(TEXTS[:10])],
            storage_context=StorageContext.from_defaults(
                vector_store=ChromaVectorStore(chroma_collection=made)
            ),
            embed_model=plain,
        )
    old = content(folder, "notes")
    migrate("notes", encoder=encoder, persist_dir=folder)
    assert content(folder, "notes") == old
    with chromadb.PersistentClient(folder) as client:
        new = ChromaVectorStore(chroma_collection=open_collection(client, "notes", encoder))
        new.delete("d3")
    assert len(content(folder, "notes")) == 9


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ClientAPI]:
    port = free_port()
    process = start_server(tmp_path / "served", port)
    with chromadb.HttpClient(host="127.0.0.1", port=port) as client:
        yield client
    process.kill()
    process.wait()


def test_a_served_collection_is_migrated(
    server: ClientAPI, tmp_path: Path, encoder: KoE5Encoder
) -> None:
    """On a server the same happens; the shards are where they were asked for."""
    plain: Collection = server.create_collection("notes", embedding_function=None)
    vectors = KoE5Encoder(encoder.model, passage_prompt="").encode_passages(TEXTS)
    plain.add(ids=IDS, documents=TEXTS, embeddings=vectors)
    url = f"http://127.0.0.1:{server.get_settings().chroma_server_http_port}"
    with pytest.raises(ConfigError, match="shards= is needed"):
        migrate("notes", encoder=encoder, url=url)
    result = migrate("notes", encoder=encoder, url=url, shards=tmp_path / "shards")
    there = {collection.name: collection.count() for collection in server.list_collections()}
    assert there == {"notes": N, result.before: N}
    new = open_collection(server, "notes", encoder)
    assert diagnose(new, encoder).made == {"right": N}
    with ShardFolder.existing(tmp_path / "shards") as shards:
        assert shards.count() == (N, N)
