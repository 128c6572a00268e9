"""``koe5 verify`` on a real collection and its shards."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

pytest.importorskip("chromadb")
pytest.importorskip("filelock")
pytest.importorskip("pyarrow")

from chroma_samples import numbered

from koe5_integrations import KoE5Encoder
from koe5_integrations.ingestion.locking import FolderLock
from koe5_integrations.ingestion.shards import ShardFolder
from koe5_integrations.ingestion.stores.chroma import ChromaStore

Invoke = Callable[..., Result]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory, static_model: Path) -> Path:
    """A database with a collection of ten passages; its shards are beside it."""
    folder = tmp_path_factory.mktemp("verify") / "chroma_db"
    encoder = KoE5Encoder(static_model)
    passages = numbered(10)
    vectors = encoder.encode_passages([passage.text for passage in passages])
    shards = folder.with_name("chroma_db.shards") / "notes"
    with (
        ShardFolder(shards, fingerprint=encoder.fingerprint, dim=encoder.dim) as truth,
        ChromaStore("notes", encoder, persist_dir=folder) as store,
    ):
        sequence = truth.write(passages, vectors)
        store.upsert(passages, vectors)
        truth.mark_loaded(store.key, sequence)
    return folder


def test_a_sound_collection_exits_with_0(ingested: Path, invoke: Invoke) -> None:
    """Each check is a line on stdout, and the verdict is on stderr."""
    result = invoke("verify", "--persist-dir", ingested, "--collection", "notes")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", name]
        for name in (
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
        )
    ]
    assert result.stderr == "collection 'notes' is sound\n"


def test_an_unsound_collection_exits_with_3(ingested: Path, tmp_path: Path, invoke: Invoke) -> None:
    """What failed stands in the table and, for programs, in one JSON document."""
    database = shutil.copytree(ingested, tmp_path / "chroma_db")
    shards = shutil.copytree(ingested.with_name("chroma_db.shards") / "notes", tmp_path / "shards")
    given = ["--persist-dir", database, "--collection", "notes", "--shards", shards, "--sample", 4]
    (database / "chroma.sqlite3").unlink()
    result = invoke("verify", *given)
    assert result.exit_code == 3
    assert result.stdout.splitlines()[1].startswith("FAILED  collection")
    assert result.stderr == "collection 'notes' is not sound: 1 of 2 checks failed\n"
    result = invoke("verify", *given, "--json")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert document["sound"] is False
    assert [(check["name"], check["ok"]) for check in document["checks"]] == [
        ("shards", True),
        ("collection", False),
    ]
    assert "has no Chroma collection 'notes'" in document["checks"][1]["detail"]


def test_what_cannot_be_checked_exits_with_2(ingested: Path, invoke: Invoke) -> None:
    """A place that is not given, or where somebody is writing, is one message on stderr."""
    result = invoke("verify", "--collection", "notes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: give one of ")
    with FolderLock(ingested, "a test"):
        result = invoke("verify", "--persist-dir", ingested, "--collection", "notes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "a test" in result.stderr


def test_the_help_says_the_exit_codes(
    koe5: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """The codes are in the command's help, which needs neither Chroma nor numpy."""
    shown = koe5("verify", "--help", without=("chromadb", "numpy", "pyarrow"))
    assert shown.returncode == 0, shown.stderr
    assert "0 sound; 3 a check failed" in " ".join(shown.stdout.split())
