"""``koe5 migrate`` over real Chroma databases."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import KOREAN
from typer.testing import Result

pytest.importorskip("chromadb")
pytest.importorskip("filelock")
pytest.importorskip("pyarrow")

import chromadb

from koe5_integrations import KoE5Encoder

Invoke = Callable[..., Result]
Koe5 = Callable[..., "subprocess.CompletedProcess[str]"]

TEXTS = [f"{one} {other}" for one in KOREAN[:5] for other in KOREAN[:5]]


@pytest.fixture
def persist_dir(tmp_path: Path, static_model: Path) -> Path:
    """A database with a collection ``notes`` that was embedded without prefixes."""
    path = tmp_path / "db"
    vectors = KoE5Encoder(static_model, passage_prompt="").encode_passages(TEXTS)
    with chromadb.PersistentClient(path) as client:
        client.create_collection("notes", embedding_function=None).add(
            ids=[f"글-{i}" for i in range(len(TEXTS))], documents=TEXTS, embeddings=vectors
        )
    return path


@pytest.fixture
def migrate(invoke: Invoke, persist_dir: Path, static_model: Path) -> Invoke:
    """Run ``koe5 migrate notes`` on that database."""

    def run(*args: str | Path) -> Result:
        place = ("--persist-dir", persist_dir, "--model", static_model)
        return invoke("migrate", "notes", *place, *args)

    return run


def test_a_migration_heals_what_the_doctor_found(
    invoke: Invoke, migrate: Invoke, persist_dir: Path, static_model: Path
) -> None:
    """What ends with 3 before ends with 0 after, and the collection can be searched."""
    doctor = ("doctor", "notes", "--persist-dir", persist_dir)
    assert invoke(*doctor, "--model", static_model).exit_code == 3
    result = migrate()
    assert (result.exit_code, result.stderr) == (0, "")
    assert "texts embedded" in result.stdout
    assert "notes.before-" in result.stdout
    assert invoke(*doctor).exit_code == 0
    search = ("search", "--persist-dir", persist_dir, "--collection", "notes", "-k", "2")
    assert TEXTS[3] in invoke(*search, TEXTS[3]).stdout
    verify = ("verify", "--persist-dir", persist_dir, "--collection", "notes")
    assert invoke(*verify).exit_code == 0
    again = migrate("--drop-old")
    assert "nothing was embedded" in again.stdout
    with chromadb.PersistentClient(persist_dir) as client:
        assert [collection.name for collection in client.list_collections()] == ["notes"]


def test_json_holds_every_count(migrate: Invoke, persist_dir: Path) -> None:
    """``--json`` prints one document with counts and paths, also of a dry run."""
    plan = json.loads(migrate("--dry-run", "--json").stdout)
    assert (plan["rows"], plan["left_out"], plan["repeated"]) == (25, 0, 0)
    document = json.loads(migrate("--to", "new", "--json").stdout)
    assert (document["rows"], document["embedded"], document["into"]) == (25, 25, "new")
    assert document["shards"] == str(persist_dir.with_name("db.shards") / "new")
    assert document["quarantine"] is None


def test_a_loss_must_be_allowed(migrate: Invoke, persist_dir: Path) -> None:
    """Rows without text are counted beforehand, refused, and left out where that is allowed."""
    with chromadb.PersistentClient(persist_dir) as client:
        notes = client.get_collection("notes", embedding_function=None)
        notes.add(ids=["빈 글"], embeddings=[[1.0] * 16])
    assert "1 rows, which need --allow-loss" in migrate("--dry-run").stdout
    refused = migrate()
    assert refused.exit_code == 2
    assert "Go on without them with --allow-loss" in refused.stderr
    allowed = migrate("--allow-loss")
    assert allowed.exit_code == 0
    assert "1 rows, see" in allowed.stdout


def test_warnings_say_what_to_do(migrate: Invoke, persist_dir: Path) -> None:
    """Texts that are cut, and texts with a prefix of their own, are warned of once each."""
    with chromadb.PersistentClient(persist_dir) as client:
        notes = client.get_collection("notes", embedding_function=None)
        notes.add(
            ids=["긴 글", "앞말"],
            documents=["겨울 " * 60, "passage: 겨울"],
            embeddings=[[1.0] * 16] * 2,
        )
    result = migrate("--max-seq-length", "50")
    assert result.exit_code == 0
    assert "1 of the texts are longer than the 50 tokens" in result.stderr
    assert "koe5 ingest" in result.stderr
    assert "migrate with --on-prefixed keep" in result.stderr


def test_impossible_places_are_one_message(
    invoke: Invoke, persist_dir: Path, static_model: Path, tmp_path: Path
) -> None:
    """No database, no collection and no place at all are told in a line with exit code 2."""
    model = ("--model", static_model)
    for place, told in [
        (("--persist-dir", tmp_path), "holds no Chroma database"),
        (("--persist-dir", persist_dir), "there is no collection 'nots'"),
        (("--url", "http://127.0.0.1:1"), "--shards is needed"),
        ((), "--shards is needed"),
    ]:
        result = invoke("migrate", "nots", *place, *model)
        assert result.exit_code == 2
        assert told in result.stderr
