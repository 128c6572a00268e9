"""A framework's own vector store, through a handful of its calls."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import FingerprintMismatchError, KoE5Error, StoreError
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.types import Vectors

__all__ = ["Calls", "ForeignStore"]

# Passages in one call: what a hosted database takes of 1,024 dimensions in one request.
_AT_ONCE = 1000
_IDS_AT_ONCE = 10_000
# Qdrant and Weaviate take nothing but UUIDs, Pinecone no Hangul.
_TAKE_UUIDS = frozenset(
    {"Qdrant", "QdrantVectorStore", "WeaviateVectorStore", "PineconeVectorStore"}
)


class Calls(Protocol):
    """What a framework's store is asked to do. Ids in a call differ, and are few enough for it."""

    @property
    def store(self) -> object:
        """The vector store itself."""

    def add(self, passages: Sequence[Passage], vectors: Vectors) -> None:
        """Store passages of which no id is there."""

    def remove(self, ids: Sequence[str]) -> None:
        """Remove passages, of which any may be missing."""

    def listed(self) -> Collection[str] | None:
        """Return the ids of all that is stored; None if the store can't list them."""

    def clear(self) -> bool:
        """Empty a store that can't list what it holds; return whether that is possible."""


class ForeignStore:
    """A store of LangChain or LlamaIndex as a :class:`~koe5_integrations.ingestion.stores.Store`.

    What is there already under an id is removed before a passage is added under it, because
    frameworks differ in what becomes of it otherwise: replaced, merged, kept, doubled or refused.

    By default nobody can tell whether a store still holds what it held for another process: most
    frameworks have stores that live in memory, and don't say which. So the key is that of the
    Python object, and in a new process everything is loaded again, without being embedded. Two
    things spare that: a Chroma collection behind the store, whose identifier tells; and a name that
    the caller gives, and with it the promise to change it whenever the store was emptied.

    Args:
        calls: the framework's.
        encoder: whose vectors will come.
        name: of what the store holds, for stores that keep it.
        uuids: store a passage under a UUID made from its id, as some databases want; None does so
            for those known to.

    Raises:
        FingerprintMismatchError: the store's Chroma collection was embedded by another model.
        StoreError: the store failed.
    """

    def __init__(
        self, calls: Calls, encoder: KoE5Encoder, *, name: str | None, uuids: bool | None
    ) -> None:
        self._calls = calls
        self._kind = type(calls.store).__name__
        self._name = name
        self._uuids = self._kind in _TAKE_UUIDS if uuids is None else uuids
        with self._failures("open"):
            collection = self._collection
            if collection is not None:
                _check_fingerprint(collection, encoder)

    @property
    def key(self) -> str:
        """Names the store's class, and what tells this incarnation of it; see the class."""
        store, collection = self._calls.store, self._collection
        lasting = [self._name] if self._name is not None else []
        if collection is not None:
            lasting += [collection.name, str(collection.id)]
        since_reset = _incarnations.get(id(store))
        if not lasting and since_reset is None:
            since_reset = _begin_incarnation(store)
        return ":".join([self._kind, *lasting, *([since_reset] if since_reset else [])])

    def upsert(self, passages: Sequence[Passage], vectors: Vectors) -> None:
        """Replace passages, some at a time. See :class:`~koe5_integrations.ingestion.stores.Store`.

        While a passage is replaced, it is missing for a moment.
        """
        with self._failures("add to"):
            if self._collection is not None:
                from koe5_integrations.ingestion.stores.chroma_database import as_chroma_metadata

                passages = [replace(p, metadata=as_chroma_metadata(p.metadata)) for p in passages]
            if self._uuids:
                passages = [replace(p, id=_as_uuid(p.id)) for p in passages]
            at_once = self._at_once()
            for start in range(0, len(passages), at_once):
                part = passages[start : start + at_once]
                self._calls.remove([passage.id for passage in part])
                self._calls.add(part, vectors[start : start + at_once])

    def delete(self, ids: Sequence[str]) -> None:
        """Remove passages; those that are not there are no error."""
        self._delete([_as_uuid(id_) for id_ in ids] if self._uuids else ids)

    def _delete(self, stored_ids: Sequence[str]) -> None:
        with self._failures("delete from"):
            at_once = self._at_once()
            for start in range(0, len(stored_ids), at_once):
                self._calls.remove(stored_ids[start : start + at_once])

    def count(self) -> int | None:
        """How many passages there are; None if the store can't say."""
        with self._failures("count"):
            if self._collection is not None:
                return int(self._collection.count())
            listed = self._calls.listed()
            return None if listed is None else len(listed)

    def ids(self) -> Iterator[list[str]] | None:
        """All ids, in pages; None if the store can't list them, or has only UUIDs made of them."""
        return None if self._uuids else self._stored_ids()

    def _stored_ids(self) -> Iterator[list[str]] | None:
        if self._collection is not None:
            return self._collection_ids()
        listed = self._calls.listed()
        return None if listed is None else _pages(list(listed))

    def reset(self) -> None:
        """Empty it; its key is another afterwards.

        Raises:
            StoreError: it is damaged, or can neither be emptied nor list what it holds.
        """
        pages = self._stored_ids()
        if pages is not None:
            for ids in list(pages):
                self._delete(ids)
        else:
            with self._failures("empty"):
                if not self._calls.clear():
                    raise StoreError(
                        f"{self._kind} can neither be emptied nor list what it holds: make a new "
                        "one and ingest into that; nothing will be embedded again"
                    )
        _begin_incarnation(self._calls.store)

    @property
    def _collection(self) -> Any:
        """The Chroma collection that the store's data lie in; None if they lie elsewhere."""
        collection = getattr(self._calls.store, "_collection", None)
        return collection if type(collection).__module__.startswith("chromadb.") else None

    def _collection_ids(self) -> Iterator[list[str]]:
        from koe5_integrations.ingestion.stores.chroma_database import page_of_ids

        offset = 0
        while True:
            with self._failures("list"):
                page = page_of_ids(self._collection, offset)
            if not page:
                return
            yield page
            offset += len(page)

    def _at_once(self) -> int:
        if self._collection is None:
            return _AT_ONCE
        return min(_AT_ONCE, int(self._collection._client.get_max_batch_size()))

    @contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        try:
            yield
        except KoE5Error:
            raise
        except Exception as error:
            raise StoreError(
                f"could not {doing} the {self._kind}: {type(error).__name__}: {error}. The shards "
                "hold what it was to be given: once it works, run the same again"
            ) from error


# What tells an object's contents from those before, by id(), as long as the object lives.
_incarnations: dict[int, str] = {}


def _begin_incarnation(store: object) -> str:
    if id(store) not in _incarnations:
        weakref.finalize(store, _incarnations.pop, id(store), None)
    _incarnations[id(store)] = uuid.uuid4().hex
    return _incarnations[id(store)]


def _check_fingerprint(collection: Any, encoder: KoE5Encoder) -> None:
    from koe5_integrations.chroma import stored_fingerprint  # only Chroma's collections come here

    digest, there = stored_fingerprint(collection)
    fingerprint = encoder.fingerprint
    if digest not in (None, fingerprint.digest):
        raise FingerprintMismatchError(
            f"collection {collection.name!r} was embedded with {there.get('model')!r}, not with "
            f"{fingerprint.model!r}. {'; '.join(fingerprint.differences(there))}. Ingest with the "
            "settings it was made with, or into a new collection"
        )


def _as_uuid(id_: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, id_))


def _pages(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield list(ids[start : start + _IDS_AT_ONCE])
