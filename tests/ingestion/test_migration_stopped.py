"""Migrations that stop before the swap, by a loss, an error or a kill, and go on from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("chromadb")
pytest.importorskip("filelock")
pytest.importorskip("pyarrow")

import chromadb
from migrated import IDS, TEXTS, N, before_of, content, names

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import CollectionError, FingerprintMismatchError, StoreError
from koe5_integrations.ingestion.migration import migrate
from koe5_integrations.ingestion.shards import ShardFolder

Make = Callable[..., None]

# Losses


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


# Going on


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


# Crashes

# What kills the process: which call of what, whether it has done its work by then; and how many
# rows the next run has to embed, if that is certain.
POINTS: dict[str, tuple[str, int, bool, int | None]] = {
    "while embedding": ("embed_each", 3, False, N - 80),
    "while loading": ("add", 2, True, None),
    "after the old one is renamed": ("modify", 2, True, 0),
    "before the shards are renamed": ("rename", 1, False, 0),
}


# Forks for each job, because imports take most of the time.
CRASH = """
import json, os, pathlib, signal, sys
from chromadb.api.models.Collection import Collection
from koe5_integrations import KoE5Encoder
from koe5_integrations.ingestion.migration import copying, migrate

owners = {"embed_each": copying, "add": Collection, "modify": Collection, "rename": pathlib.Path}
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
