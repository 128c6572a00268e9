"""Ingestions whose passages are embedded by others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ingested import SENTENCES, check_stored

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError
from koe5_integrations.ingestion import Summary, ingest
from koe5_integrations.ingestion.embed_shard import embed_shard

DOCUMENTS = [{"id": f"d{i}", "text": text, "n": i} for i, text in enumerate(SENTENCES[:20])]


def run(folder: Path, model: Path, documents: list[dict[str, Any]], **options: Any) -> Summary:
    return ingest(
        documents=documents,
        encoder=str(model),
        persist_dir=folder / "chroma",
        collection="notes",
        **options,
    )


def embed(folder: Path, model: Path, *, most: int | None = None) -> int:
    """Do what ``koe5 embed-shard`` does, for the first so many files."""
    shards = folder / "chroma.shards" / "notes"
    encoder = KoE5Encoder(model)
    for pending in sorted((shards / "pending").glob("*.parquet"))[:most]:
        embed_shard(pending, shards / "finished" / pending.name, encoder=encoder)
    return encoder.computed


def test_passages_are_handed_out_and_taken_back(static_model: Path, tmp_path: Path) -> None:
    """One run writes files, others embed them, and the next run loads what came of them."""
    summary = run(tmp_path, static_model, DOCUMENTS, engine="files", shard_size=8)
    assert (summary.new, summary.embedded, summary.handed_out, summary.passages) == (20, 0, 3, 0)
    assert embed(tmp_path, static_model) == 20
    summary = run(tmp_path, static_model, DOCUMENTS, engine="files")
    assert (summary.unchanged, summary.handed_out, summary.loaded) == (20, 0, 20)
    check_stored(tmp_path, DOCUMENTS)


def test_what_is_not_finished_is_handed_out_again(static_model: Path, tmp_path: Path) -> None:
    """And what is finished is not embedded a second time, by whatever engine goes on."""
    run(tmp_path, static_model, DOCUMENTS, engine="files", shard_size=8)
    embed(tmp_path, static_model, most=1)
    summary = run(tmp_path, static_model, DOCUMENTS)
    assert (summary.unchanged, summary.new, summary.embedded) == (8, 12, 12)
    check_stored(tmp_path, DOCUMENTS)


def test_documents_that_come_twice(static_model: Path, tmp_path: Path) -> None:
    """They are told from changed ones although no shard has them yet."""
    twice = [*DOCUMENTS, DOCUMENTS[0], {**DOCUMENTS[1], "text": "다른 글"}]
    summary = run(tmp_path, static_model, twice, engine="files", shard_size=4)
    assert (summary.new, summary.duplicates, summary.quarantined) == (20, 1, 1)


def test_another_engine_is_refused(static_model: Path, tmp_path: Path) -> None:
    """By its name, before anything is made."""
    with pytest.raises(ConfigError, match="spark"):
        run(tmp_path, static_model, DOCUMENTS, engine="spark")
    assert not list(tmp_path.iterdir())
