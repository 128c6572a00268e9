"""What 10 million, 100 million and a billion passages take: ``tests/benchmarks/scaling.py``.

Prints the tables of docs/scaling.md from the figures at the top of this file; a test holds the page
against them. ``--measure --data-dir DIR`` measures those of them anew that need no GPU, in some
minutes, with the texts of the AutoRAG corpus.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

COUNTS = {"10 million": 10**7, "100 million": 10**8, "1 billion": 10**9}

# KoE5 is an XLM-RoBERTa large.
LAYERS, DIM, INNER, VOCABULARY, POSITIONS = 24, 1024, 4096, 250_002, 514
# Of a passage, prefix and special tokens included: the mean of the AutoRAG corpus.
TOKENS = 400

# Assumed: dense bf16 peaks of NVIDIA's data sheets, in 10^12 operations a second, and how much of
# them a dense transformer of this size gets out of sorted batches.
PEAKS = {"H100 SXM": 989.4, "A100 SXM": 312.0, "L4": 121.0}
UTILISATION = 0.4
# Measured, passages a second of 400 tokens: docs/performance.md.
CPUS = {"two cores, openvino int8": 3.46, "two cores, torch fp32": 1.28}

# Measured by --measure: passages split in a core-second (by koe5-mini's tokenizer, much like
# KoE5's), bytes a passage, and core-milliseconds a passage that Chroma spends between so many of
# them and 5,000 more.
SPLIT_RATE = 1470.0
SHARD_BYTES = 4824.7
CHROMA_BYTES = 17867.8
CHROMA_MILLISECONDS = {0: 1.13, 5000: 1.56, 10000: 1.88, 15000: 2.10, 20000: 2.09, 25000: 2.30}
INDEX_BYTES = {"float32, in Chroma": 4244.7, "int8": 1172.4, "bits": 276.4}
MACHINE = 256e9

_STEP = 5_000


def parameters() -> dict[str, int]:
    """Count KoE5's parameters by where they are."""
    attention = 4 * (DIM * DIM + DIM)
    feed_forward = DIM * INNER + INNER + INNER * DIM + DIM
    return {
        "embeddings": (VOCABULARY + POSITIONS + 1) * DIM + 2 * DIM,
        "layers": LAYERS * (attention + feed_forward + 2 * 2 * DIM),
        "pooler": DIM * DIM + DIM,
    }


def operations(tokens: int = TOKENS) -> float:
    """Count the floating-point operations of a passage: two a weight and token, and attention."""
    weights = LAYERS * (4 * DIM * DIM + 2 * DIM * INNER)
    return 2 * weights * tokens + LAYERS * 4 * DIM * tokens**2


def table(head: list[str], rows: list[list[str]]) -> str:
    """Write a table in Markdown, numbers to the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def hours(seconds: float) -> str:
    """Write a time as hours, or as years where those are too many."""
    h = seconds / 3600
    return f"{h / 8766:,.1f} years" if h > 10_000 else f"{h:,.0f} h" if h >= 10 else f"{h:.1f} h"


def size(n_bytes: float) -> str:
    """Write a size in decimal units."""
    return f"{n_bytes / 1e12:,.1f} TB" if n_bytes >= 1e12 else f"{n_bytes / 1e9:,.1f} GB"


def embedding() -> str:
    """Tabulate how long one device embeds."""
    rates = {
        f"{name}, estimated": peak * 1e12 * UTILISATION / operations()
        for name, peak in PEAKS.items()
    } | {f"{name}, measured": rate for name, rate in CPUS.items()}
    return table(
        ["one device", "passages/s", *COUNTS],
        [
            [name, f"{rate:,.0f}" if rate > 10 else f"{rate:.1f}"]
            + [hours(n / rate) for n in COUNTS.values()]
            for name, rate in rates.items()
        ],
    )


def storage() -> str:
    """Tabulate what lies on disks."""
    kept = {"shards (Parquet, float32)": SHARD_BYTES, "Chroma's folder": CHROMA_BYTES}
    return table(
        ["", "bytes a passage", *COUNTS],
        [
            [name, f"{per_row:,.0f}", *(size(n * per_row) for n in COUNTS.values())]
            for name, per_row in kept.items()
        ],
    )


def memory() -> str:
    """Tabulate what an index takes of memory, and how many machines that is."""
    rows = [
        [name, f"{per_row:,.0f}", *(size(n * per_row) for n in COUNTS.values())]
        for name, per_row in INDEX_BYTES.items()
    ]
    for row, per_row in zip(rows, INDEX_BYTES.values(), strict=True):
        row.append(f"{math.ceil(1e9 * per_row / MACHINE):,}")
    return table(
        ["graph (HNSW) over", "bytes a passage", *COUNTS, "256 GB machines, 1 billion"], rows
    )


def processor() -> str:
    """Tabulate what is left to processors."""
    sizes = np.log([n + _STEP / 2 for n in CHROMA_MILLISECONDS])
    slope, start = np.polyfit(sizes, list(CHROMA_MILLISECONDS.values()), 1)
    seconds = {
        "splitting": [n / SPLIT_RATE for n in COUNTS.values()],
        # The mean of start + slope * ln(i) over i from 1 to n.
        "loading Chroma": [n * (start + slope * (math.log(n) - 1)) / 1e3 for n in COUNTS.values()],
    }
    return table(
        ["core-hours", *COUNTS],
        [[name, *(f"{s / 3600:,.0f}" for s in taken)] for name, taken in seconds.items()],
    )


def facts() -> str:
    """Say what a passage is to the model."""
    counts = parameters()
    return (
        f"{sum(counts.values()) / 1e6:.1f} million parameters, of which "
        f"{counts['embeddings'] / 1e6:.1f} million are looked up and {counts['layers'] / 1e6:.1f} "
        f"million are multiplied with: {operations() / 1e9:.0f} billion operations for {TOKENS} "
        "tokens"
    )


TABLES = (embedding, storage, memory, processor)


def unit_vectors(n: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw directions at random, the hardest there are for a graph: float32, shape (n, DIM)."""
    vectors = rng.normal(size=(n, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def measure(texts: list[str], folder: Path, rows: int) -> None:
    """Print what the figures at the top are here."""
    import chromadb
    from usearch.index import Index

    from koe5_integrations import KoE5Encoder
    from koe5_integrations.ingestion.documents import Document
    from koe5_integrations.ingestion.passages import document_hash, passages_of
    from koe5_integrations.ingestion.shards import write_shard
    from koe5_integrations.splitting import TokenSplitter

    encoder = KoE5Encoder("koe5-mini")
    splitter = TokenSplitter(encoder, chunk_tokens=TOKENS, sentences="rule")
    began = time.process_time()
    split = sum(len(chunks) for chunks in splitter.split_many(texts))
    sys.stdout.write(f"SPLIT_RATE = {split / (time.process_time() - began):.0f}\n")

    rng = np.random.default_rng(0)
    documents = [Document(f"corpus/{i:05}.md", text, {}, "corpus") for i, text in enumerate(texts)]
    passages = [p for d in documents for p in passages_of(d, [d.text], document_hash(d, {}))]
    shard = folder / "shard.parquet"
    vectors = unit_vectors(len(passages), rng)
    write_shard(shard, passages, vectors, fingerprint=encoder.fingerprint)
    sys.stdout.write(f"SHARD_BYTES = {shard.stat().st_size / len(passages):.1f}\n")

    client = chromadb.PersistentClient(path=str(folder / "chroma"))
    collection = client.create_collection(
        "scaling", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
    )
    stored = cycle(passages)
    for start in range(0, rows, _STEP):
        vectors = unit_vectors(_STEP, rng)
        part = list(islice(stored, _STEP))
        began = time.process_time()
        collection.upsert(
            ids=[f"{start + i}" for i in range(_STEP)],
            embeddings=vectors,
            documents=[passage.text for passage in part],
            metadatas=[passage.stored_metadata for passage in part],
        )
        milliseconds = (time.process_time() - began) / _STEP * 1e3
        sys.stdout.write(f"CHROMA_MILLISECONDS[{start}] = {milliseconds:.2f}\n")
        sys.stdout.flush()
    files = {
        path.name: path.stat().st_size for path in folder.rglob("chroma/**/*") if path.is_file()
    }
    sys.stdout.write(f"CHROMA_BYTES = {sum(files.values()) / rows:.1f}\n")
    graph = files["data_level0.bin"] + files["link_lists.bin"]
    sys.stdout.write(f"INDEX_BYTES, Chroma's = {graph / rows:.1f}\n")
    signs = np.packbits(unit_vectors(_STEP, rng) > 0, axis=1)
    for dtype, metric, codes in (
        ("i8", "cos", (unit_vectors(_STEP, rng) * 800).astype(np.int8)),
        ("b1", "hamming", signs),
    ):
        index = Index(ndim=DIM, metric=metric, dtype=dtype)
        index.add(np.arange(_STEP), codes)
        sys.stdout.write(f"INDEX_BYTES, {dtype} = {index.serialized_length / _STEP:.1f}\n")


def main() -> None:
    """Print the tables, or measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure instead")
    parser.add_argument("--data-dir", type=Path, help="folder with autorag_ko")
    parser.add_argument("--rows", type=int, default=30_000, help="rows for Chroma")
    arguments = parser.parse_args()
    if arguments.measure:
        from koe5_integrations.evaluation import load_dataset

        corpus = load_dataset("autorag", data_dir=arguments.data_dir).corpus
        with tempfile.TemporaryDirectory() as folder:
            measure(list(corpus.values()), Path(folder), arguments.rows)
        return
    sys.stdout.write("\n\n".join([facts(), *(make() for make in TABLES)]) + "\n")


if __name__ == "__main__":
    main()
