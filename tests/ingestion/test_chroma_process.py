"""A collection that a process of its own loads: what is stored, and who of the two dies when."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("chromadb")
pytest.importorskip("filelock")

import chromadb
from chroma_samples import numbered, passages_named, vectors_of

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import LockedError, StoreError
from koe5_integrations.ingestion.locking import FolderLock, deputy_lock
from koe5_integrations.ingestion.stores import chroma as of_chroma
from koe5_integrations.ingestion.stores import chroma_process
from koe5_integrations.ingestion.stores.chroma import ChromaStore
from koe5_integrations.ingestion.stores.chroma_process import ChromaProcess

# Loads 5,000 rows at a time until it is killed, and says so first.
LOADING = """
import sys
sys.path.insert(0, sys.argv[3])
from chroma_samples import numbered, vectors_of
from koe5_integrations import KoE5Encoder
from koe5_integrations.ingestion.stores import chroma
from test_chroma_process import go_away
chroma._PROCESS_AFTER = 0
with chroma.ChromaStore("notes", KoE5Encoder(sys.argv[1]), persist_dir=sys.argv[2]) as store:
    print(go_away(store)._child.pid, flush=True)
    for start in range(0, 1_000_000, 5000):
        store.upsert(numbered(5000, start=start), vectors_of(5000, seed=start))
        print(start, flush=True)
"""


@pytest.fixture
def store(
    folder: Path, encoder: KoE5Encoder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ChromaStore]:
    """A store that leaves at the first opportunity."""
    monkeypatch.setattr(of_chroma, "_PROCESS_AFTER", 0)
    with ChromaStore("notes", encoder, persist_dir=folder) as opened:
        yield opened


def go_away(store: ChromaStore) -> ChromaProcess:
    """Store a passage, which a process does."""
    store.upsert(passages_named("first", stale="x"), vectors_of(1))
    assert store._process is not None
    return store._process


def ended(pid: int) -> bool:
    """Whether no such process is left, waiting a little."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_what_it_stores_is_what_this_process_would(store: ChromaStore) -> None:
    """Text, vectors and metadata are replaced, rows deleted and counted, and all is read here."""
    process = go_away(store)
    vectors = vectors_of(3000, seed=1)
    store.upsert(numbered(3000), vectors)
    store.upsert(passages_named("first", fresh=True), vectors_of(1, seed=2))
    store.delete([f"p{i}" for i in range(0, 3000, 2)])
    assert store.count() == 1501
    assert store._process is process
    assert sorted(id for page in store.ids() for id in page) == sorted(
        ["first", *(f"p{i}" for i in range(1, 3000, 2))]
    )
    assert store._process is None
    got: Any = store.collection.get(
        ["first", "p7"], include=["documents", "metadatas", "embeddings"]
    )
    row = dict(zip(got["ids"], zip(got["documents"], got["metadatas"], strict=True), strict=True))
    of_document = {"document_id": "first", "chunk": 0, "chunks": 1}
    assert row["first"] == ("first번 글", {"fresh": True, **of_document})
    assert row["p7"][0] == "p7번 글"
    np.testing.assert_array_equal(np.float32(got["embeddings"][got["ids"].index("p7")]), vectors[7])
    found = store.collection.query(query_embeddings=vectors[7:8], n_results=1)
    assert found["ids"] == [["p7"]]


def test_it_comes_back_to_begin_anew_and_may_leave_again(store: ChromaStore) -> None:
    """A reset while the process has the database empties it; loading then goes on as before."""
    key = store.key
    go_away(store)
    store.reset()
    assert store.key != key
    assert store.count() == 0
    go_away(store)
    assert store.count() == 1


def test_a_few_passages_need_no_process(folder: Path, encoder: KoE5Encoder) -> None:
    """Starting one is for collections that take longer to load than it takes to start."""
    with ChromaStore("notes", encoder, persist_dir=folder) as store:
        for start in range(0, 4000, 100):
            store.upsert(numbered(100, start=start), vectors_of(100))
        assert store._process is None


def test_clients_of_this_process_are_not_left_behind(
    folder: Path, encoder: KoE5Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has the folder open in this process, and would not see another's rows, finds them all."""
    monkeypatch.setattr(of_chroma, "_PROCESS_AFTER", 0)
    with chromadb.PersistentClient(str(folder)) as mine:
        with ChromaStore("notes", encoder, persist_dir=folder) as store:
            for start in range(0, 400, 100):
                store.upsert(numbered(100, start=start), vectors_of(100, seed=start))
            assert store._process is None
        found = mine.get_collection("notes", embedding_function=None).query(
            query_embeddings=vectors_of(1, seed=300), n_results=1
        )
        assert found["ids"] == [["p300"]]


def test_a_client_that_is_opened_meanwhile_is_warned_of(
    store: ChromaStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds an index without what is added later, which nothing else would tell."""
    go_away(store)
    with (
        chromadb.PersistentClient(str(folder)),
        caplog.at_level(logging.WARNING, "koe5_integrations"),
    ):
        store.close()
    assert "opened while it was being loaded" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("executable", "/nowhere/python"),
        ("executable", shutil.which("echo")),
        ("executable", "silent"),
        ("frozen", True),
    ],
)
def test_where_none_can_be_started_this_process_loads(
    store: ChromaStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: object,
) -> None:
    """It is only a matter of speed, so the log says it once and the work is done."""
    if value == "silent":
        value = tmp_path / "silent"
        value.write_text("#!/bin/sh\nexec sleep 600\n")
        value.chmod(0o755)
        monkeypatch.setattr(chroma_process, "_START_S", 0.2)
    monkeypatch.setattr(sys, name, str(value) if name == "executable" else value, raising=False)
    with caplog.at_level(logging.WARNING, "koe5_integrations"):
        for start in range(0, 300, 100):
            store.upsert(numbered(100, start=start), vectors_of(100, seed=start))
    assert store.count() == 300
    assert caplog.text.count("is loaded without a process: ") == 1


def test_chromas_refusals_arrive(store: ChromaStore) -> None:
    """An error is the store's, in Chroma's words, and what comes after it is stored."""
    go_away(store)
    with pytest.raises(StoreError, match=r"'notes': .*dimension of 16, got 8"):
        store.upsert(numbered(1), vectors_of(1, dim=8))
    store.upsert(numbered(2), vectors_of(2))
    assert store.count() == 3


@pytest.mark.parametrize("moment", ["idle", "closing"])
def test_the_death_of_the_process_is_an_error(
    folder: Path, encoder: KoE5Encoder, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Whoever killed it and when: it is told, so that the index is looked at before it is used."""
    monkeypatch.setattr(of_chroma, "_PROCESS_AFTER", 0)
    store = ChromaStore("notes", encoder, persist_dir=folder)
    process = go_away(store)
    process._child.send_signal(signal.SIGKILL)
    if moment == "closing":
        with pytest.raises(StoreError, match=r"ended by SIGKILL; .*--rebuild"):
            store.close()
    else:
        with pytest.raises(StoreError, match=r"ended by SIGKILL; .*--rebuild"):
            store.upsert(numbered(2), vectors_of(2))
        store.close()
    with ChromaStore("notes", encoder, persist_dir=folder) as again:
        assert again.count() == 1


def test_interrupts_are_for_its_parent(store: ChromaStore) -> None:
    """Ctrl-C reaches every process of a terminal; this one ends what it has at hand."""
    process = go_away(store)
    for number in (signal.SIGINT, signal.SIGTERM):
        process._child.send_signal(number)
    store.upsert(numbered(2), vectors_of(2))
    assert store.count() == 3


def test_it_ends_what_it_has_at_hand_where_its_parent_is_killed(
    folder: Path, encoder: KoE5Encoder, static_model: Path
) -> None:
    """Who comes next waits for it, finds whole batches, and no process is left."""
    arguments = [sys.executable, "-c", LOADING, static_model, folder, Path(__file__).parents[1]]
    here = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | here,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "0\n"
        time.sleep(0.1)  # into the next batch
        parent.kill()
        parent.wait()
        with ChromaStore("notes", encoder, persist_dir=folder) as store:
            assert store.count() % 5000 == 1
            assert store.count() > 5000
            found = store.collection.query(query_embeddings=vectors_of(1), n_results=2)
            assert sorted(found["ids"][0]) == ["first", "p0"]
        assert ended(pid)
        assert parent.stderr is not None
        assert parent.stderr.read() == ""


def test_nobody_writes_beside_one_that_outlives_its_parent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's lock is refused for as long as the deputy of a killed holder has its own."""
    monkeypatch.setattr("koe5_integrations.ingestion.locking._DEPUTY_S", 0.1)
    folder.mkdir()
    lock = FolderLock(folder, "시험")
    refused = pytest.raises(LockedError, match="started by one which has been killed")
    with deputy_lock(folder), refused:
        lock.acquire()
    with lock:
        pass
