"""What stands around the model costs: ``python tests/benchmarks/overhead.py [--parts]``.

10,000 short texts with koe5-mini, which is so fast that what is ours weighs most.
Everything is run in turns in one process; figures are medians, as ratios to the bare backend.
``--parts`` shows what writing to disk costs by the passes after which it is done.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import numpy as np

import koe5_integrations.embedding
from koe5_integrations import KoE5Encoder
from koe5_integrations.backends import Backend
from koe5_integrations.langchain import KoE5Embeddings
from koe5_integrations.types import Vectors

ROUNDS = 11
TEXTS = [
    f"{number}번 문서는 파이썬의 리스트와 튜플이 어떻게 다른지, 언제 쓰는지 설명합니다."
    for number in range(10_000)
]
QUESTION = "파이썬 리스트와 튜플은 어떻게 다른가요?"


def bare(backend: Backend) -> Vectors:
    """Tokenise, sort by length and embed: the least that gives raw vectors in order."""
    tokens = backend.tokenize([f"passage: {text}" for text in TEXTS])
    order = np.argsort([-len(text.ids) for text in tokens], kind="stable")
    vectors = None
    start = 0
    while start < len(order):
        size = backend.batch_tokens // len(tokens[order[start]].ids)
        batch = order[start : start + size]
        embedded = backend.forward([tokens[i] for i in batch])
        if vectors is None:
            vectors = np.empty((len(order), embedded.shape[1]), np.float32)
        vectors[batch] = embedded
        start += size
    assert vectors is not None
    return vectors


def in_turns(work: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Return the median wall-clock and processor seconds of each, run one after the other."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, run in work.items():
            began = time.perf_counter(), time.process_time()
            run()
            ended = time.perf_counter(), time.process_time()
            seconds[name].append((ended[0] - began[0], ended[1] - began[1]))
    return {
        name: (statistics.median(each[0] for each in runs), statistics.median(e[1] for e in runs))
        for name, runs in seconds.items()
    }


def show_bulk() -> None:
    """Print the cost of embed_documents, with and without caches."""
    embeddings = KoE5Embeddings(model="koe5-mini")
    encoder = embeddings.encoder
    encoder.load()
    backend = encoder._handle.worker().backend
    vectors = encoder.encode_passages(TEXTS)
    folder = tempfile.mkdtemp()
    warm = encoder.with_cache(folder, embedding_cache_size=len(TEXTS))
    warm.encode_passages(TEXTS)
    warm_disk = encoder.with_cache(folder)

    def cold_disk() -> None:
        with tempfile.TemporaryDirectory() as new:
            encoder.with_cache(new).encode_passages(TEXTS)

    took = in_turns(
        {
            "bare backend": partial(bare, backend),
            "list conversion": vectors.tolist,
            "encode_passages": partial(encoder.encode_passages, TEXTS),
            "embed_documents": partial(embeddings.embed_documents, TEXTS),
            "cached in memory": partial(warm.encode_passages, TEXTS),
            "cached on disk": partial(warm_disk.encode_passages, TEXTS),
            "writing to disk": cold_disk,
        }
    )
    wall, processor = took["bare backend"]
    sys.stdout.write("10,000 texts        wall     processor\n")
    for name, (seconds, processed) in took.items():
        sys.stdout.write(f"{name:<18}{seconds / wall:6.3f}x{processed / processor:10.3f}x\n")
    for label, which in (("wall", 0), ("processor", 1)):
        sum_of = took["bare backend"][which] + took["list conversion"][which]
        cost = took["embed_documents"][which] / sum_of - 1
        sys.stdout.write(f"adapter cost beyond list conversion, {label}: {cost:.1%}\n")


def show_questions() -> None:
    """Print what one question takes, by where its vector comes from."""
    encoder = KoE5Encoder("koe5-mini")
    with tempfile.TemporaryDirectory() as folder:
        encoders = {
            "computed": encoder,
            "memory": encoder.with_cache(embedding_cache_size=9),
            "disk": encoder.with_cache(folder),
        }

        async def ask_async(asked: KoE5Encoder) -> None:
            for _ in range(100):
                await asked.aencode_queries([QUESTION])

        def ask(asked: KoE5Encoder) -> None:
            for _ in range(100):
                asked.encode_queries([QUESTION])

        took = in_turns(
            {name: partial(ask, each) for name, each in encoders.items()}
            | {
                f"{name}, async": lambda each=each: asyncio.run(ask_async(each))
                for name, each in encoders.items()
            }
        )
        for name, (wall, _) in took.items():
            sys.stdout.write(f"a question from {name:<16}{wall * 1e4:6.0f} µs\n")
        encoders.clear()


def show_parts() -> None:
    """Print what a bulk job with a disk cache takes, by the passes in a part."""
    encoder = KoE5Encoder("koe5-mini")

    def write(passes: int) -> None:
        koe5_integrations.embedding._PASSES_IN_PART = passes
        with tempfile.TemporaryDirectory() as folder:
            encoder.with_cache(folder).encode_passages(TEXTS)

    took = in_turns(
        {"no cache": partial(encoder.encode_passages, TEXTS)}
        | {str(passes): partial(write, passes) for passes in (1, 2, 4, 8, 16, 32, 64)}
    )
    for name, (wall, _) in took.items():
        sys.stdout.write(f"passes in a part: {name:<10}{wall / took['no cache'][0]:6.2f}x\n")


def main() -> None:
    """Run and print."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "--parts" in sys.argv:
        show_parts()
        return
    show_bulk()
    show_questions()


if __name__ == "__main__":
    main()
