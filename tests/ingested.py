"""What an ingestion must leave: the same documents in shards and store, each once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import chromadb

from koe5_integrations.evaluation.datasets import load_dataset
from koe5_integrations.ingestion.shards import read_shard
from koe5_integrations.ingestion.verification import verify

__all__ = ["SENTENCES", "check_sound", "check_stored", "committed_texts"]

SENTENCES = [
    sentence
    for text in load_dataset("belebele_ko").corpus.values()
    for sentence in text.split(". ")[:1]
]


def committed_texts(shards: Path) -> set[str]:
    """Return the texts that a folder's shards have vectors of."""
    return {
        passage.text
        for file in shards.glob("shards/*.parquet")
        for passage in read_shard(file).passages
    }


def check_sound(folder: Path, documents: Iterable[Mapping[str, Any]]) -> None:
    """Hold ``folder/chroma`` against the (short) documents it must hold, and verify it."""
    check_stored(folder, documents)
    found = verify(persist_dir=folder / "chroma", collection="notes")
    assert found.sound, found


def check_stored(folder: Path, documents: Iterable[Mapping[str, Any]]) -> None:
    """Hold the texts and metadata of ``folder/chroma`` against the documents it must hold.

    Args:
        folder: of an ingestion.
        documents: with ``id``, ``text`` and metadata; of several passages, none overlaps.
    """
    client = chromadb.PersistentClient(str(folder / "chroma"))
    try:
        collection = client.get_collection("notes", embedding_function=None)
        stored = collection.get(include=["documents", "metadatas"])
    finally:
        client.close()
    assert stored["documents"] is not None
    assert stored["metadatas"] is not None
    found: dict[str, dict[int, Any]] = {}
    for id, text, metadata in zip(
        stored["ids"], stored["documents"], stored["metadatas"], strict=True
    ):
        kept = dict(metadata)
        document, chunk, chunks = (kept.pop(key) for key in ("document_id", "chunk", "chunks"))
        assert isinstance(chunk, int)
        assert chunk not in found.setdefault(str(document), {}), id
        found[str(document)][chunk] = (text, chunks, kept)
    wanted = {document["id"]: document for document in documents}
    assert found.keys() == wanted.keys()
    for name, document in wanted.items():
        passages = [found[name][chunk] for chunk in sorted(found[name])]
        metadata = {k: v for k, v in document.items() if k not in ("id", "text")}
        assert all((n, kept) == (len(passages), metadata) for _, n, kept in passages)
        assert " ".join(text for text, _, _ in passages).split() == document["text"].split()
