"""What a migration has done, and what it is doing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Migration"]


@dataclass
class Migration:
    """Counts of one run; they grow while it is running.

    Attributes:
        collection: that was migrated.
        into: name of the new one.
        shards: folder that holds its texts and vectors durably.
        before: what the old one is called now; None if it is as it was, or deleted.
        already: an earlier run has done it all; nothing was embedded.
        rows: of the old one.
        unchanged: rows that an earlier run had embedded.
        embedded: texts that went through the model.
        reused: rows whose text another row had.
        left_out: rows that could not be embedded; they are in ``quarantine``.
        cut: texts longer than the model reads, of those embedded in this run.
        cut_tokens: of theirs that are in no vector.
        prefixed: texts that brought a prefix, of those embedded in this run.
        loaded: rows given to the new collection in this run.
        seconds: all of it took.
        quarantine: the file that names what was left out and why, if anything was.
    """

    collection: str
    into: str
    shards: Path
    before: str | None = None
    already: bool = False
    rows: int = 0
    unchanged: int = 0
    embedded: int = 0
    reused: int = 0
    left_out: int = 0
    cut: int = 0
    cut_tokens: int = 0
    prefixed: int = 0
    loaded: int = 0
    seconds: float = 0.0
    quarantine: Path | None = None
