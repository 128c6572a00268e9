"""Passages that are embedded outside this process, and what comes back of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.ingestion.embed_shard import ShardReport
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.ingestion.pending_folder import PendingFolder
from koe5_integrations.ingestion.quarantine import Quarantine
from koe5_integrations.ingestion.shards import ShardFolder
from koe5_integrations.ingestion.summary import Summary

__all__ = ["Outside"]


class Outside:
    """Hands out passages, and takes finished shards into the folder.

    Args:
        shards: open for writing.
        quarantine: where the reasons go.
        summary: what to count in.
        written: told the sequence number of each shard.
    """

    def __init__(
        self,
        shards: ShardFolder,
        quarantine: Quarantine,
        summary: Summary,
        *,
        written: Callable[[int], None],
    ) -> None:
        self._shards = shards
        self._quarantine = quarantine
        self._summary = summary
        self._written = written
        self._folder: PendingFolder | None = None

    def collect(self) -> None:
        """Take what an earlier run handed out and others have finished; forget the rest of it."""
        if not (self._shards.path / "pending").is_dir():
            return
        for report in self._pending.reports():
            self._take(report)
        self._pending.clear()

    def hand_out(self, passages: Sequence[Passage]) -> None:
        """Write passages of whole documents to a file that waits to be embedded."""
        self._pending.hand_out(passages)
        self._summary.handed_out += 1

    def embed_with_ray(
        self,
        encoder: KoE5Encoder,
        actors: int,
        gpus_per_actor: float,
        *,
        told: Callable[[], None],
    ) -> None:
        """Have Ray embed what was handed out, and take each shard as it comes.

        Raises:
            MissingExtraError: Ray is not installed.
            KoE5Error: as :func:`~koe5_integrations.ingestion.ray_engine.embed_with_ray`.
        """
        from koe5_integrations.ingestion.ray_engine import embed_with_ray

        reports = embed_with_ray(
            self._pending.pending,
            self._pending.finished,
            encoder=encoder,
            actors=actors,
            gpus_per_actor=gpus_per_actor,
        )
        for report in reports:
            # They were counted when they were handed out.
            rejected = [item.id for item in report.rejected if item.id is not None]
            changed = len(self._shards.hashes(rejected))
            self._summary.changed -= changed
            self._summary.new -= len(rejected) - changed
            self._take(report)
            self._summary.handed_out -= 1
            told()

    @property
    def _pending(self) -> PendingFolder:
        if self._folder is None:
            self._folder = PendingFolder(self._shards)
        return self._folder

    def _take(self, report: ShardReport) -> None:
        # First: taking it back removes what it says of them.
        self._quarantine.add(report.rejected)
        self._summary.quarantined += len(report.rejected)
        self._summary.embedded += report.embedded
        if (sequence := self._pending.take_back(report)) is not None:
            self._summary.shards += 1
            self._written(sequence)
