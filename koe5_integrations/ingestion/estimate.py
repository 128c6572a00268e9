"""What an ingestion would do, and how long it would take: ``--dry-run``."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.ingestion.documents import Document, Rejected
from koe5_integrations.ingestion.each import embed_each, split_each
from koe5_integrations.ingestion.passages import document_hash
from koe5_integrations.ingestion.shards import ShardFolder
from koe5_integrations.ingestion.writing import slices
from koe5_integrations.splitting import Chunk, TokenSplitter

__all__ = ["Estimate", "estimate"]

_SAMPLE = 64
_BYTES_PER_NUMBER = 4


@dataclass
class Estimate:
    """What a run would do.

    Attributes:
        new: documents that would be stored for the first time.
        changed: documents of which another version would be stored.
        unchanged: documents that need nothing.
        quarantined: what can't be ingested.
        passages: that would be embedded, those of equal text counted each.
        tokens: in them, prefix and special tokens included.
        bytes: of their vectors.
        passages_per_second: of a sample of them, embedded here and now; None if there are none.
        seconds: that embedding them all would take at that speed, by their tokens.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    quarantined: int = 0
    passages: int = 0
    tokens: int = 0
    bytes: int = 0
    passages_per_second: float | None = None
    seconds: float = 0.0


def estimate(
    items: Iterable[Document | Rejected],
    *,
    encoder: KoE5Encoder,
    splitter: TokenSplitter,
    shards: str | os.PathLike[str],
    rejected: Callable[[Rejected], None] = lambda item: None,
) -> Estimate:
    """Read and split what would be ingested, and embed a sample of it; nothing is written.

    Args:
        items: what :func:`~koe5_integrations.ingestion.read_sources` yields.
        encoder: of the ingestion.
        splitter: of the ingestion.
        shards: their folder, which need not exist.
        rejected: told of each document that can't be ingested.

    Raises:
        FingerprintMismatchError: the shards were made by another model.
        LockedError: another process is writing there.
    """
    result = Estimate()
    sample: list[Chunk] = []
    # Which passages are in the sample must not change from one dry run to the next.
    draw = random.Random(0)
    folder = Path(shards)
    with ExitStack() as stack:
        opened: ShardFolder | None = None
        if folder.is_dir():
            opened = stack.enter_context(
                ShardFolder(folder, fingerprint=encoder.fingerprint, dim=encoder.dim)
            )
        for part in slices(items):
            documents = []
            for item in part:
                if isinstance(item, Document):
                    documents.append(item)
                else:
                    result.quarantined += 1
                    rejected(item)
            stored = opened.hashes([d.id for d in documents]) if opened else {}
            fresh = []
            for document in documents:
                if stored.get(document.id) == document_hash(document, splitter.settings):
                    result.unchanged += 1
                else:
                    fresh.append(document)
            split = split_each(splitter.split_many, [document.text for document in fresh])
            for document, chunks in zip(fresh, split, strict=True):
                if isinstance(chunks, str):
                    result.quarantined += 1
                    rejected(Rejected(document.place, chunks, document.source, document.id))
                    continue
                if document.id in stored:
                    result.changed += 1
                else:
                    result.new += 1
                for chunk in chunks:
                    result.passages += 1
                    result.tokens += chunk.tokens
                    if len(sample) < _SAMPLE:
                        sample.append(chunk)
                    elif (at := draw.randrange(result.passages)) < _SAMPLE:
                        sample[at] = chunk
    result.bytes = result.passages * encoder.dim * _BYTES_PER_NUMBER
    if sample:
        texts = [chunk.text for chunk in sample]
        encoder.load()
        embed_each(encoder, texts[:1])
        started = time.perf_counter()
        embed_each(encoder, texts)
        seconds = time.perf_counter() - started
        result.passages_per_second = len(texts) / seconds
        result.seconds = result.tokens * seconds / sum(chunk.tokens for chunk in sample)
    return result
