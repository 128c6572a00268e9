"""Passages handed out to be embedded elsewhere, and the shards that come back.

::

    SHARDS/pending/00000001.parquet    to be embedded, by whoever gets to it
    SHARDS/finished/00000001.parquet   what embed_shard has made of it
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from koe5_integrations.ingestion.embed_shard import ShardReport, finished_before, quarantine_of
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.ingestion.pending import write_pending
from koe5_integrations.ingestion.shards import ShardFolder
from koe5_integrations.ingestion.shards.durable import make_folder, remove_leftovers

__all__ = ["PendingFolder"]


class PendingFolder:
    """Hands out passages in files, and takes back the shards made of them.

    Args:
        shards: open for writing.

    Attributes:
        pending: folder of the files to be embedded.
        finished: folder for what is made of them, under the same names.
    """

    def __init__(self, shards: ShardFolder) -> None:
        self._shards = shards
        self.pending = shards.path / "pending"
        self.finished = shards.path / "finished"
        for folder in (self.pending, self.finished):
            make_folder(folder)
            remove_leftovers(folder)
        numbers = (p.stem for p in self.pending.glob("*.parquet") if p.stem.isdecimal())
        self._number = max(map(int, numbers), default=0)

    def hand_out(self, passages: Sequence[Passage]) -> Path:
        """Write passages to be embedded, with the vectors that any shard has of them already.

        Args:
            passages: of whole documents.

        Raises:
            ShardError: too many, or not of whole documents.
        """
        self._number += 1
        path = self.pending / f"{self._number:08}.parquet"
        known = self._shards.vectors(list({passage.text_hash for passage in passages}))
        write_pending(path, passages, fingerprint=self._shards.fingerprint, known=known)
        return path

    def reports(self) -> Iterator[ShardReport]:
        """Yield what became of each file that is finished, to be taken back.

        Raises:
            ShardError: a file is damaged.
        """
        for path in sorted(self.pending.glob("*.parquet")):
            report = finished_before(path, self.finished / path.name, self._shards.hashes)
            if report is not None:
                yield report

    def take_back(self, report: ShardReport) -> int | None:
        """Adopt the shard made of a file, and remove that.

        Its documents' quarantine is removed too: keep the report's ``rejected`` first.

        Returns:
            The shard's place in history; None if there is none, because nothing could be embedded.

        Raises:
            ShardError: the shard is damaged, or a passage has the id of another document's.
        """
        sequence = None if report.output is None else self._shards.adopt(report.output)
        # In this order: who is killed here finds the documents stored, and not their file alone.
        report.pending.unlink()
        quarantine_of(self.finished / report.pending.name).unlink(missing_ok=True)
        return sequence

    def clear(self) -> None:
        """Remove what was handed out, and what was made of it and not taken back."""
        for folder in (self.pending, self.finished):
            for path in folder.iterdir():
                path.unlink()
