"""The order of the shards on disk, and an index that agrees with it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from koe5_integrations.errors import ShardError, shorten
from koe5_integrations.fingerprint import Fingerprint
from koe5_integrations.ingestion.shards.database import IndexDamagedError, remove_database
from koe5_integrations.ingestion.shards.files import ShardFile
from koe5_integrations.ingestion.shards.index import Index
from koe5_integrations.ingestion.shards.layout import writing

__all__ = ["OnDisk", "open_index", "shard_name", "shards_on_disk", "take_in"]

_log = logging.getLogger("koe5_integrations")

_NAME = re.compile(r"(\d{8,})-[0-9a-f]{8}\.parquet")


class OnDisk(NamedTuple):
    """A shard's file; they sort in the order they were written."""

    number: int
    name: str
    size: int


def shard_name(number: int, uid: str) -> str:
    """Return the name of a shard's file."""
    return f"{number:08}-{uid[:8]}.parquet"


def shards_on_disk(folder: Path) -> list[OnDisk]:
    """Return the shards in a folder, in their order.

    Raises:
        ShardError: there is a Parquet file of another name.
    """
    found = []
    for path in folder.glob("*.parquet"):
        name = _NAME.fullmatch(path.name)
        if name is None:
            raise ShardError(
                f"{path} does not have the name of a shard: move it out of the folder (what "
                "write_shard wrote is taken in by ShardFolder.adopt)"
            )
        found.append(OnDisk(int(name[1]), path.name, path.stat().st_size))
    return sorted(found)


def open_index(
    file: Path,
    folder: Path,
    shards: Sequence[OnDisk],
    fingerprint: Fingerprint,
    dim: int,
    *,
    anew: bool,
    suspect: bool,
) -> Index:
    """Open the index of these shards, having taken in what it does not know yet.

    Args:
        file: of the index; made if need be.
        folder: of the shards.
        shards: all there are.
        fingerprint: that each must have.
        dim: of their vectors.
        anew: make it again, whatever there is.
        suspect: it may have been torn.

    Raises:
        FingerprintMismatchError: a shard's vectors were made by another model or other settings.
        ShardError: a shard is damaged, or the system doesn't let the index be opened.
    """
    if not anew:
        try:
            index = Index(file, suspect=suspect)
            with _closing_if_it_fails(index):
                known = [(entry.name, entry.size) for entry in index.entries()]
                if known != [(shard.name, shard.size) for shard in shards[: len(known)]]:
                    raise IndexDamagedError(file, "it is of other shards")
                _take_all_in(index, folder, shards[len(known) :], fingerprint, dim)
                return index
        except IndexDamagedError as error:
            _log.warning("%s: %s; it is made again from the shards", file, error.problem)
    with writing(file):
        remove_database(file)
    index = Index(file, suspect=False)
    with _closing_if_it_fails(index):
        _take_all_in(index, folder, shards, fingerprint, dim)
    return index


def take_in(index: Index, path: Path, fingerprint: Fingerprint, dim: int) -> int:
    """Take a shard into an index as the latest; return its place.

    Raises:
        FingerprintMismatchError: its vectors were made by another model or other settings.
        ShardError: it is damaged.
    """
    with ShardFile(path) as shard:
        shard.stored.check(path, fingerprint, dim)
        sequence, robbed = index.add(
            number=int(path.name.split("-")[0]),
            name=path.name,
            size=path.stat().st_size,
            uid=shard.uid,
            rows=shard.narrow(),
            removed=shard.removed(),
        )
    for document in robbed:
        _log.warning(
            "%s has a passage with the id of one of document %s, which is therefore gone",
            path,
            shorten(document),
        )
    return sequence


def _take_all_in(
    index: Index, folder: Path, shards: Sequence[OnDisk], fingerprint: Fingerprint, dim: int
) -> None:
    for shard in shards:
        take_in(index, folder / shard.name, fingerprint, dim)


@contextmanager
def _closing_if_it_fails(index: Index) -> Iterator[None]:
    with ExitStack() as opened:
        opened.callback(index.close)
        yield
        opened.pop_all()
