"""What the tests of Chroma need: passages with vectors, texts, a server, a damaged index."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from tiny_models import KOREAN

from koe5_integrations import KoE5Encoder
from koe5_integrations.ingestion.documents import MetadataValue
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.types import Vectors

QUERY, TEXTS = KOREAN[0], KOREAN[1:5]
IDS = [f"doc-{i}" for i in range(len(TEXTS))]


def expected_distances(encoder: KoE5Encoder, query: str = QUERY) -> list[float]:
    """Cosine distance of each of the texts from a question."""
    return (1 - encoder.encode_passages(TEXTS) @ encoder.encode_queries([query])[0]).tolist()


def found_distances(collection: Any, query: str = QUERY) -> list[float]:
    """The same, as Chroma finds them for ``query_texts``."""
    found = collection.query(query_texts=[query], n_results=len(TEXTS), include=["distances"])
    by_id = dict(zip(found["ids"][0], found["distances"][0], strict=True))
    return [by_id[id_] for id_ in IDS]


def passages_named(*ids: str, **metadata: MetadataValue) -> list[Passage]:
    """One passage per document."""
    return [Passage(id, id, "0" * 32, "notes", f"{id}번 글", metadata, 0, 1) for id in ids]


def numbered(n: int, start: int = 0) -> list[Passage]:
    """So many passages: ``p0``, ``p1`` and so on."""
    return passages_named(*(f"p{i}" for i in range(start, start + n)), lang="ko")


def vectors_of(n: int, seed: int = 0, dim: int = 16) -> Vectors:
    """Random vectors of unit length."""
    made = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def index_folder(persist_dir: Path, collection: str) -> Path:
    """Where Chroma keeps a collection's index."""
    query = (
        "SELECT segments.id FROM segments JOIN collections ON collections.id = collection "
        "WHERE name = ? AND segments.scope = 'VECTOR'"
    )
    with closing(sqlite3.connect(persist_dir / "chroma.sqlite3")) as database:
        [(id,)] = database.execute(query, [collection]).fetchall()
    return persist_dir / id


def truncate(path: Path) -> None:
    """Cut a file in half."""
    os.truncate(path, path.stat().st_size // 2)


def scramble(path: Path) -> None:
    """Overwrite a file with noise of the same length."""
    path.write_bytes(np.random.default_rng(1).bytes(path.stat().st_size))


def blank(path: Path) -> None:
    """Overwrite the second half of a file with zeros, as where its writing was cut short."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(bytes(size - size // 2))


# Ways a killed process leaves an index behind, and what else may happen to its files.
DAMAGES: dict[str, Callable[[Path], None]] = {
    "vectors cut": lambda folder: truncate(folder / "data_level0.bin"),
    "vectors blank": lambda folder: blank(folder / "data_level0.bin"),
    "vectors scrambled": lambda folder: scramble(folder / "data_level0.bin"),
    "header empty": lambda folder: os.truncate(folder / "header.bin", 0),
    "links gone": lambda folder: (folder / "link_lists.bin").unlink(),
    "ids cut": lambda folder: truncate(folder / "index_metadata.pickle"),
    "ids gone": lambda folder: (folder / "index_metadata.pickle").unlink(),
    "index gone": shutil.rmtree,
}


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def start_server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start ``chroma run`` and wait until it answers."""
    chroma = Path(sys.executable).with_name("chroma")
    command = [chroma, "run", "--path", folder, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/heartbeat", timeout=1):
                return process
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
