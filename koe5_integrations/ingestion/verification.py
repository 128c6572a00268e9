"""Whether a Chroma collection is what its shards say: each thing checked, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from koe5_integrations.errors import ConfigError, ShardError, StoreError
from koe5_integrations.ingestion.comparing import Finding, IdSets, Sample, Truth
from koe5_integrations.ingestion.locking import FolderLock
from koe5_integrations.ingestion.places import default_shards
from koe5_integrations.ingestion.probing import probe
from koe5_integrations.ingestion.projection import REBUILD, Projection
from koe5_integrations.ingestion.stores.chroma_database import (
    DATABASE,
    check_collection_name,
    connect,
)

__all__ = ["Check", "Verification", "verify"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of what was checked.
        ok: None if it could not be checked here.
        detail: a sentence of what was found, and what to do if that is wrong.
    """

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of all checks."""

    checks: tuple[Check, ...]

    @property
    def sound(self) -> bool:
        """No check failed."""
        return all(check.ok is not False for check in self.checks)


def verify(
    *,
    persist_dir: str | os.PathLike[str] | None = None,
    url: str | None = None,
    collection: str,
    shards: str | os.PathLike[str] | None = None,
    sample: int = 256,
    model: str | None = None,
    device: str | None = None,
    cache_folder: str | None = None,
) -> Verification:
    """Check a Chroma collection against the shards it was made from.

    All ids, and all vectors of the shards, are read; memory does not grow with their number.

    Args:
        persist_dir: folder of an embedded database.
        url: of a Chroma server, instead.
        collection: its name there.
        shards: their folder; None is ``PERSIST_DIR.shards/COLLECTION``.
        sample: how many passages are compared with what is stored, and searched for.
        model: the collection's model, if it is no longer where it was.
        device: what a few passages are embedded anew on.
        cache_folder: of downloaded models; nothing is downloaded.

    Raises:
        ConfigError: impossible arguments.
        LockedError: another process is writing there.
    """
    check_collection_name(collection)
    if (persist_dir is None) == (url is None):
        raise ConfigError("give one of persist_dir= and url=, where the collection is")
    if sample < 1:
        raise ConfigError(f"sample={sample!r} must be at least 1")
    if shards is None and persist_dir is None:
        raise ConfigError("shards= is needed: the folder of what the collection was made from")
    if shards is None and persist_dir is not None:
        shards = default_shards(persist_dir, collection)
    folder = None if persist_dir is None else Path(persist_dir).expanduser().absolute()
    place = str(folder or url)
    checks: list[Check] = []

    def check(name: str, look: Callable[[], Finding]) -> bool | None:
        try:
            ok, detail = look()
        except ShardError as error:
            ok, detail = False, str(error)
        except StoreError as error:
            ok, detail = False, f"Chroma can't read it: {error}; {REBUILD}"
        checks.append(Check(name, ok, detail))
        return ok

    with ExitStack() as opened:
        ids = opened.enter_context(IdSets())
        truth = Truth(Path(shards or ""), ids, Sample(sample), opened)
        has_shards = check("shards", truth.read)
        if folder is not None and (folder / DATABASE).is_file():
            opened.enter_context(FolderLock(folder, f"verifying {collection!r}"))
        if check("collection", lambda: _readable(place, collection)) and has_shards:
            client = opened.enter_context(closing(connect(folder, url)))
            projection = Projection(
                client.get_collection(collection, embedding_function=None), place, truth
            )
            for name, look in projection.checks.items():
                check(name, look)
            check("encoder", lambda: projection.embedded_anew(model, device, cache_folder))
    return Verification(tuple(checks))


def _readable(place: str, name: str) -> Finding:
    """Probe in another process, after which this one can open it without fear."""
    found = probe(place, name)
    if not found.readable:
        return False, f"it is damaged: {found.problem}; {REBUILD}"
    if found.count is None:
        return False, f"{place} has no Chroma collection {name!r}; {REBUILD}"
    return True, f"all of its {found.count:,} rows have a vector and can be read"
