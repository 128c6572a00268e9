"""One run of ``tests/benchmarks/ingestion.py``, in a process of its own: ``RUN ARGUMENT…``.

What it did is the last line of its output, as JSON; lines before tell how far it is.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends import Tokens
from koe5_integrations.backends.bag import BagBackend
from koe5_integrations.ingestion import Summary, ingest
from koe5_integrations.types import Vectors

MODEL = "koe5-mini"
NAME = "passages"


class Forgetful:
    """A store that keeps nothing, to see what the rest takes."""

    key = "forgetful"

    def __init__(self) -> None:
        self._stored = 0

    def upsert(self, passages: Sequence[object], vectors: object) -> None:
        self._stored += len(passages)

    def delete(self, ids: Sequence[str]) -> None:
        self._stored -= len(ids)

    def count(self) -> int:
        return self._stored

    def ids(self) -> None:
        return None

    def reset(self) -> None:
        self._stored = 0


def tell(**figures: Any) -> None:
    """Write a line to the parent."""
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


def told(summary: Summary) -> None:
    tell(embedded=summary.embedded, loaded=summary.loaded)


def of_run(summary: Summary, began: float, encoder: KoE5Encoder) -> dict[str, Any]:
    """Return what an ingestion did; the seconds are from its start, reading and loading included.

    The encoder's own count of texts must be the summary's.
    """
    assert encoder.computed == summary.embedded
    return {
        "seconds": time.perf_counter() - began,
        "processor_seconds": sum(os.times()[:4]),
        "embedded": summary.embedded,
        "stored": summary.passages,
        "loaded": summary.loaded,
    }


def ours(file: str, folder: str) -> dict[str, Any]:
    """``koe5 ingest``: shards and Chroma."""
    import_module("koe5_integrations.ingestion.stores.chroma")  # off the clock on both sides
    began = time.perf_counter()
    encoder = KoE5Encoder(MODEL)
    place = Path(folder) / "ours"
    summary = ingest(file, encoder=encoder, persist_dir=place, collection=NAME, on_progress=told)
    return of_run(summary, began, encoder)


def shards(file: str, folder: str) -> dict[str, Any]:
    """Shards alone."""
    began = time.perf_counter()
    encoder = KoE5Encoder(MODEL)
    summary = ingest(file, encoder=encoder, store=Forgetful(), shards=Path(folder) / "alone")
    return of_run(summary, began, encoder)


def elsewhere(file: str, folder: str, rate: str) -> dict[str, Any]:
    """Shards alone, with a model that embeds so many passages a second without this machine."""
    vectors = KoE5Encoder(MODEL).encode_passages([f"{i}번째 글" for i in range(1000)])
    waited = 0.0

    def forward(backend: BagBackend, batch: Sequence[Tokens]) -> Vectors:
        nonlocal waited
        seconds = len(batch) / float(rate)
        time.sleep(seconds)
        waited += seconds
        return vectors[np.arange(len(batch)) % len(vectors)]

    BagBackend.forward = forward
    return shards(file, folder) | {"model_seconds": waited}


def langchain(file: str, folder: str) -> dict[str, Any]:
    """``Chroma.from_documents`` with our embeddings, in batches that Chroma takes."""
    from langchain_chroma import Chroma
    from langchain_core.documents import Document

    from koe5_integrations.langchain import KoE5Embeddings

    began = time.perf_counter()
    with Path(file).open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    documents = [
        Document(page_content=row["text"], id=row["id"], metadata={"topic": row["topic"]})
        for row in rows
    ]
    embeddings = KoE5Embeddings(model=MODEL)
    most = 5461
    store = Chroma.from_documents(
        documents[:most],
        embeddings,
        ids=[document.id for document in documents[:most]],
        collection_name=NAME,
        persist_directory=str(Path(folder) / "langchain"),
        collection_configuration={"hnsw": {"space": "cosine"}},
    )
    for start in range(most, len(documents), most):
        store.add_documents(documents[start : start + most])
    return {
        "seconds": time.perf_counter() - began,
        "processor_seconds": sum(os.times()[:4]),
        "embedded": embeddings.encoder.computed,
        "stored": store._collection.count(),
    }


def compare(folder: str) -> dict[str, Any]:
    """How far the vectors of the two collections are apart, of 1,000 ids."""
    import chromadb

    of_both = []
    for side in ("ours", "langchain"):
        client = chromadb.PersistentClient(Path(folder) / side)
        collection = client.get_collection(NAME, embedding_function=None)
        every = max(1, collection.count() // 1000)
        ids = [f"passage-{number}" for number in range(0, collection.count(), every)]
        rows = collection.get(ids, include=["embeddings"])
        by_id = dict(zip(rows["ids"], np.asarray(rows["embeddings"]), strict=True))
        of_both.append((collection.count(), np.stack([by_id[id_] for id_ in ids])))
    (count, vectors), (other_count, others) = of_both
    return {"counts": [count, other_count], "apart": float(np.abs(vectors - others).max())}


def kept(folder: str) -> dict[str, Any]:
    """How many passages are in the shards."""
    from koe5_integrations.ingestion import default_shards
    from koe5_integrations.ingestion.shards import ShardFolder

    with ShardFolder.existing(default_shards(Path(folder) / "ours", NAME)) as opened:
        return {"kept": opened.count()[1]}


def read(file: str) -> dict[str, Any]:
    """Read and split, as ``koe5 ingest --dry-run`` does, with a sample embedded."""
    from koe5_integrations.ingestion import estimate, read_sources
    from koe5_integrations.splitting import TokenSplitter

    began = time.perf_counter()
    encoder = KoE5Encoder(MODEL)
    found = estimate(
        read_sources([file]),
        encoder=encoder,
        splitter=TokenSplitter(encoder),
        shards=Path(file).with_suffix(".no-shards"),
    )
    return {
        "seconds": time.perf_counter() - began,
        "documents": found.new,
        "passages": found.passages,
        "tokens": found.tokens,
    }


RUNS: dict[str, Callable[..., dict[str, Any]]] = {
    run.__name__: run for run in (ours, shards, elsewhere, langchain, compare, kept, read)
}


def sentences() -> Iterator[str]:
    """Sentences of the shipped corpora, over and over, each with another number."""
    data = files("koe5_integrations.evaluation") / "data"
    known = [
        sentence
        for corpus in ("python_faq_ko", "belebele_ko")
        for line in (data / corpus / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
        for sentence in json.loads(line)["text"].replace("\n", " ").split(". ")
        if 10 < len(sentence) < 200
    ]
    for number, sentence in enumerate(itertools.cycle(known)):
        yield f"{sentence.rstrip('.')} ({number}번째 기록)."


def main() -> None:
    """Do one run."""
    tell(**RUNS[sys.argv[1]](*sys.argv[2:]))


if __name__ == "__main__":
    main()
