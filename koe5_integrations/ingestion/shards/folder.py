"""A folder of shards: the truth that stores are projections of, written by one process at a time.

::

    manifest.json             format version, fingerprint, dim
    shards/00000001-….parquet what was written, in this order; a document's latest version counts
    index.sqlite              what the shards hold, for quick questions; made again if lost
    clean                     there while nobody writes, unless the last writer was killed
    quarantine.jsonl          of whoever ingests
    .koe5.lock, .koe5.lock.json
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from koe5_integrations.errors import ShardError, shorten
from koe5_integrations.fingerprint import Fingerprint
from koe5_integrations.ingestion.locking import FolderLock
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.ingestion.shards.checks import ShardCheck
from koe5_integrations.ingestion.shards.durable import (
    make_folder,
    move_in,
    remove_leftovers,
    sync_folder,
)
from koe5_integrations.ingestion.shards.files import (
    ShardFile,
    new_uid,
    put_shard,
    stacked,
)
from koe5_integrations.ingestion.shards.history import (
    open_index,
    shard_name,
    shards_on_disk,
    take_in,
)
from koe5_integrations.ingestion.shards.layout import writing
from koe5_integrations.ingestion.shards.manifest import MANIFEST, read_manifest, write_manifest
from koe5_integrations.types import Vectors

__all__ = ["Change", "ShardFolder"]

_SHARDS = "shards"
_INDEX = "index.sqlite"
_CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Change:
    """What a shard changes in a store.

    Attributes:
        passages: those of the shard that are current.
        vectors: theirs, float32, shape (len(passages), dim).
        removed_ids: of passages that the store is to delete.
    """

    passages: list[Passage]
    vectors: Vectors
    removed_ids: list[str]


class ShardFolder:
    """Vector shards, each durable once written; created, or opened for writing.

    A context manager; left by an exception, it is not :attr:`clean` for the next who opens it.
    Two threads may use it at once: one that writes, and one that loads a store.

    Args:
        path: made if need be.
        fingerprint: of the vectors.
        dim: of the vectors.

    Attributes:
        path: of the folder.
        fingerprint: of its vectors.
        dim: of its vectors.
        clean: the last writer ended in order; if not, a store may be torn.

    Raises:
        LockedError: another process writes there.
        FingerprintMismatchError: its vectors were made by another model or other settings.
        ShardError: a shard is damaged, or the folder is of another version or no folder of shards.
        ConfigError: it can't be made or written.
    """

    def __init__(self, path: str | os.PathLike[str], *, fingerprint: Fingerprint, dim: int) -> None:
        self.path = Path(path)
        self.fingerprint = fingerprint
        self.dim = dim
        self._shards = self.path / _SHARDS
        self._stays_unclean = False
        self._closed = False
        self._writing = threading.Lock()
        self._unindexed: list[Path] = []
        with ExitStack() as opened:
            with writing(self.path):
                _check_ours(self.path)
                make_folder(self.path)
            opened.enter_context(FolderLock(self.path, "writing vector shards"))
            stored = read_manifest(self.path)
            if stored is not None:
                stored.check(self.path, fingerprint, dim)
            with writing(self.path):
                make_folder(self._shards)
                for folder in (self.path, self._shards):
                    remove_leftovers(folder)
                # A killed writer may have named a shard and not waited for the disk.
                sync_folder(self._shards)
                on_disk = shards_on_disk(self._shards)
                marker = self.path / _CLEAN
                self.clean = marker.exists() or (stored is None and not on_disk)
                marker.unlink(missing_ok=True)
                sync_folder(self.path)
            self._index = open_index(
                self.path / _INDEX,
                self._shards,
                on_disk,
                fingerprint,
                dim,
                # Without a manifest, each shard is asked for its fingerprint again.
                anew=stored is None,
                suspect=not self.clean,
            )
            opened.callback(self._index.close)
            if stored is None:
                with writing(self.path):
                    write_manifest(self.path, fingerprint, dim)
            self._opened = opened.pop_all()

    @classmethod
    def existing(cls, path: str | os.PathLike[str]) -> ShardFolder:
        """Open a folder with the fingerprint it has; it is left as clean as it was found.

        Raises:
            ShardError: there is none, or as for the class.
            LockedError: another process writes there.
        """
        stored = read_manifest(Path(path))
        if stored is None:
            raise ShardError(
                f"{path} is no folder of shards: it has no {MANIFEST}. koe5 ingest makes one, or "
                "writes a lost one again if the folder still has its shards"
            )
        fingerprint = stored.fingerprint(Path(path) / MANIFEST)
        folder = cls(path, fingerprint=fingerprint, dim=stored.dim)
        folder._stays_unclean = not folder.clean
        return folder

    def __enter__(self) -> ShardFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close(clean=error is None)

    def close(self) -> None:
        """End in order, and let others write."""
        self._close(clean=True)

    def _close(self, *, clean: bool) -> None:
        with self._writing, self._opened.pop_all():
            if self._closed:
                return
            self._closed = True
            self._index.close()
            if clean and not self._stays_unclean:
                with writing(self.path):
                    (self.path / _CLEAN).touch()
                    sync_folder(self.path)

    # Writing

    def write(
        self, passages: Sequence[Passage], vectors: Vectors, *, removed: Sequence[str] = ()
    ) -> int:
        """Write a shard: durable when this returns, and wholly there or not at all if it doesn't.

        Args:
            passages: of documents that are there with all their passages; each document replaces
                the version of it that there was.
            vectors: float32, shape (len(passages), dim), all finite.
            removed: ids of documents that there are no more.

        Returns:
            The shard's place in history.

        Raises:
            ShardError: passages, vectors or ids are not as they must be (nothing is written), or
                the disk is full or fails (what was written before is kept).
        """
        check = ShardCheck(f"shard for {self.path}", self.dim)
        check.add(passages, vectors)
        check.finish(removed)
        with self._writing:
            self._index_written()
            self._check_owners(check, removed)
            uid = new_uid()
            path = self._new_path(uid)
            self._unindexed.append(path)
            put_shard(path, uid, passages, vectors, self.fingerprint, removed)
            return self._index_written()

    def adopt(self, file: str | os.PathLike[str]) -> int:
        """Move a shard in that :func:`write_shard` wrote elsewhere.

        One that was adopted before, as after a crash, is only removed there.

        Returns:
            Its place in history.

        Raises:
            FingerprintMismatchError: its vectors were made by another model or other settings.
            ShardError: it is missing, damaged or incomplete, or has a passage whose id belongs to
                another document; it stays where it is.
        """
        file = Path(file)
        with self._writing:
            self._index_written()
            with ShardFile(file) as shard:
                shard.stored.check(file, self.fingerprint, self.dim)
                uid = shard.uid
                known = self._index.sequence_of(uid)
                if known is None:
                    check = ShardCheck(str(file), self.dim)
                    for rows, (passages, vectors) in zip(
                        shard.narrow(), shard.pieces(), strict=True
                    ):
                        check.add(passages, vectors)
                        if [row[-1] for row in rows] != [p.text_hash for p in passages]:
                            raise ShardError(f"{file}: the hash of a text is not that of its text")
                    check.finish(removed := shard.removed())
                    self._check_owners(check, removed)
            with writing(self.path):
                if known is not None:
                    if not file.samefile(self._shards / self._index.entry(known).name):
                        file.unlink()
                    return known
                path = self._new_path(uid)
                self._unindexed.append(path)
                move_in(file, path)
            return self._index_written()

    def _check_owners(self, check: ShardCheck, removed: Sequence[str]) -> None:
        going = {*check.documents, *removed}
        for passage, document in self._index.owners(check.ids):
            if document not in going:
                raise ShardError(
                    f"passage {shorten(passage)} of document {shorten(check.ids[passage])} has the "
                    f"id of a passage of document {shorten(document)}: give one of them another id"
                )

    def _new_path(self, uid: str) -> Path:
        return self._shards / shard_name(self._index.next_sequence(), uid)

    # Reading

    def hashes(self, document_ids: Sequence[str]) -> dict[str, str]:
        """Return the hash of the current version of each of these documents that there is."""
        return self._index.hashes(document_ids)

    def vectors(self, text_hashes: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """Return the vector, shape (dim,), of each of these texts that any shard ever had.

        Raises:
            ShardError: a shard is damaged.
        """
        rows: dict[int, list[int]] = {}
        texts: dict[int, list[str]] = {}
        for sequence, row, text in self._index.places(text_hashes):
            rows.setdefault(sequence, []).append(row)
            texts.setdefault(sequence, []).append(text)
        found: dict[str, npt.NDArray[np.float32]] = {}
        for sequence, wanted in rows.items():
            with self._open(sequence) as shard:
                found.update(zip(texts[sequence], shard.vectors(wanted), strict=True))
        return found

    def count(self) -> tuple[int, int]:
        """Return how many documents and passages there are."""
        return self._index.count()

    def ids(self) -> Iterator[list[str]]:
        """Yield the ids of all passages, sorted by code point, a page at a time."""
        return self._index.passage_pages()

    def live(self) -> Iterator[tuple[list[Passage], Vectors]]:
        """Yield all passages with their vectors, shard by shard, some rows at a time.

        What is written meanwhile may come or not, or in its older version.

        Raises:
            ShardError: a shard is damaged.
        """
        for sequence in self._index.current_shards():
            documents, _ = self._index.change(sequence)
            with self._open(sequence) as shard:
                yield from shard.pieces(documents)

    # Stores

    def unloaded(self, store_key: str) -> list[int]:
        """Return the shards that this store has not been given, in the order to give them."""
        return self._index.unloaded(store_key)

    def change(
        self, sequence: int, held: tuple[Sequence[Passage], Vectors] | None = None
    ) -> Change:
        """Return what a shard changes in a store, as things are now.

        Args:
            sequence: the shard's.
            held: its passages and vectors, if they are still at hand: then it need not be read.

        Raises:
            ShardError: there is no such shard, or it is damaged.
        """
        documents, removed = self._index.change(sequence)
        if held is not None and all(passage.document_id in documents for passage in held[0]):
            return Change(list(held[0]), held[1], removed)
        with self._open(sequence) as shard:
            pieces = list(shard.pieces(documents)) if documents else []
        return Change(
            passages=[passage for passages, _ in pieces for passage in passages],
            vectors=stacked([vectors for _, vectors in pieces], self.dim),
            removed_ids=removed,
        )

    def mark_loaded(self, store_key: str, sequence: int) -> None:
        """Remember that a store has been given a shard."""
        self._index.mark_loaded(store_key, sequence)

    # What a run has seen

    def start_run(self) -> None:
        """Begin anew to remember which documents are seen."""
        self._index.start_run()

    def mark_seen(self, document_ids: Sequence[str]) -> set[str]:
        """Remember documents, and return those that an earlier call of this run has seen."""
        return self._index.mark_seen(document_ids)

    def unseen(self, sources: Sequence[str]) -> Iterator[list[str]]:
        """Yield the stored documents of these sources not seen in this run, a page at a time.

        They may be removed meanwhile.
        """
        return self._index.unseen_pages(sources)

    # The index

    def _open(self, sequence: int) -> ShardFile:
        return ShardFile(self._shards / self._index.entry(sequence).name)

    def _index_written(self) -> int:
        """Take in what was written, also by a call that was interrupted; return the last place."""
        sequence = 0
        while self._unindexed:
            path = self._unindexed[0]
            if path.exists():
                sequence = take_in(self._index, path, self.fingerprint, self.dim)
            del self._unindexed[0]
        return sequence


def _check_ours(path: Path) -> None:
    """Refuse a folder of something else before anything is put into it."""
    if not path.exists() or (path / MANIFEST).exists() or (path / _SHARDS).is_dir():
        return
    if not path.is_dir():
        raise ShardError(f"{path} is a file: choose a folder that is new or empty")
    # What a system or a killed run leaves is hidden, but for these.
    ours = (".", _INDEX, _CLEAN, "quarantine.jsonl")
    strange = sorted(p.name for p in path.iterdir() if not p.name.startswith(ours))
    if strange:
        raise ShardError(
            f"{path} is no folder of shards, but holds {', '.join(map(shorten, strange[:3]))}: "
            "choose a folder that is new or empty"
        )
