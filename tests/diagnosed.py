"""Collections to diagnose, made by hand, and the texts in them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from chromadb.api.models.Collection import Collection
from tiny_models import KOREAN

from koe5_integrations.ingestion.diagnosis import Diagnosis

N = 48
NAMES = itertools.count()

Store = Callable[..., Collection]


def sentences(n: int = N, words: int = 9, seed: int = 0) -> list[str]:
    """Different texts, two lines each, of words that the tiny tokenizers know."""
    draw = random.Random(seed)
    vocabulary = " ".join(KOREAN[:5]).split()
    return [
        " ".join(draw.choices(vocabulary, k=words)) + "\n" + " ".join(draw.choices(vocabulary, k=3))
        for _ in range(n)
    ]


TEXTS = sentences()


@contextmanager
def stored_by_hand(folder: Path) -> Iterator[Store]:
    """Put vectors and texts into a collection of their own, as one would by hand."""

    def make(vectors: Any, texts: Any = TEXTS, space: str = "cosine", **columns: Any) -> Collection:
        collection = client.create_collection(
            f"by-hand-{next(NAMES)}",
            embedding_function=None,
            configuration={"hnsw": {"space": space}},
        )
        collection.add(
            ids=[f"r{i}" for i in range(len(vectors))],
            embeddings=np.asarray(vectors, dtype=np.float32),
            documents=texts,
            **columns,
        )
        return collection

    client = chromadb.PersistentClient(folder)
    yield make
    client.close()


def kinds(diagnosis: Diagnosis) -> set[str]:
    """What was found, but for the missing fingerprint that all of these have."""
    return {finding.kind for finding in diagnosis.findings} - {"no_fingerprint"}
