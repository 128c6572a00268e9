"""Chroma databases: how to reach them, and what they can keep."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit
from uuid import UUID

from koe5_integrations.errors import ConfigError, MissingExtraError, StoreError
from koe5_integrations.ingestion.documents import MetadataValue

if TYPE_CHECKING:
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection

__all__ = [
    "DATABASE",
    "as_chroma_metadata",
    "check_collection_name",
    "clients_here",
    "connect",
    "index_folders",
    "page_of_ids",
    "store_key",
]

DATABASE = "chroma.sqlite3"

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,510}[a-zA-Z0-9]")
_IDS_PER_PAGE = 5000
_MOST_64_BITS = 2**63


def connect(folder: Path | None, url: str | None) -> Client:
    """Open a Chroma database in a folder, or a connection to a server.

    Raises:
        ConfigError: an impossible URL.
        StoreError: Chroma can't.
        MissingExtraError: Chroma is not installed.
    """
    try:
        import chromadb
    except ImportError as error:
        raise MissingExtraError("a Chroma database", "ingest") from error
    if folder is not None:
        try:
            return cast("Client", chromadb.PersistentClient(path=str(folder)))
        except Exception as error:
            raise StoreError(
                f"{folder}: Chroma can't open its {DATABASE}: {error}. All collections of this "
                "folder depend on it: restore it from a backup, or move the folder away and "
                "ingest again, which makes this collection anew from its shards"
            ) from error
    try:
        parts = urlsplit(url or "")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https") or parts.path.strip("/"):
        raise ConfigError(f"url={url!r} must be like http://127.0.0.1:8000")
    if parts.username or parts.query:
        raise ConfigError(
            "url= must be http://HOST:PORT alone; for credentials, give a chromadb.HttpClient"
        )
    ssl = parts.scheme == "https"
    try:
        client = chromadb.HttpClient(host=host, port=port or (443 if ssl else 8000), ssl=ssl)
        return cast("Client", client)
    except Exception as error:
        raise StoreError(
            f"{url}: {error} Start one with `chroma run --path DIR`, or see to the address"
        ) from error


def clients_here(folder: Path) -> int | None:
    """Count how often this process has a folder's database open, twice a client; None if unknown.

    Its clients share one index in memory, and do not see what other processes write.
    """
    from chromadb.api.shared_system_client import SharedSystemClient

    counts = getattr(SharedSystemClient, "_identifier_to_refcount", None)
    return None if counts is None else int(counts.get(str(folder), 0))


def check_collection_name(name: str) -> None:
    """Raise ConfigError for a name that Chroma does not allow."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"collection={name!r} must be 3 to 512 characters of [a-zA-Z0-9._-] that start and end "
            "with a letter or digit"
        )


def store_key(place: Path | str, collection: Collection) -> str:
    """Return what the shards remember a collection by: its place and id."""
    return f"chroma {str(place).rstrip('/')} {collection.id}"


def index_folders(folder: Path, collection: Collection) -> list[Path]:
    """Return where a collection's index lies, if it is on disk, in a database's folder.

    Raises:
        sqlite3.Error: the database can't be read.
    """
    uri = f"{(folder / DATABASE).as_uri()}?mode=ro"
    segments = "SELECT id FROM segments WHERE collection = ?"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        found = database.execute(segments, [str(collection.id)]).fetchall()
    return [folder / str(UUID(id)) for (id,) in found]


def page_of_ids(collection: Collection, offset: int) -> list[str]:
    """Return some of a collection's ids, in the order in which they were first stored.

    The last page is empty; what is written meanwhile shifts those that follow.
    """
    return collection.get(limit=_IDS_PER_PAGE, offset=offset, include=[])["ids"]


def as_chroma_metadata(metadata: Mapping[str, MetadataValue]) -> dict[str, MetadataValue]:
    """Return metadata as Chroma can keep it.

    It reserves some keys, which get ``metadata:`` in front, and makes floats of integers beyond 64
    bits, which become text.
    """
    return {
        f"metadata:{key}" if key[0] in "#$" or key == "chroma:document" else key: (
            str(value)
            if isinstance(value, int) and not -_MOST_64_BITS <= value < _MOST_64_BITS
            else value
        )
        for key, value in metadata.items()
    }
