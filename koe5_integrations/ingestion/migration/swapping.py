"""The new collection in the old one's place: by renaming, each step of which can be the last.

A crash leaves one of four states, each of which is told from the others by names and by the mark
that the new collection has been given since it was checked: the id of the one it is made from.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from koe5_integrations.chroma import open_collection, stored_fingerprint
from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import CollectionError, FingerprintMismatchError, StoreError
from koe5_integrations.ingestion.existing import find_collection
from koe5_integrations.ingestion.places import default_shards
from koe5_integrations.ingestion.stores.chroma_database import check_collection_name

if TYPE_CHECKING:
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection

__all__ = ["Move", "delete_old", "done_before", "finish", "prepare", "swap"]

_MADE_FROM = "koe5:migrated_from"
_ROWS_PER_CALL = 2000


@dataclass(frozen=True)
class Move:
    """Which collection is to be replaced by which.

    Attributes:
        name: of the old one.
        into: of the new one, when it is done; the same if it takes the old one's place.
        working: folder of shards until then.
        shards: folder of shards afterwards.
    """

    name: str
    into: str
    working: Path
    shards: Path

    @classmethod
    def of(cls, name: str, to: str | None, persist_dir: Path | None, shards: Path | None) -> Move:
        """Choose the names.

        Raises:
            ConfigError: Chroma does not allow them.
        """
        into = to or name
        check_collection_name(into)
        check_collection_name(f"{into}.migrating")
        check_collection_name(f"{name}.before-20261114-99")
        if shards is not None or persist_dir is None:
            given = shards or Path()
            return cls(name, into, given, given)
        return cls(
            name,
            into,
            default_shards(persist_dir, f"{into}.migrating"),
            default_shards(persist_dir, into),
        )

    @property
    def staging(self) -> str:
        """What the new collection is called while it is made."""
        return f"{self.into}.migrating"

    @property
    def in_place(self) -> bool:
        """The new one takes the old one's name."""
        return self.into == self.name


def finish(client: Client, move: Move) -> None:
    """Do what a crash has left of an earlier swap."""
    there = _collections(client)
    staging, new = there.get(move.staging), there.get(move.into)
    if move.in_place and new is None and staging is not None and _made_from(staging, there):
        # The old one has given its name away: so the new one was checked.
        staging.modify(name=move.into)
        there = _collections(client)
        staging, new = None, there[move.into]
    if new is not None and staging is None and _MADE_FROM in (new.metadata or {}):
        old = _made_from(new, there)
        _move_shards(move, old.name if old is not None else f"{move.name}.before")


def done_before(client: Client, move: Move, encoder: KoE5Encoder) -> Collection | None:
    """Return the collection that was replaced, if that is done and it is still there."""
    there = _collections(client)
    new = there.get(move.into)
    if new is None or move.staging in there:
        return None
    if stored_fingerprint(new)[0] != encoder.fingerprint.digest:
        return None
    return _made_from(new, there)


def prepare(
    client: Client,
    move: Move,
    old: Collection,
    encoder: KoE5Encoder,
    *,
    restart: bool,
    persist_dir: Path | None,
) -> None:
    """Make the new collection, empty, or find the one an earlier run has begun.

    Args:
        client: of the database.
        move: what is to be done.
        old: gives the new one its metadata and its index's settings.
        encoder: of the new one.
        restart: drop what an earlier run has begun.
        persist_dir: folder of the database, if it is one.

    Raises:
        CollectionError: something else has the new one's name.
        FingerprintMismatchError: an earlier run was begun with other settings.
    """
    there = _collections(client)
    if not move.in_place:
        if move.into in there:
            raise CollectionError(f"there is a collection {move.into!r} already: choose another")
        if move.shards != move.working and move.shards.exists():
            raise CollectionError(
                f"{move.shards} holds shards of a collection {move.into!r} that is no more: delete "
                "that folder, or choose another name"
            )
    if restart:
        if move.staging in there:
            delete(client, there[move.staging], persist_dir)
        if move.working != move.shards:
            shutil.rmtree(move.working, ignore_errors=True)
    metadata = {
        key: value
        for key, value in (old.metadata or {}).items()
        if not key.startswith(("koe5:", "hnsw:"))
    }
    index = dict(old.configuration_json.get("hnsw") or {})
    try:
        open_collection(client, move.staging, encoder, metadata=metadata, hnsw=index)
    except FingerprintMismatchError as error:
        raise FingerprintMismatchError(
            f"an unfinished migration of {move.name!r} was begun with other settings: {error}. "
            "Finish it with those, or drop it with --restart"
        ) from None


def swap(client: Client, move: Move, old_id: str) -> str | None:
    """Let the new collection, which was checked, take its name.

    Args:
        client: of the database.
        move: what is to be done.
        old_id: of the collection that it was made from.

    Returns:
        What the old one is called now; None if it keeps its name.

    Raises:
        StoreError: the old one was replaced meanwhile.
    """
    there = _collections(client)
    old, staging = there.get(move.name), there[move.staging]
    if old is None or str(old.id) != old_id:
        raise StoreError(
            f"collection {move.name!r} was replaced by somebody else meanwhile: start again"
        )
    staging.modify(metadata={**(staging.metadata or {}), _MADE_FROM: old_id})
    before = None
    if move.in_place:
        before = _free(f"{move.name}.before-{date.today():%Y%m%d}", there)
        old.modify(name=before)
    staging.modify(name=move.into)
    _move_shards(move, before or f"{move.name}.before")
    return before


def delete(client: Client, collection: Collection, persist_dir: Path | None) -> None:
    """Delete a collection and, before, its rows, if they can be read.

    Otherwise lists in their metadata stay behind, and turn up in other collections' rows:
    https://github.com/chroma-core/chroma/issues/7594
    """
    with suppress(StoreError):
        find_collection(client, collection.name, persist_dir)
        while ids := collection.get(limit=_ROWS_PER_CALL, include=[])["ids"]:
            collection.delete(ids)
    client.delete_collection(collection.name)


def delete_old(client: Client, old_id: str, persist_dir: Path | None) -> None:
    """Delete the collection that was replaced, if it is still there."""
    for collection in client.list_collections():
        if str(collection.id) == old_id:
            delete(client, collection, persist_dir)


def _collections(client: Client) -> dict[str, Collection]:
    return {collection.name: collection for collection in client.list_collections()}


def _made_from(new: Collection, there: Mapping[str, Collection]) -> Collection | None:
    id = (new.metadata or {}).get(_MADE_FROM)
    return next((c for c in there.values() if str(c.id) == id and c.name != new.name), None)


def _move_shards(move: Move, before: str) -> None:
    """Give the new collection's shards its name, and the old one's, if it has any, the old one's.

    Nothing happens if that is done.
    """
    if move.working == move.shards or not move.working.exists():
        return
    if move.shards.exists():
        names = {path.name for path in move.shards.parent.iterdir()}
        move.shards.rename(move.shards.with_name(_free(before, names)))
    move.working.rename(move.shards)


def _free(name: str, taken: Container[str]) -> str:
    numbered = (f"{name}-{n}" for n in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)
