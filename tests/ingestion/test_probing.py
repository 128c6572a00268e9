"""probe() on real collections, sound and damaged in the ways that a killed process leaves them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("chromadb")
pytest.importorskip("filelock")

import chromadb
from chroma_samples import (
    DAMAGES,
    free_port,
    index_folder,
    numbered,
    scramble,
    start_server,
    vectors_of,
)

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import open_collection
from koe5_integrations.ingestion.probing import ProbeResult, probe
from koe5_integrations.ingestion.stores.chroma import ChromaStore

N = 120


def fill(client: chromadb.ClientAPI, name: str = "notes") -> None:
    """Make a collection whose index is on disk up to the last rows, which are in Chroma's log."""
    hnsw = {"space": "cosine", "sync_threshold": 50}
    collection = client.create_collection(
        name, embedding_function=None, configuration={"hnsw": hnsw}
    )
    vectors = vectors_of(N)
    for start in range(0, N, 30):
        ids = [f"p{i}" for i in range(start, start + 30)]
        collection.upsert(ids=ids, embeddings=vectors[start : start + 30], documents=ids)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    with chromadb.PersistentClient(folder) as client:
        fill(client)
        fill(client, "other")
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(sound, tmp_path / "chroma_db")


def test_what_is_not_there_is_not_damaged(sound: Path, tmp_path: Path) -> None:
    """An unknown collection has no count, nor has a folder without a database, which stays so."""
    assert probe(sound, "nothing") == ProbeResult(True, None)
    assert probe(tmp_path, "notes") == ProbeResult(True, None)
    assert probe(tmp_path / "nowhere", "notes") == ProbeResult(True, None)
    assert list(tmp_path.iterdir()) == []


# Chroma dies of the first, raises for the second, and silently finds less in the third.
@pytest.mark.parametrize("damage", ["vectors scrambled", "vectors blank", "index gone"])
def test_a_damaged_index_is_found_out(folder: Path, damage: str) -> None:
    """Whatever Chroma makes of the damage, the answer is that the collection is not readable."""
    DAMAGES[damage](index_folder(folder, "notes"))
    found = probe(folder, "notes")
    assert not found.readable
    assert found.count is None
    assert "failed: " in found.problem


def test_a_sound_collection_is_readable(folder: Path) -> None:
    """Its rows are counted, whatever has happened to another one in the same folder."""
    DAMAGES["index gone"](index_folder(folder, "notes"))
    assert probe(folder, "other") == ProbeResult(True, N)


def test_what_others_made_is_not_judged(tmp_path: Path) -> None:
    """A vector that is none in cosine space may stand in another; a torn index is still told."""
    with chromadb.PersistentClient(tmp_path) as client:
        hnsw = {"space": "l2", "sync_threshold": 50}
        made = client.create_collection(
            "notes", embedding_function=None, configuration={"hnsw": hnsw}
        )
        vectors = vectors_of(N)
        vectors[0] = 0
        made.add(ids=[f"p{i}" for i in range(N)], embeddings=vectors)
    assert "'p0' has no sound vector" in probe(tmp_path, "notes").problem
    assert probe(tmp_path, "notes", thorough=False) == ProbeResult(True, N)
    DAMAGES["vectors blank"](index_folder(tmp_path, "notes"))
    assert not probe(tmp_path, "notes", thorough=False).readable


def test_a_probe_is_made_while_the_store_is_open(folder: Path, static_model: Path) -> None:
    """The store that holds the lock waits for the probe, and is reset if need be."""
    encoder = KoE5Encoder(static_model)
    with chromadb.PersistentClient(folder) as client:
        client.delete_collection("notes")
        made = open_collection(client, "notes", encoder, hnsw={"sync_threshold": 50})
        made.upsert(ids=[f"p{i}" for i in range(N)], embeddings=vectors_of(N))
    DAMAGES["vectors scrambled"](index_folder(folder, "notes"))
    with ChromaStore("notes", encoder, persist_dir=folder) as store:
        assert not probe(folder, "notes").readable
        store.reset()
        store.upsert(numbered(3), vectors_of(3))
        assert probe(folder, "notes") == ProbeResult(True, 3)
        assert store.count() == 3


def test_a_broken_database_is_found_out(folder: Path) -> None:
    """A database file that is none is reported in Chroma's words."""
    scramble(folder / "chroma.sqlite3")
    found = probe(folder, "notes")
    assert not found.readable
    assert "opening its database failed" in found.problem
    assert "not a database" in found.problem


def test_a_process_that_dies_is_reported_by_its_signal(
    sound: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The crash of native code is a result and not a crash here."""
    # What is started in place of Chroma dies as native code does.
    (tmp_path / "chromadb").mkdir()
    (tmp_path / "chromadb" / "__init__.py").write_text("import os; os.abort()")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = probe(sound, "notes")
    assert not found.readable
    assert "the process died (SIGABRT)" in found.problem


def test_a_process_that_hangs_is_ended(sound: Path) -> None:
    """A step that is not done in time is reported, and nobody waits for its end."""
    found = probe(sound, "notes", patience=0.001)
    assert not found.readable
    assert "not done within 0.001 s" in found.problem


def test_the_child_ends_with_its_parent(sound: Path, tmp_path: Path) -> None:
    """When the process that probes is killed, nobody goes on reading the folder."""
    (tmp_path / "chromadb").mkdir()
    pid_file = tmp_path / "pid"
    waiting = (
        f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    (tmp_path / "chromadb" / "__init__.py").write_text(waiting)
    code = "import sys; from koe5_integrations.ingestion.probing import probe; probe(*sys.argv[1:])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    parent = subprocess.Popen([sys.executable, "-c", code, sound, "notes"], env=environment)
    deadline = time.monotonic() + 30
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while Path(f"/proc/{pid_file.read_text()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_server_is_probed_over_http(tmp_path: Path) -> None:
    """A served collection is read in the same way."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = start_server(tmp_path / "served", port)
    try:
        client = chromadb.HttpClient(host="127.0.0.1", port=port)
        fill(client)
        assert probe(url, "notes") == ProbeResult(True, N)
    finally:
        process.kill()
        process.wait()
