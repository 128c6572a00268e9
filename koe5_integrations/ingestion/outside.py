"""Passages that are embedded outside this process, and what comes back of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

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

    def collect(self) -> None:
        """Take what an earlier run handed out and others have finished; forget the rest of it."""
        if not (self._shards.path / "pending").is_dir():
            return
        folder = PendingFolder(self._shards)
        self._take(folder, folder.reports())
        folder.clear()

    def hand_out(self, passages: Sequence[Passage]) -> None:
        """Write passages of whole documents to a file that waits to be embedded."""
        PendingFolder(self._shards).hand_out(passages)
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

        folder = PendingFolder(self._shards)
        reports = embed_with_ray(
            folder.pending,
            folder.finished,
            encoder=encoder,
            actors=actors,
            gpus_per_actor=gpus_per_actor,
        )
        self._take(folder, reports, told)

    def _take(
        self,
        folder: PendingFolder,
        reports: Iterable[ShardReport],
        told: Callable[[], None] = lambda: None,
    ) -> None:
        for report in reports:
            # First: taking it back removes what it says of them.
            self._quarantine.add(report.rejected)
            self._summary.quarantined += len(report.rejected)
            self._summary.embedded += report.embedded
            if (sequence := folder.take_back(report)) is not None:
                self._summary.shards += 1
                self._written(sequence)
            self._summary.handed_out = max(0, self._summary.handed_out - 1)
            told()
