"""The steps of a migration: find, embed, load, check, swap."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import CollectionError, ConfigError
from koe5_integrations.ingestion.existing import find_collection, opened_client
from koe5_integrations.ingestion.loading import Loader, load_all
from koe5_integrations.ingestion.migration.checking import check_copy
from koe5_integrations.ingestion.migration.copying import Copying, list_unfit
from koe5_integrations.ingestion.migration.result import Migration
from koe5_integrations.ingestion.migration.swapping import (
    Move,
    delete_old,
    done_before,
    finish,
    prepare,
    swap,
)
from koe5_integrations.ingestion.passages import FROM_COLLECTION
from koe5_integrations.ingestion.places import Opened, Place
from koe5_integrations.ingestion.quarantine import Quarantine
from koe5_integrations.ingestion.stores.chroma import ChromaStore
from koe5_integrations.ingestion.stores.chroma_database import connect

__all__ = ["migrate"]

_PURPOSE = "koe5 migrate"


def migrate(
    collection: str,
    *,
    encoder: KoE5Encoder,
    persist_dir: str | os.PathLike[str] | None = None,
    url: str | None = None,
    to: str | None = None,
    shards: str | os.PathLike[str] | None = None,
    drop_old: bool = False,
    allow_loss: bool = False,
    restart: bool = False,
    on_progress: Callable[[Migration], None] = lambda result: None,
) -> Migration:
    """Embed a collection's texts again, as passages, and let the new collection replace it.

    Ids, texts and metadata stay as they are. Run again after a crash, it goes on from where it was:
    nothing is embedded twice, and under the collection's name there is always the old one or the
    new one, or the next run puts the new one there.

    Args:
        collection: whoever made it; nobody may write to it meanwhile.
        encoder: whose vectors the new one gets.
        persist_dir: folder of an embedded database.
        url: of a Chroma server, instead; needs ``shards``.
        to: make a new collection of this name and leave the old one as it is; None replaces it, and
            it is called ``NAME.before-DATE`` afterwards.
        shards: folder that holds texts and vectors durably; None is ``PERSIST_DIR.shards/NAME``.
        drop_old: delete the old collection in the end.
        allow_loss: go on without the rows that can't be embedded.
        restart: drop what an earlier run of other settings has begun.
        on_progress: called after each step with the counts so far.

    Raises:
        CollectionError: there is no such collection, or rows of it would be lost.
        FingerprintMismatchError: an unfinished migration was begun with other settings.
        LockedError: another process is using the database.
        StoreError: Chroma failed, or the new collection is not what it should be.
        ShardError: the shards are damaged.
        ConfigError: impossible arguments.
        ModelLoadError: the model can't be had.
    """
    started = time.perf_counter()
    if to == collection:
        raise ConfigError(f"to={to!r} is the collection itself: leave it out to replace it")
    folder = None if persist_dir is None else Path(persist_dir).expanduser().absolute()
    kept = None if shards is None else Path(shards).expanduser().absolute()
    if folder is None and kept is None:
        raise ConfigError("shards= is needed with url=: a folder on this machine for the vectors")
    move = Move.of(collection, to, folder, kept)
    result = Migration(collection, move.into, move.shards)
    with opened_client(persist_dir, url, purpose=_PURPOSE) as client:
        finish(client, move)
        replaced = done_before(client, move, encoder)
        if replaced is not None:
            result.already = True
            result.rows = client.get_collection(move.into, embedding_function=None).count()
            result.before = replaced.name if move.in_place else None
            if drop_old:
                delete_old(client, str(replaced.id), folder)
                result.before = None
            return result
        old = find_collection(client, collection, persist_dir)
        old_id = str(old.id)
        prepare(client, move, old, encoder, restart=restart, persist_dir=folder)
    place = Place.of(persist_dir=folder, url=url, collection=move.staging, shards=move.working)

    def tell() -> None:
        result.seconds = time.perf_counter() - started
        on_progress(result)

    with place.open(encoder) as opened:
        _copy(opened, place, collection, encoder, result, allow_loss=allow_loss, tell=tell)
    with opened_client(persist_dir, url, purpose=_PURPOSE) as client:
        result.before = swap(client, move, old_id)
        if drop_old:
            delete_old(client, old_id, folder)
            result.before = None
    if result.left_out:
        result.quarantine = move.shards / "quarantine.jsonl"
    tell()
    return result


def _copy(
    opened: Opened,
    place: Place,
    name: str,
    encoder: KoE5Encoder,
    result: Migration,
    *,
    allow_loss: bool,
    tell: Callable[[], None],
) -> None:
    """Fill the new collection from the old one, and check it.

    Raises:
        CollectionError: rows would be lost.
        StoreError: as :func:`migrate`.
    """
    source_name = f"{FROM_COLLECTION}{name}"
    store = opened.store
    assert isinstance(store, ChromaStore)

    def loaded(n: int) -> None:
        result.loaded += n

    with closing(connect(place.persist_dir, place.url)) as reading:
        old = reading.get_collection(name, embedding_function=None)
        result.rows = old.count()
        quarantine = Quarantine(opened.shards.path / "quarantine.jsonl", [source_name])
        result.left_out = list_unfit(old, quarantine, source_name)
        _refuse_loss(result, quarantine, allow_loss=allow_loss)
        with Loader(opened.shards, store, loaded) as loader:
            copying = Copying(opened.shards, encoder, loader, quarantine, result, tell)
            copying.run(old, source_name)
            loader.finish(tell)
        _refuse_loss(result, quarantine, allow_loss=allow_loss)
        if store.count() < opened.shards.count()[1]:
            load_all(opened.shards, store, loaded)
        check_copy(
            old,
            store.collection,
            shards=opened.shards,
            encoder=encoder,
            left_out=result.left_out,
        )


def _refuse_loss(result: Migration, quarantine: Quarantine, *, allow_loss: bool) -> None:
    if result.left_out and not allow_loss:
        raise CollectionError(
            f"{result.left_out:,} of the {result.rows:,} rows of {result.collection!r} can't be "
            f"embedded, and would be lost; {quarantine.path} names them. Go on without them with "
            "allow_loss=True"
        )
