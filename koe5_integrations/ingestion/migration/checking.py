"""Whether the new collection holds what the old one held, before it takes its place."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import KoE5Warning, StoreError, shorten
from koe5_integrations.ingestion.diagnosis.sampling import pages, read_rows, scan
from koe5_integrations.ingestion.shards import ShardFolder

if TYPE_CHECKING:
    from chromadb.api.models.Collection import Collection

__all__ = ["check_copy"]

_SAMPLE = 100
_EMBEDDED_AGAIN = 16
_IDS_PER_CALL = 2000
# An approximate index does not lead to every vector, above all where texts are nearly alike.
_LEAST_FOUND = 0.5
_SAME = 1e-3


def check_copy(
    old: Collection,
    new: Collection,
    *,
    shards: ShardFolder,
    encoder: KoE5Encoder,
    left_out: int,
) -> None:
    """Compare two collections: all ids, and a sample of texts, metadata, vectors and searches.

    Args:
        old: as it was.
        new: loaded from the shards.
        shards: of the new one.
        encoder: of the new one.
        left_out: rows of the old one that the new one is to lack.

    Raises:
        StoreError: something is missing or differs; the message says what.
    """
    _check_ids(old, new, shards, left_out)
    sample = scan(new, sample=_SAMPLE, seed=0, texts=False, on_progress=lambda n: None).sampled
    if not sample:
        return
    rows = {row.id: row for row in read_rows(new, sample)}
    was: Any = old.get(ids=sample, include=["documents", "metadatas"])
    for id, text, metadata in zip(was["ids"], was["documents"], was["metadatas"], strict=True):
        if (rows[id].text, dict(rows[id].metadata)) != (text, dict(metadata or {})):
            raise _differs(new, f"row {shorten(id)} has another text or metadata than before")
    vectors: Any = np.stack([row.vector for row in rows.values()])
    answers = new.query(query_embeddings=vectors, n_results=1, include=["distances"])
    nearest = [found[0] if found else np.inf for found in answers["distances"] or []]
    lost = sum(distance > _SAME for distance in nearest)
    if lost > (1 - _LEAST_FOUND) * len(nearest):
        raise _differs(new, f"{lost} of {len(nearest)} vectors are not found by themselves")
    few = list(rows.values())[:_EMBEDDED_AGAIN]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KoE5Warning)
        again = encoder.encode_passages([row.text or "" for row in few])
    stored = np.stack([row.vector for row in few])
    lengths = np.linalg.norm(stored, axis=1) * np.linalg.norm(again, axis=1)
    cosines = np.einsum("nd,nd->n", stored, again) / lengths
    if cosines.min() < 1 - _SAME:
        worst = few[int(cosines.argmin())]
        raise _differs(new, f"row {shorten(worst.id)} has a vector that is not of its text")


def _check_ids(old: Collection, new: Collection, shards: ShardFolder, left_out: int) -> None:
    expected, stored, kept = old.count() - left_out, new.count(), shards.count()[1]
    if not expected == stored == kept:
        raise _differs(
            new,
            f"{expected:,} rows were to be copied, {kept:,} are in the shards and {stored:,} in "
            "the new collection",
        )
    missing = 0
    for page in pages(old, texts=False):
        for start in range(0, len(page["ids"]), _IDS_PER_CALL):
            part = page["ids"][start : start + _IDS_PER_CALL]
            missing += len(part) - len(new.get(ids=part, include=[])["ids"])
    if missing != left_out:
        raise _differs(new, f"{missing - left_out:,} ids are missing")


def _differs(new: Collection, problem: str) -> StoreError:
    return StoreError(
        f"{new.name} is not yet what it should be: {problem}. Nothing was replaced; if nobody was "
        "writing meanwhile, start again with --restart"
    )
