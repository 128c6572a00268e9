"""What an ingestion has done, and what it is doing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Summary"]


@dataclass
class Summary:
    """Counts of one run; they grow while it is running.

    Attributes:
        bytes_read: of the sources' files.
        new: documents stored for the first time.
        changed: documents of which another version was stored.
        unchanged: documents that were stored already, and needed nothing.
        duplicates: documents that came again in this run, the same as before; skipped.
        removed: documents that left their source (``sync``).
        not_synced: sources of which nothing was removed, because something in them could not be
            read, and may be any of their documents.
        quarantined: what could not be ingested.
        embedded: texts that went through the model.
        reused: passages whose text a shard had a vector of.
        shards: files written.
        to_load: passages that were read in this run and are for the store.
        loaded: passages given to the store, those left over from an earlier run included.
        documents: in the shards now.
        passages: in the shards now.
        handed_out: files of passages that wait to be embedded elsewhere (``engine="files"``).
        rebuilt: why the store was built anew from the shards; empty if it was not.
        seconds: all of it took.
        quarantine: the file that says what was quarantined and why, if anything was.
    """

    bytes_read: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    duplicates: int = 0
    removed: int = 0
    not_synced: list[str] = field(default_factory=list)
    quarantined: int = 0
    embedded: int = 0
    reused: int = 0
    shards: int = 0
    to_load: int = 0
    loaded: int = 0
    documents: int = 0
    passages: int = 0
    handed_out: int = 0
    rebuilt: str = ""
    seconds: float = 0.0
    quarantine: Path | None = field(default=None)

    @property
    def read(self) -> int:
        """Documents read, good or bad."""
        known = self.new + self.changed + self.unchanged
        return known + self.duplicates + self.quarantined
