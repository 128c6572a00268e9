"""Opens a Chroma collection that somebody made, without building what it says it was made with."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from koe5_integrations.chroma import KoE5EmbeddingFunction

import httpx  # isort: skip  # after ours, whose error names the extra
from chromadb.api.client import Client
from chromadb.api.models.Collection import Collection
from chromadb.errors import ChromaError, NotFoundError

from koe5_integrations.errors import CollectionError, ConfigError, StoreError
from koe5_integrations.ingestion.locking import FolderLock
from koe5_integrations.ingestion.stores.chroma_database import DATABASE, connect
from koe5_integrations.profiles import DEFAULT_MODEL, PROFILES

__all__ = ["existing_collection", "find_collection", "opened_client", "recorded_options"]

# Reads what a crash may have damaged: the rows, and the index with a vector out of it.
_READ = """
import sys
import chromadb
client = chromadb.PersistentClient(path=sys.argv[1])
collection = client.get_collection(sys.argv[2], embedding_function=None)
row = collection.get(limit=1, include=["embeddings"])
if row["ids"]:
    collection.query(query_embeddings=row["embeddings"], n_results=1)
"""


@contextmanager
def opened_client(
    persist_dir: str | os.PathLike[str] | None, url: str | None, *, purpose: str
) -> Iterator[Client]:
    """Open a database that exists: a folder, which is locked meanwhile, or a server.

    Args:
        persist_dir: folder of an embedded database.
        url: of a Chroma server, instead.
        purpose: what for, told to whoever is refused meanwhile.

    Raises:
        ConfigError: neither or both, or an impossible URL.
        CollectionError: there is no database.
        LockedError: another process is using it.
        StoreError: Chroma can't open or read it.
    """
    if (persist_dir is None) == (url is None):
        raise ConfigError("give either persist_dir= or url=, where the collection is")
    folder = None if persist_dir is None else Path(persist_dir).expanduser().absolute()
    # Chroma would create a database in any folder that has none.
    if folder is not None and not (folder / DATABASE).is_file():
        raise CollectionError(f"{folder} holds no Chroma database (there is no {DATABASE})")
    with ExitStack() as opened:
        if folder is not None:
            opened.enter_context(FolderLock(folder, purpose))
        client = connect(folder, url)
        opened.callback(client.close)
        try:
            yield client
        except (ChromaError, httpx.HTTPError) as error:
            raise StoreError(
                f"{folder or url} can't be read by Chroma: {error or type(error).__name__}"
            ) from error


@contextmanager
def existing_collection(
    name: str,
    *,
    persist_dir: str | os.PathLike[str] | None = None,
    url: str | None = None,
    purpose: str,
) -> Iterator[Collection]:
    """Open a collection for reading; whether a crash has damaged it is found out beforehand.

    Arguments and errors as :func:`opened_client`.

    Raises:
        CollectionError: there is no such collection.
        StoreError: its index is damaged.
    """
    with opened_client(persist_dir, url, purpose=purpose) as client:
        yield find_collection(client, name, persist_dir)


def find_collection(
    client: Client, name: str, persist_dir: str | os.PathLike[str] | None
) -> Collection:
    """Return a collection whose index can be read.

    Raises:
        CollectionError: there is no such collection.
        StoreError: its index is damaged.
    """
    try:
        # A function would be built from what is stored, which may come from anybody.
        collection = client.get_collection(name, embedding_function=None)
    except NotFoundError:
        there = ", ".join(sorted(repr(c.name) for c in client.list_collections())) or "none"
        raise CollectionError(f"there is no collection {name!r}; there are: {there}") from None
    if persist_dir is not None:
        folder = Path(persist_dir).expanduser().absolute()
        if _has_saved_index(folder, collection):
            _try_to_read(folder, name)
    return collection


def _has_saved_index(folder: Path, collection: Collection) -> bool:
    """Whether Chroma has saved the collection's index, without which nothing can be torn."""
    uri = f"{(folder / DATABASE).as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        segments = database.execute(
            "SELECT id FROM segments WHERE collection = ?", [str(collection.id)]
        ).fetchall()
    return any((folder / str(id) / "index_metadata.pickle").exists() for (id,) in segments)


def _try_to_read(folder: Path, name: str) -> None:
    """Read a little of a collection in a process of its own, which a torn index may bring down.

    Raises:
        StoreError: it can't be read.
    """
    child = subprocess.run(
        [sys.executable, "-c", _READ, str(folder), name],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if child.returncode == 0:
        return
    if child.returncode < 0:
        problem = f"reading it ended a process with {signal.Signals(-child.returncode).name}"
    else:
        problem = (child.stderr.strip().splitlines() or ["unknown"])[-1]
    raise StoreError(
        f"{folder}: collection {name!r} is damaged: {problem}. If koe5 ingest made it, `koe5 "
        "ingest --rebuild` makes it anew from its shards; if not, ingest its documents from their "
        "source"
    )


def recorded_options(collection: Collection, *, trusted: bool) -> dict[str, Any]:
    """Return the encoder's options that a collection says it was made with.

    Without a usable record they are those of KoE5.

    Args:
        collection: any.
        trusted: it lies on this machine. What a server says can name a known model, but no path
            and no revision, which would have us load what it likes.
    """
    configuration: Any = collection.configuration_json
    stored = configuration.get("embedding_function")
    stored = stored if isinstance(stored, Mapping) else {}
    config = stored.get("config")
    config = dict(config) if isinstance(config, Mapping) else {}
    if stored.get("name") != KoE5EmbeddingFunction.name():
        model = config.get("model_name")
        return {"model": model if model in PROFILES else DEFAULT_MODEL}
    KoE5EmbeddingFunction.validate_config(config)
    if trusted:
        return config
    config.pop("revision", None)
    return config if config["model"] in PROFILES else {"model": DEFAULT_MODEL}
