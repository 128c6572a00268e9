"""What a migration would do, and how long it would take: ``--dry-run``."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import KoE5Warning
from koe5_integrations.ingestion.diagnosis.sampling import has_text, read_rows, scan
from koe5_integrations.ingestion.existing import existing_collection

__all__ = ["Plan", "plan_migration"]

_SAMPLE = 64
_BYTES_PER_NUMBER = 4


@dataclass(frozen=True)
class Plan:
    """What a migration would do.

    Attributes:
        collection: that would be migrated.
        rows: of it.
        left_out: rows without a text to embed.
        repeated: rows whose text another row has, which is embedded once.
        tokens: of all texts, with prefix and special tokens; estimated from a sample.
        too_long: share of the texts that are longer than the model reads, from 0 to 1; likewise.
        bytes: of the new vectors.
        seconds: that embedding would take here; likewise.
    """

    collection: str
    rows: int
    left_out: int
    repeated: int
    tokens: int
    too_long: float
    bytes: int
    seconds: float


def plan_migration(
    collection: str,
    *,
    encoder: KoE5Encoder,
    persist_dir: str | os.PathLike[str] | None = None,
    url: str | None = None,
) -> Plan:
    """Read a collection's texts and embed a few of them; nothing is written.

    Arguments and errors as :func:`~koe5_integrations.ingestion.migration.migrate`.
    """
    with existing_collection(
        collection, persist_dir=persist_dir, url=url, purpose="koe5 migrate --dry-run"
    ) as opened:
        scanned = scan(opened, sample=_SAMPLE, seed=0, texts=True, on_progress=lambda n: None)
        rows = read_rows(opened, scanned.sampled)
    texts = [row.text or "" for row in rows if has_text(row.text)]
    left_out = scanned.without_text + scanned.blank
    repeated = scanned.repeated.superfluous if scanned.repeated else 0
    to_embed = scanned.rows - left_out - repeated
    tokens = seconds = too_long = 0.0
    if texts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KoE5Warning)
            counts = encoder.count_tokens(texts, "passage")
            encoder.load()
            started = time.perf_counter()
            encoder.encode_passages(texts)
        limit = encoder.max_seq_length
        tokens = sum(counts) / len(texts) * to_embed
        seconds = (time.perf_counter() - started) / len(texts) * to_embed
        too_long = sum(limit is not None and n > limit for n in counts) / len(texts)
    return Plan(
        collection=collection,
        rows=scanned.rows,
        left_out=left_out,
        repeated=repeated,
        tokens=round(tokens),
        too_long=too_long,
        bytes=(scanned.rows - left_out) * encoder.dim * _BYTES_PER_NUMBER,
        seconds=seconds,
    )
