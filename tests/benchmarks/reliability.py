"""What an ingestion survives, in its long version: ``python tests/benchmarks/reliability.py``.

``--kills 200`` ingestions killed, three of four within the two milliseconds from when Chroma begins
to save its index (as it does every 100 rows here), which tears many of them, and the others at any
step; ``--loads 30`` long ones killed while a second process loads Chroma: both, the first, or the
second; ``--poison 10000`` documents with one that can't be embedded at 20 places; ``--writers 100``
second writers. Each line of the table is counted, not assumed. Any sequence of changes,
losses and kills: ``KOE5_LONG_TESTS=1 pytest tests/ingestion/test_states.py``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import chromadb
import psutil
from crashing import POINTS, Crashing
from ingested import check_stored, committed_texts
from tiny_models import make_static

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import open_collection
from koe5_integrations.errors import FingerprintMismatchError, ShardError
from koe5_integrations.ingestion import default_shards, ingest
from koe5_integrations.ingestion.locking import FolderLock
from koe5_integrations.ingestion.probing import probe
from koe5_integrations.ingestion.shards import ShardFolder
from koe5_integrations.ingestion.verification import verify

ROWS = 600
BEHIND = """
import sys
from koe5_integrations.errors import LockedError
from koe5_integrations.ingestion import ingest
documents = [{"id": "intruder", "text": "끼어든 글"}]
try:
    ingest(documents=documents, encoder=sys.argv[1], persist_dir=sys.argv[2], collection="notes")
except LockedError:
    print("refused")
"""

LONG_LOAD = """
import json, sys
from koe5_integrations.ingestion import ingest
texts = ({"id": str(i), "text": f"{i}번 문서입니다."} for i in range(int(sys.argv[3])))
ingest(
    documents=texts, encoder=sys.argv[1], persist_dir=sys.argv[2], collection="notes",
    shard_size=2000, on_progress=lambda summary: print(summary.loaded, flush=True),
)
"""
LONG = 30_000


def kills(rounds: int, model: Path, folder: Path, seed: int) -> dict[str, int]:
    """Kill so many ingestions, finish each, and count what is not as it should be."""
    draw = random.Random(seed)
    found = dict.fromkeys(
        ("killed", "torn", "rebuilt", "unreadable", "wrong", "embedded again", "unsound"), 0
    )
    documents: dict[str, dict[str, Any]] = {}
    with Crashing() as crashing:
        for n in range(rounds):
            if n % 20 == 0:  # a collection of some age, and then a new one
                shutil.rmtree(folder, ignore_errors=True)
                new_collection(folder / "chroma", model)
                documents = {}
            for i in draw.sample(range(2 * ROWS), ROWS // 2):
                text = f"{n}번째에 쓴 {i}번 문서입니다."
                documents[str(i)] = {"id": str(i), "text": text, "n": n}
            for i in draw.sample(sorted(documents), len(documents) // 10):
                del documents[i]
            point, moment = "mid-upsert", "saving"
            if draw.random() < 0.25:
                point, moment = draw.choice(list(POINTS)), draw.choice(["before", "after"])
            options: dict[str, Any] = {"shard_size": 150, "sync": True}
            ended = crashing.run(
                folder,
                model,
                list(documents.values()),
                point=point,
                moment=moment,
                nth=1 if point in ("delete", "close") else draw.randint(1, 2),
                delay=draw.uniform(0, 0.002),
                **options,
            )
            found["killed"] += ended is None
            shards = folder / "chroma.shards" / "notes"
            committed = committed_texts(shards)
            found["torn"] += not probe(folder / "chroma", "notes").readable
            summary = crashing.run(folder, model, list(documents.values()), **options)
            assert summary is not None
            found["rebuilt"] += bool(summary["rebuilt"])
            new = {document["text"] for document in documents.values()} - committed
            found["embedded again"] += summary["embedded"] - len(new)
            found["unreadable"] += not probe(folder / "chroma", "notes").readable
            try:
                check_stored(folder, documents.values())
            except AssertionError:
                found["wrong"] += 1
            found["unsound"] += not verify(persist_dir=folder / "chroma", collection="notes").sound
            sys.stderr.write(f"\r{n + 1} of {rounds} ")
    sys.stderr.write("\n")
    return found


def loads(rounds: int, model: Path, folder: Path, seed: int) -> dict[str, int]:
    """Kill so many long ingestions while another process loads for them, and finish each."""
    draw = random.Random(seed)
    found = dict.fromkeys(
        ("killed", "torn", "rebuilt", "embedded again", "wrong count", "unsound", "left"), 0
    )
    encoder = KoE5Encoder(model)
    for n in range(rounds):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder.with_name("here.shards"), ignore_errors=True)
        with subprocess.Popen(
            [sys.executable, "-c", LONG_LOAD, str(model), str(folder), str(LONG)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) > LONG / 5:
                    break
            [loading] = psutil.Process(process.pid).children()
            time.sleep(draw.uniform(0, 1))
            found["killed"] += process.poll() is None
            for victim in ((process, loading), (process,), (loading,))[n % 3]:
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
            process.stdout.read()
        committed = len(committed_texts(default_shards(folder, "notes")))
        with FolderLock(folder, "looking"):  # which waits for the second
            pass
        found["torn"] += not probe(folder, "notes").readable
        texts = ({"id": str(i), "text": f"{i}번 문서입니다."} for i in range(LONG))
        summary = ingest(documents=texts, encoder=encoder, persist_dir=folder, collection="notes")
        found["rebuilt"] += bool(summary.rebuilt)
        found["embedded again"] += summary.embedded - (LONG - committed)
        found["wrong count"] += summary.passages != LONG
        found["unsound"] += not verify(persist_dir=folder, collection="notes").sound
        found["left"] += loading.is_running() and loading.status() != psutil.STATUS_ZOMBIE
        sys.stderr.write(f"\r{n + 1} of {rounds} ")
    sys.stderr.write("\n")
    return found


def new_collection(folder: Path, model: Path) -> None:
    """Make a collection that writes its index every 100 rows."""
    client = chromadb.PersistentClient(str(folder))
    often = {"sync_threshold": 100, "batch_size": 50}
    open_collection(client, "notes", KoE5Encoder(model), hnsw=often)
    client.close()


def poison(documents: int, model: Path, folder: Path) -> dict[str, int]:
    """Put one document that can't be embedded at 20 places among so many."""
    found = dict.fromkeys(("runs", "not that one alone"), 0)
    draw = random.Random(0)
    encoder = KoE5Encoder(model, on_prefixed="error")  # which refuses a text like the one below
    for at in [0, documents - 1, *(draw.randrange(documents) for _ in range(18))]:
        shutil.rmtree(folder, ignore_errors=True)
        texts = ({"id": str(i), "text": f"{i}번 문서입니다."} for i in range(documents))
        poisoned = (
            {"id": "poison", "text": "query: 독"} if i == at else document
            for i, document in enumerate(texts)
        )
        summary = ingest(
            documents=poisoned, encoder=encoder, persist_dir=folder / "chroma", collection="notes"
        )
        found["runs"] += 1
        found["not that one alone"] += (summary.quarantined, summary.passages) != (
            1,
            documents - 1,
        )
    return found


def writers(rounds: int, model: Path, folder: Path) -> dict[str, int]:
    """Try so many times to write where another process writes."""
    shutil.rmtree(folder, ignore_errors=True)
    found = dict.fromkeys(("tried", "refused"), 0)
    with FolderLock(folder / "chroma", "the first"):
        for _ in range(rounds):
            done = subprocess.run(
                [sys.executable, "-c", BEHIND, str(model), str(folder / "chroma")],
                capture_output=True,
                text=True,
                check=True,
            )
            found["tried"] += 1
            found["refused"] += done.stdout.strip() == "refused"
    return found


def fingerprints(model: Path, folder: Path) -> dict[str, int]:
    """Open shards with each field of their fingerprint changed."""
    shutil.rmtree(folder, ignore_errors=True)
    fingerprint = KoE5Encoder(model).fingerprint
    ShardFolder(folder, fingerprint=fingerprint, dim=16).close()
    found = dict.fromkeys(("fields", "refused"), 0)
    for field, value in {
        "weights": "0" * 32,
        "query_prompt": "질문: ",
        "passage_prompt": "",
        "pooling": "cls",
        "normalize": not fingerprint.normalize,
        "max_seq_length": 7,
        "truncate_dim": 8,
        "precision": "int8-onnx",
        "unicode": "none",
        "dim": 8,
    }.items():
        found["fields"] += 1
        changed = fingerprint if field == "dim" else replace(fingerprint, **{field: value})
        dim = value if field == "dim" else 16
        try:
            ShardFolder(folder, fingerprint=changed, dim=dim).close()
        except (FingerprintMismatchError, ShardError) as error:
            found["refused"] += field in str(error)
    return found


def main() -> None:
    """Run what is asked for, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--loads", type=int, default=30)
    parser.add_argument("--poison", type=int, default=10_000)
    parser.add_argument("--writers", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        model, folder = make_static(Path(temporary) / "model"), Path(temporary) / "here"
        for name, run in {
            "kills": lambda: kills(asked.kills, model, folder, asked.seed),
            "loads": lambda: loads(asked.loads, model, folder, asked.seed),
            "poison": lambda: poison(asked.poison, model, folder),
            "second writers": lambda: writers(asked.writers, model, folder),
            "fingerprints": lambda: fingerprints(model, folder),
        }.items():
            started = time.perf_counter()
            counts = ", ".join(f"{what} {count}" for what, count in run().items())
            sys.stdout.write(f"{name}: {counts} ({time.perf_counter() - started:.0f} s)\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
