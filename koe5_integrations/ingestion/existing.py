"""Opens a Chroma collection that somebody made, without building what it says it was made with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from koe5_integrations.chroma import KoE5EmbeddingFunction

import httpx  # isort: skip  # after ours, whose error names the extra
from chromadb.api.client import Client
from chromadb.api.models.Collection import Collection
from chromadb.errors import ChromaError, NotFoundError

from koe5_integrations.errors import CollectionError, ConfigError, StoreError
from koe5_integrations.ingestion.locking import FolderLock
from koe5_integrations.ingestion.probing import probe
from koe5_integrations.ingestion.stores.chroma_database import (
    DATABASE,
    connect,
    index_folders,
)
from koe5_integrations.profiles import DEFAULT_MODEL, PROFILES

__all__ = ["existing_collection", "find_collection", "opened_client", "recorded_options"]


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
        indexes = index_folders(folder, collection)
        # Without a saved index nothing can be torn.
        if any((index / "index_metadata.pickle").exists() for index in indexes):
            found = probe(folder, name, thorough=False)
            if not found.readable:
                raise StoreError(
                    f"{folder}: collection {name!r} is damaged: {found.problem}. If koe5 ingest "
                    "made it, `koe5 ingest --rebuild` makes it anew from its shards; if not, "
                    "ingest its documents from their source"
                )
    return collection


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
