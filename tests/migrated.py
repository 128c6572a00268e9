"""A collection to migrate, and what is there before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chromadb
from tiny_models import KOREAN

from koe5_integrations import KoE5Encoder

N = 150
TEXTS = [f"{KOREAN[i % 5]} {i}번" for i in range(N)]
IDS = [f"글#{i}" for i in range(N)]


def make_notes(
    folder: Path, model: Path, texts: Any = TEXTS, ids: Any = IDS, name: str = "notes"
) -> None:
    """Make a collection without prefixes, in l2, with metadata of every kind."""
    plain = KoE5Encoder(model, passage_prompt="")
    metadatas: list[Any] = [{"쪽": i, "태그": ["ㄱ", "ㄴ"], "a": 0.5} for i in range(len(ids))]
    metadatas[0] = None
    with chromadb.PersistentClient(folder) as client:
        made = client.create_collection(name, embedding_function=None, metadata={"owner": "people"})
        vectors = plain.encode_passages(
            [text if text and "\u3164" not in text else "없음" for text in texts]
        )
        made.add(ids=ids, documents=texts, embeddings=vectors, metadatas=metadatas)


def names(folder: Path) -> list[str]:
    with chromadb.PersistentClient(folder) as client:
        return sorted(collection.name for collection in client.list_collections())


def content(folder: Path, name: str) -> dict[str, tuple[Any, Any]]:
    with chromadb.PersistentClient(folder) as client:
        got = client.get_collection(name, embedding_function=None).get()
    texts, metadatas = got["documents"] or [], got["metadatas"] or []
    return dict(zip(got["ids"], zip(texts, metadatas, strict=True), strict=True))


def before_of(name: str, folder: Path) -> str:
    (before,) = (each for each in names(folder) if each.startswith(f"{name}.before-"))
    return before
