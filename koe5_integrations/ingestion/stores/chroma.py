"""A Chroma collection as a store: in a folder that nobody else writes meanwhile, or on a server."""

from __future__ import annotations

import logging
import math
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, KoE5Error, MissingExtraError, StoreError
from koe5_integrations.ingestion.locking import FolderLock
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.ingestion.stores.chroma_database import (
    as_chroma_metadata,
    check_collection_name,
    clients_here,
    connect,
    index_folders,
    page_of_ids,
    store_key,
)
from koe5_integrations.ingestion.stores.chroma_process import ChromaProcess, replace
from koe5_integrations.types import Vectors

try:
    import httpx
    from chromadb.api import ClientAPI
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection
    from chromadb.errors import NotFoundError
    from tenacity import (
        Retrying,
        retry_if_exception_type,
        stop_after_delay,
        wait_random_exponential,
    )
except ImportError as error:
    raise MissingExtraError("koe5_integrations.ingestion", "ingest") from error

from koe5_integrations.chroma import open_collection

__all__ = ["ChromaStore", "check_collection_name"]

_log = logging.getLogger("koe5_integrations")

# Passages that take longer to store than a process takes to start, which stores those that follow.
_PROCESS_AFTER = 4096
# A Client of Chroma has another one inside.
_CLIENTS_ALONE = 2
# A server refuses bodies of 40 MB; a proxy in front of it may refuse smaller ones.
_REQUEST_BYTES = 8 * 2**20
# Numbers in base64, or as a server without it wants them.
_BYTES_PER_NUMBER = 12

T = TypeVar("T")


class ChromaStore:
    """A Chroma collection with the encoder's fingerprint, made if there is none.

    Opening reads nothing of the collection's index, so that it works where that is damaged, and
    :meth:`reset` with it. A folder is locked until :meth:`close`. Once a few thousand passages were
    stored in it, a process of its own stores the others, see :class:`.ChromaProcess`, unless this
    process has other clients of that folder, which would not see them.

    Args:
        collection_name: 3 to 512 characters of ``[a-zA-Z0-9._-]``.
        encoder: what the vectors are made by; only its fingerprint is read.
        persist_dir: folder of an embedded database, made if need be.
        url: of a Chroma server, as ``http://127.0.0.1:8000``.
        client: any Chroma client, which is left open; nothing is locked.
        patience: seconds to go on trying when a server can't be reached any more.

    Raises:
        ConfigError: an impossible name or URL, or not one of the three places.
        ModelLoadError: the model can't be had.
        LockedError: another process is writing there.
        FingerprintMismatchError: the collection's vectors were made by another model or settings.
        CollectionError: it is not a collection of ours, or not in cosine space.
        StoreError: Chroma can't open it.
    """

    def __init__(
        self,
        collection_name: str,
        encoder: KoE5Encoder,
        *,
        persist_dir: Path | str | None = None,
        url: str | None = None,
        client: ClientAPI | None = None,
        patience: float = 20.0,
    ) -> None:
        if sum(place is not None for place in (persist_dir, url, client)) != 1:
            raise ConfigError("give one of persist_dir=, url= and client=, where the collection is")
        check_collection_name(collection_name)
        _ = encoder.fingerprint  # can fail, and should before a database is made
        self._name = collection_name
        self._encoder = encoder
        self._folder = None if persist_dir is None else Path(persist_dir).expanduser().absolute()
        self._url = url
        self._patience = patience
        self._upserted = 0
        self._process_after: float = _PROCESS_AFTER
        # While there is one, it has the database, and this process has not.
        self._process: ChromaProcess | None = None
        with ExitStack() as opened:
            if self._folder is not None:
                opened.enter_context(FolderLock(self._folder, f"loading {collection_name!r}"))
            self._client: ClientAPI = client if client is not None else connect(self._folder, url)
            if client is None:
                opened.callback(self._disconnect)
            self._collection = self._call(self._open)
            self._most = self._call(self._client.get_max_batch_size)
            self._opened = opened.pop_all()

    @property
    def key(self) -> str:
        """Names place and id of the collection; made anew, it has another id."""
        return store_key(self._folder or self._url or "client", self._collection)

    @property
    def collection(self) -> Collection:
        """The collection, for reading; another one after :meth:`upsert` and :meth:`reset`."""
        self._come_back()
        return self._collection

    def upsert(self, passages: Sequence[Passage], vectors: Vectors) -> None:
        """Store passages, each replacing all there is under its id.

        Arguments and errors as :class:`~koe5_integrations.ingestion.stores.Store` says.
        """
        metadatas = [as_chroma_metadata(passage.stored_metadata) for passage in passages]
        for part in self._parts(passages, metadatas, vectors.shape[1]):
            ids = [passage.id for passage in passages[part]]
            texts = [passage.text for passage in passages[part]]
            self._upserted += len(ids)
            self._call(self._replace, ids, vectors[part], texts, metadatas[part])

    def delete(self, ids: Sequence[str]) -> None:
        """Remove these passages; errors as :meth:`upsert`."""
        for start in range(0, len(ids), self._most):
            self._call(
                (self._process or self._collection).delete, list(ids[start : start + self._most])
            )

    def count(self) -> int:
        """How many passages there are."""
        return self._call((self._process or self._collection).count)

    def ids(self) -> Iterator[list[str]]:
        """All ids, in pages; nothing may be written meanwhile."""
        self._come_back()
        offset = 0
        while page := self._call(page_of_ids, self._collection, offset):
            yield page
            offset += len(page)

    def reset(self) -> None:
        """Delete the collection, damaged or not, and make it anew with the settings it had.

        Other collections in the same place stay as they are.
        """
        self._come_back()
        metadata = {k: v for k, v in (self._collection.metadata or {}).items() if k[:5] != "koe5:"}
        index = dict(self._collection.configuration_json.get("hnsw") or {})
        # Chroma does not delete the index with its collection; where it is left, it takes up space.
        leftovers: list[Path] = []
        if self._folder is not None:
            with suppress(sqlite3.Error):
                leftovers = index_folders(self._folder, self._collection)
        self._reconnect()
        self._call(self._delete_collection)
        for folder in leftovers:
            shutil.rmtree(folder, ignore_errors=True)
        self._collection = self._call(self._open, metadata, index)

    def close(self) -> None:
        """Let others write here; nothing can be called afterwards."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(
        self, metadata: Mapping[str, Any] | None = None, index: Mapping[str, Any] | None = None
    ) -> Collection:
        return open_collection(
            self._client, self._name, self._encoder, metadata=metadata, hnsw=index
        )

    def _disconnect(self) -> None:
        self._upserted = 0
        process, self._process = self._process, None
        self._close_client()
        if process is not None:
            self._call(process.close)
            if self._folder is not None and clients_here(self._folder):
                _log.warning(
                    "%s: Chroma clients that were opened while it was being loaded do not find all "
                    "of it: open them again",
                    self._folder,
                )

    def _close_client(self) -> None:
        if isinstance(self._client, Client):
            self._client.close()

    def _reconnect(self) -> None:
        """Open the database anew, forgetting what is held of the index in memory."""
        if self._folder is not None:
            self._disconnect()
            self._client = connect(self._folder, None)

    def _delete_collection(self) -> None:
        with suppress(NotFoundError):
            self._client.delete_collection(self._name)

    def _parts(
        self, passages: Sequence[Passage], metadatas: Sequence[Mapping[str, object]], dim: int
    ) -> Iterator[slice]:
        """Split into what Chroma takes at once, and a server in one request."""
        start = size = 0
        for i, (passage, metadata) in enumerate(zip(passages, metadatas, strict=True)):
            row = 0
            if self._folder is None:
                row = dim * _BYTES_PER_NUMBER + len((passage.text + str(metadata)).encode())
            if i > start and (i - start == self._most or size + row > _REQUEST_BYTES):
                yield slice(start, i)
                start, size = i, 0
            size += row
        if start < len(passages):
            yield slice(start, len(passages))

    def _replace(self, *columns: Any) -> None:
        self._go_away()
        if self._process is not None:
            self._process.replace(*columns)
        else:
            replace(self._collection, *columns, alone=self._folder is not None)

    def _go_away(self) -> None:
        """Leave the database to a process, once that is worthwhile."""
        if self._folder is None or self._process or self._upserted < self._process_after:
            return
        if clients_here(self._folder) != _CLIENTS_ALONE:
            return
        try:
            self._process = ChromaProcess(self._folder, self._name)
        except (OSError, RuntimeError) as error:
            _log.warning("collection %r is loaded without a process: %s", self._name, error)
            self._process_after = math.inf
        else:
            self._close_client()

    def _come_back(self) -> None:
        """Have the database in this process again."""
        if self._process is not None:
            self._reconnect()
            self._collection = self._call(self._open)

    def _call(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call Chroma, again while its server can't be reached; its errors become ours."""
        # No call here minds being repeated.
        retrying = Retrying(
            retry=retry_if_exception_type(httpx.TransportError),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            stop=stop_after_delay(self._patience),
            reraise=True,
        )
        try:
            return retrying(call, *arguments)
        except KoE5Error:
            raise
        except httpx.TransportError as error:
            raise StoreError(
                f"{self._url or 'the Chroma server'} can't be reached any more: "
                f"{error or type(error).__name__}; see that the server runs and start again: what "
                "is in the shards is not done twice"
            ) from error
        except Exception as error:
            # Chroma raises its own errors, ValueError, TypeError and Exception itself.
            raise StoreError(
                f"{self._folder or self._url or 'Chroma'}: collection {self._name!r}: "
                f"{error or type(error).__name__}; if its index is damaged, `koe5 ingest "
                "--rebuild` makes it anew from the shards"
            ) from error
