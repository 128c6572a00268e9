"""``koe5 doctor`` over real Chroma databases."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_models import KOREAN, make_static
from typer.testing import Result

pytest.importorskip("chromadb")
pytest.importorskip("filelock")

import chromadb

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import open_collection
from koe5_integrations.ingestion.existing import recorded_options
from koe5_integrations.ingestion.locking import FolderLock

Invoke = Callable[..., Result]

TEXTS = [f"{one} {other}" for one in KOREAN[:5] for other in KOREAN[:5]]


@pytest.fixture
def persist_dir(tmp_path: Path, static_model: Path) -> Path:
    """A database with a collection of ours, ``faq``, and one without prefixes, ``plain``."""
    path = tmp_path / "db"
    encoder = KoE5Encoder(static_model)
    with chromadb.PersistentClient(path) as client:
        ids = [f"글-{i}" for i in range(len(TEXTS))]
        open_collection(client, "faq", encoder).add(ids=ids, documents=TEXTS)
        vectors = KoE5Encoder(static_model, passage_prompt="").encode_passages(TEXTS)
        plain = client.create_collection("plain", embedding_function=None)
        plain.add(ids=ids, documents=TEXTS, embeddings=vectors)
    return path


def test_a_healthy_collection_ends_with_0(invoke: Invoke, persist_dir: Path) -> None:
    """Our own collection needs no model to be named, and is called healthy."""
    result = invoke("doctor", "faq", "--persist-dir", persist_dir)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "made: 25 right" in result.stdout
    assert "All 25 rows were compared." in result.stdout
    assert result.stdout.endswith("healthy\n")


def test_findings_end_with_3(invoke: Invoke, persist_dir: Path, static_model: Path) -> None:
    """What is wrong is a table with counts, examples and remedies."""
    result = invoke("doctor", "plain", "--persist-dir", persist_dir, "--model", static_model)
    assert result.exit_code == 3
    assert "25 of 25 rows were embedded without the prefix 'passage: '" in result.stdout
    assert "such as 글-0, 글-1, 글-2, 글-3, 글-4" in result.stdout
    assert "wrong_space" in result.stdout
    assert "koe5 migrate" in result.stdout
    assert "healthy" not in result.stdout


def test_json_holds_every_fact(invoke: Invoke, persist_dir: Path, static_model: Path) -> None:
    """``--json`` prints one document, findings with counts and shares, the worst first."""
    result = invoke(
        "doctor", "plain", "--persist-dir", persist_dir, "--model", static_model, "--json"
    )
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert document["made"] == {"no prefix": 25}
    assert (document["rows"], document["space"], document["healthy"]) == (25, "l2", False)
    assert document["sureness"] == "All 25 rows were compared."
    assert [finding["kind"] for finding in document["findings"]] == [
        "no_prefix",
        "wrong_space",
        "no_fingerprint",
    ]
    assert document["findings"][0]["share"] == 1
    assert document["findings"][0]["examples"] == [f"글-{i}" for i in range(5)]


def test_nothing_is_written(invoke: Invoke, persist_dir: Path, static_model: Path) -> None:
    """Rows, settings and names are the same afterwards, and no collection was added."""

    def state() -> Any:
        with chromadb.PersistentClient(persist_dir) as client:
            return {
                c.name: (c.id, c.metadata, c.configuration_json, c.get()["ids"])
                for c in client.list_collections()
            }

    before = state()
    invoke("doctor", "plain", "--persist-dir", persist_dir, "--model", static_model)
    assert state() == before


def test_what_is_not_there_is_not_made(invoke: Invoke, persist_dir: Path, tmp_path: Path) -> None:
    """A mistyped name lists those there are; a folder without a database stays as it is."""
    result = invoke("doctor", "fag", "--persist-dir", persist_dir)
    assert result.exit_code == 2
    assert "there is no collection 'fag'; there are: 'faq', 'plain'" in result.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    result = invoke("doctor", "faq", "--persist-dir", empty)
    assert result.exit_code == 2
    assert "holds no Chroma database" in result.stderr
    assert list(empty.iterdir()) == []
    result = invoke("doctor", "faq")
    assert result.exit_code == 2
    assert "give either --persist-dir or --url" in result.stderr


def test_a_folder_in_use_is_refused(invoke: Invoke, persist_dir: Path) -> None:
    """While another holds the folder, which would break it, the doctor waits outside."""
    with FolderLock(persist_dir, "koe5 ingest"):
        result = invoke("doctor", "faq", "--persist-dir", persist_dir)
    assert result.exit_code == 2
    assert "koe5 ingest" in result.stderr


def test_a_broken_index_is_one_message(
    invoke: Invoke, persist_dir: Path, static_model: Path
) -> None:
    """An index that can't be read is told, with what to do, and not read in this process."""
    with chromadb.PersistentClient(persist_dir) as client:
        torn = client.create_collection(
            "torn",
            embedding_function=None,
            configuration={"hnsw": {"sync_threshold": 10, "batch_size": 5}},
        )
        vectors = KoE5Encoder(static_model).encode_passages(TEXTS)
        torn.add(ids=[str(i) for i in range(25)], documents=TEXTS, embeddings=vectors)
    for file in persist_dir.glob("*/data_level0.bin"):
        file.write_bytes(file.read_bytes()[:100])
    result = invoke("doctor", "torn", "--persist-dir", persist_dir, "--model", static_model)
    assert result.exit_code == 2
    assert "collection 'torn' is damaged" in result.stderr
    assert "koe5 ingest --rebuild" in result.stderr


def test_a_model_that_moved_is_asked_for(invoke: Invoke, tmp_path: Path, persist_dir: Path) -> None:
    """The recorded folder is gone: the message says what to do, and doing it works."""
    model = make_static(tmp_path / "old")
    with chromadb.PersistentClient(persist_dir) as client:
        open_collection(client, "moved", KoE5Encoder(model, passage_prompt="문서: ")).add(
            ids=["1"], documents=["겨울"]
        )
    model.rename(tmp_path / "new")
    result = invoke("doctor", "moved", "--persist-dir", persist_dir)
    assert result.exit_code == 2
    assert "say with --model where it is now" in result.stderr
    again = invoke("doctor", "moved", "--persist-dir", persist_dir, "--model", tmp_path / "new")
    assert again.exit_code == 0, again.stdout


def test_stored_text_cannot_drive_the_terminal(
    invoke: Invoke, persist_dir: Path, static_model: Path
) -> None:
    """Escape sequences in ids are not passed on."""
    with chromadb.PersistentClient(persist_dir) as client:
        plain = client.get_collection("plain", embedding_function=None)
        vectors = KoE5Encoder(static_model, passage_prompt="").encode_passages(["색"])
        plain.add(ids=["\x1b[2J나쁜\n글"], documents=["색"], embeddings=vectors)
    shown = invoke("doctor", "plain", "--persist-dir", persist_dir, "-m", static_model).stdout
    assert "\x1b" not in shown


@pytest.fixture
def server(persist_dir: Path) -> Iterator[str]:
    """A Chroma server over the same database, on loopback."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("chroma"), "run", "--path", persist_dir]
    process = subprocess.Popen(
        [*map(str, command), "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def test_a_server_is_asked_the_same(invoke: Invoke, server: str, static_model: Path) -> None:
    """Over HTTP the findings are the same; what the server says of models is not believed."""
    result = invoke("doctor", "plain", "--url", server, "--model", static_model, "--json")
    assert json.loads(result.stdout)["made"] == {"no prefix": 25}
    with chromadb.HttpClient(host="127.0.0.1", port=int(server.rsplit(":", 1)[1])) as client:
        faq = client.get_collection("faq", embedding_function=None)
        assert recorded_options(faq, trusted=True) == {"model": str(static_model)}
        assert recorded_options(faq, trusted=False) == {"model": "nlpai-lab/KoE5"}
