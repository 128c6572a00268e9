"""One pending shard into one finished shard: what any machine can do by itself, in any order.

::

    koe5 ingest (splits) -> pending/*.parquet -> embed_shard, anywhere -> finished/*.parquet
                                                              -> koe5 ingest (loads)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import FingerprintMismatchError
from koe5_integrations.ingestion.documents import Rejected
from koe5_integrations.ingestion.each import embed_each
from koe5_integrations.ingestion.pending import Pending, read_pending
from koe5_integrations.ingestion.shards.durable import new_file
from koe5_integrations.ingestion.shards.files import ShardFile, write_shard
from koe5_integrations.types import Vectors

__all__ = ["ShardReport", "embed_shard", "finished_before", "quarantine_of"]

# Texts the encoder gets at once. While the model works on some, the next are tokenised.
_GROUP = 1024
_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What became of a pending shard.

    Attributes:
        pending: its file.
        output: the finished shard; None if nothing in it could be embedded, or it was adopted.
        documents: that could be embedded.
        passages: of these documents.
        embedded: texts that went through the model for it, now.
        rejected: documents that could not be embedded, and why.
        was_complete: it had been finished before and was left alone.
    """

    pending: Path
    output: Path | None
    documents: int
    passages: int
    embedded: int
    rejected: tuple[Rejected, ...]
    was_complete: bool


def embed_shard(
    pending: str | os.PathLike[str], output: str | os.PathLike[str], *, encoder: KoE5Encoder
) -> ShardReport:
    """Embed one file of passages and write it as a shard, whole or not at all.

    Run again, it leaves alone what is complete. A document of which a passage can't be embedded is
    left out whole and written to ``OUTPUT.quarantine.jsonl``, with the reason.

    Args:
        pending: of :func:`~koe5_integrations.ingestion.pending.write_pending`.
        output: ``NAME.parquet`` in a folder that exists; replaced if it is of other passages.
        encoder: of the settings the file was written for.

    Raises:
        FingerprintMismatchError: it was written for another model or other settings.
        SourceError: there is no such file.
        ShardError: one of the files is damaged, or can't be written.
        ModelLoadError: the model can't be had.
        EmbeddingServerError: a server that embeds fails.
    """
    pending, output = Path(pending), Path(output)
    waiting = read_pending(pending)
    fingerprint = encoder.fingerprint
    if waiting.fingerprint.digest != fingerprint.digest:
        from_fields = json.loads(waiting.fingerprint.to_json())
        raise FingerprintMismatchError(
            f"{pending} was written to be embedded with {waiting.fingerprint.model!r}, not with "
            f"{fingerprint.model!r}: {'; '.join(fingerprint.differences(from_fields))}. Use those "
            "settings, or write it again with these"
        )
    if (before := _finished_before(pending, output, waiting)) is not None:
        return before
    computed = encoder.computed
    vectors, faults = _embed(waiting, encoder)
    rejected: dict[str, str] = {}
    for position, reason in sorted(faults.items()):
        passage = waiting.passages[position]
        rejected.setdefault(passage.document_id, f"passage {passage.id!r}: {reason}")
    # First, so that a shard that is there says with it all that became of its documents.
    _write_quarantine(quarantine_of(output), waiting, rejected)
    sound = [i for i, p in enumerate(waiting.passages) if p.document_id not in rejected]
    if sound:
        passages = [waiting.passages[i] for i in sound]
        write_shard(output, passages, vectors[sound], fingerprint=fingerprint)
    else:
        output.unlink(missing_ok=True)
    embedded = encoder.computed - computed
    return _report(pending, output, waiting, rejected, embedded=embedded, was_complete=False)


def finished_before(
    pending: Path, output: Path, stored: Callable[[Sequence[str]], Mapping[str, str]]
) -> ShardReport | None:
    """Return what became of a pending shard, if it is finished.

    Args:
        pending: as for :func:`embed_shard`.
        output: likewise.
        stored: returns the versions of documents that are stored already: those of a shard that was
            adopted, and whose file is no longer under ``output``.

    Raises:
        SourceError: there is no such file.
        ShardError: one of the files is damaged.
    """
    waiting = read_pending(pending)
    if (report := _finished_before(pending, output, waiting)) is not None:
        return report
    rejected = _read_quarantine(quarantine_of(output), waiting)
    left = {p.document_id: p.document_hash for p in waiting.passages}
    for id in rejected:
        del left[id]
    if stored(list(left)) != left:
        return None
    report = _report(pending, output, waiting, rejected, embedded=0, was_complete=True)
    return replace(report, output=None)


def quarantine_of(output: Path) -> Path:
    """Return the file that says which documents a shard lacks, and why."""
    return output.with_name(f"{output.name}.quarantine.jsonl")


def _embed(waiting: Pending, encoder: KoE5Encoder) -> tuple[Vectors, dict[int, str]]:
    """Return every passage's vector, and why those at fault have none, by position."""
    vectors = np.zeros((len(waiting.passages), encoder.dim), dtype=np.float32)
    for position, vector in waiting.known.items():
        vectors[position] = vector
    missing = [i for i in range(len(waiting.passages)) if i not in waiting.known]
    groups = [missing[start : start + _GROUP] for start in range(0, len(missing), _GROUP)]
    faults: dict[int, str] = {}

    def embed(group: Sequence[int]) -> tuple[Vectors, dict[int, str]]:
        return embed_each(encoder, [waiting.passages[i].text for i in group])

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="koe5-embed-shard") as threads:
        for group, (made, at_fault) in zip(groups, threads.map(embed, groups), strict=True):
            vectors[group] = made
            faults |= {group[i]: reason for i, reason in at_fault.items()}
    return vectors, faults


def _finished_before(pending: Path, output: Path, waiting: Pending) -> ShardReport | None:
    rejected = _read_quarantine(quarantine_of(output), waiting)
    expected = {p.id: p.document_hash for p in waiting.passages if p.document_id not in rejected}
    found: dict[str, str] = {}
    if output.exists():
        with ShardFile(output) as file:
            if file.stored.digest != waiting.fingerprint.digest:
                return None
            found = {id: version for part in file.narrow() for id, _, version, *_ in part}
    if found != expected:
        return None
    return _report(pending, output, waiting, rejected, embedded=0, was_complete=True)


def _report(
    pending: Path,
    output: Path,
    waiting: Pending,
    rejected: dict[str, str],
    *,
    embedded: int,
    was_complete: bool,
) -> ShardReport:
    sources = {passage.document_id: passage.source for passage in waiting.passages}
    passages = sum(passage.document_id not in rejected for passage in waiting.passages)
    return ShardReport(
        pending=pending,
        output=output if passages else None,
        documents=len(sources) - len(rejected),
        passages=passages,
        embedded=embedded,
        rejected=tuple(
            Rejected(place=id, reason=reason, source=sources[id], id=id)
            for id, reason in rejected.items()
        ),
        was_complete=was_complete,
    )


def _read_quarantine(path: Path, waiting: Pending) -> dict[str, str]:
    """Return the reasons found by an earlier run, of this file's documents as they are now."""
    if not path.exists():
        return {}
    versions = {passage.document_id: passage.document_hash for passage in waiting.passages}
    with path.open(encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    return {
        line["id"]: line["reason"]
        for line in found
        if line["fingerprint"] == waiting.fingerprint.digest
        and line["document_hash"] == versions.get(line["id"])
    }


def _write_quarantine(path: Path, waiting: Pending, rejected: dict[str, str]) -> None:
    if not rejected:
        path.unlink(missing_ok=True)
        return
    by_id = {passage.document_id: passage for passage in waiting.passages}
    with new_file(path) as file:
        for id, reason in rejected.items():
            line = {
                "place": id,
                "id": id,
                "source": by_id[id].source,
                "reason": reason,
                "document_hash": by_id[id].document_hash,
                "fingerprint": waiting.fingerprint.digest,
            }
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
