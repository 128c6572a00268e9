"""Where an ingestion writes: a folder of shards, and the store made from them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError
from koe5_integrations.ingestion.shards import ShardFolder
from koe5_integrations.ingestion.shards.manifest import read_manifest
from koe5_integrations.ingestion.stores import Store
from koe5_integrations.ingestion.stores.wrapping import as_store

__all__ = ["Opened", "Place", "default_shards"]

_log = logging.getLogger("koe5_integrations")


def default_shards(persist_dir: str | os.PathLike[str], collection: str) -> Path:
    """Return the folder of a collection's shards: ``DIR.shards/COLLECTION``, beside the store.

    Not inside it, so that who deletes a broken store keeps what it can be rebuilt from.
    """
    folder = Path(persist_dir).expanduser().absolute()
    return folder.with_name(f"{folder.name}.shards") / collection


@dataclass(frozen=True)
class Opened:
    """Shards and store, open for writing.

    Attributes:
        damage: what was wrong with the store, which is empty now; empty if nothing was.
    """

    shards: ShardFolder
    store: Store
    damage: str = ""


@dataclass(frozen=True)
class Place:
    """Where an ingestion writes.

    Attributes:
        shards: their folder.
        persist_dir: folder of an embedded Chroma database.
        url: of a Chroma server.
        collection: of Chroma.
        store: any other store, see :func:`~koe5_integrations.ingestion.stores.wrapping.as_store`.
        store_name: of what that holds.
    """

    shards: Path
    persist_dir: Path | None = None
    url: str | None = None
    collection: str | None = None
    store: Any = None
    store_name: str | None = None

    @classmethod
    def of(
        cls,
        *,
        persist_dir: str | os.PathLike[str] | None = None,
        url: str | None = None,
        collection: str | None = None,
        store: Any = None,
        store_name: str | None = None,
        shards: str | os.PathLike[str] | None = None,
    ) -> Place:
        """Check what was asked for.

        Raises:
            ConfigError: nothing, too much, or not enough.
        """
        given = [persist_dir is not None, url is not None, store is not None]
        if sum(given) != 1:
            raise ConfigError(
                "give one of persist_dir= (a folder for Chroma), url= (of a Chroma server) and "
                "store= (a vector store of LangChain or LlamaIndex)"
            )
        if (store is None) == (collection is None):
            raise ConfigError(
                "collection= names a Chroma collection, and goes with persist_dir= or url="
            )
        if collection is not None:
            from koe5_integrations.ingestion.stores.chroma_database import check_collection_name

            check_collection_name(collection)
        if shards is not None:
            folder = Path(shards).expanduser().absolute()
        elif persist_dir is not None and collection is not None:
            folder = default_shards(persist_dir, collection)
        else:
            raise ConfigError("shards= is needed: a folder on this machine that keeps the vectors")
        return cls(
            folder,
            None if persist_dir is None else Path(persist_dir).expanduser().absolute(),
            url,
            collection,
            store,
            store_name,
        )

    @property
    def recorded_model(self) -> str | None:
        """The model that the shards were made with; None if there are none.

        Raises:
            ShardError: they are damaged.
        """
        stored = read_manifest(self.shards)
        return None if stored is None else str(stored.fields["model"])

    @contextmanager
    def open(self, encoder: KoE5Encoder) -> Iterator[Opened]:
        """Open both for writing; a store that a crash has damaged comes back empty.

        Raises:
            LockedError: another process is writing there.
            FingerprintMismatchError: shards or collection were made by another model.
            ShardError: the shards are damaged.
            CollectionError: the collection is not one of ours.
            StoreError: the store can't be opened.
        """
        fingerprint, dim = encoder.fingerprint, encoder.dim
        # One of the wrong kind is refused before anything is made.
        given = None if self.store is None else as_store(self.store, encoder, name=self.store_name)
        with ShardFolder(self.shards, fingerprint=fingerprint, dim=dim) as shards:
            if given is not None:
                yield Opened(shards, given)
                return
            from koe5_integrations.ingestion.probing import probe
            from koe5_integrations.ingestion.stores.chroma import ChromaStore

            assert self.collection is not None
            # Opening does not read the index, which may bring down who does.
            with ChromaStore(
                self.collection, encoder, persist_dir=self.persist_dir, url=self.url
            ) as store:
                damage = ""
                if not shards.clean:
                    damage = probe(self.persist_dir or self.url or "", self.collection).problem
                if damage:
                    _log.warning("collection %r is built anew: %s", self.collection, damage)
                    store.reset()
                yield Opened(shards, store, damage)
