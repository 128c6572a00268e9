"""Many callers at once, and questions during a bulk job.

Run it with ``python tests/benchmarks/concurrency.py``, and ``--help`` for a model, backend and
precision of your own; without, it is a transformer of e5-small's shape with random weights. Printed
are medians of rounds in which both sides take turns:

- questions a second of so many asyncio tasks that each await LangChain's ``aembed_query``, against
  plain sentence-transformers called once per question (all its callers can do together);
- how long a question takes on an idle encoder and during a bulk job, whose batches a question
  should wait for once at most.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from sentence_transformers import SentenceTransformer
from tiny_models import KOREAN, make_xlm_roberta

from koe5_integrations.backends import Tokens
from koe5_integrations.langchain import KoE5Embeddings
from koe5_integrations.types import Vectors

CALLERS = (1, 4, 16, 64)
PASSAGE = " ".join(KOREAN[:5])


def questions(count: int) -> list[str]:
    return [f"{KOREAN[number % 5]} {number}" for number in range(count)]


async def many_callers(embeddings: KoE5Embeddings, callers: int) -> float:
    """Return questions a second of callers who each ask the next when the last is answered."""
    left = iter(questions(max(64, callers)))

    async def caller() -> None:
        for question in left:
            await embeddings.aembed_query(question)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return max(64, callers) / (time.perf_counter() - began)


def one_by_one(plain: SentenceTransformer, count: int) -> float:
    """Return questions a second of plain sentence-transformers, a call each."""
    began = time.perf_counter()
    for question in questions(count):
        plain.encode(f"query: {question}", normalize_embeddings=True)
    return count / (time.perf_counter() - began)


async def ask(embeddings: KoE5Embeddings, count: int, until: asyncio.Task[object] | None) -> list:
    """Return the seconds of questions asked one after another, at most until the task is done."""
    seconds = []
    pauses = np.random.default_rng(0).uniform(0, 0.1, size=count)
    for question, pause in zip(questions(count), pauses, strict=True):
        await asyncio.sleep(pause)
        if until is not None and until.done():
            break
        began = time.perf_counter()
        await embeddings.aembed_query(question)
        seconds.append(time.perf_counter() - began)
    return seconds


async def beside_bulk(embeddings: KoE5Embeddings, asked: int) -> tuple[list, list, list]:
    """Return seconds of questions on an idle encoder, of ones beside bulk, and of bulk batches."""
    idle = await ask(embeddings, asked, None)
    backend = embeddings.encoder._handle.worker().backend
    forward, batches = backend.forward, []

    def timed(batch: Sequence[Tokens]) -> Vectors:
        began = time.perf_counter()
        vectors = forward(batch)
        if len(batch) > 1:
            batches.append(time.perf_counter() - began)
        return vectors

    backend.forward = timed
    # About as many batches as questions, each of which waits for part of one.
    tokens = embeddings.encoder.count_tokens([PASSAGE], "passage")[0]
    count = max(2 * asked, asked * backend.batch_tokens // tokens)
    bulk = asyncio.create_task(
        embeddings.aembed_documents([f"{PASSAGE} {i}" for i in range(count)])
    )
    while not batches:
        await asyncio.sleep(0.01)
    busy = await ask(embeddings, asked, bulk)
    bulk.cancel()
    await asyncio.gather(bulk, return_exceptions=True)
    backend.forward = forward
    return idle, busy, batches


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="folder of a model that sentence-transformers can load")
    parser.add_argument("--backend", default="auto", help="as of KoE5Encoder")
    parser.add_argument("--precision", help="as of KoE5Encoder")
    parser.add_argument("--device", help="as of KoE5Encoder; for both sides")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=40, help="asked one by one, each round")
    given = parser.parse_args()
    model = given.model or make_xlm_roberta(
        Path(tempfile.mkdtemp()) / "model", dim=384, layers=12, max_seq_length=512
    )
    embeddings = KoE5Embeddings(
        model=str(model), backend=given.backend, precision=given.precision, device=given.device
    )
    plain = SentenceTransformer(str(model), device=given.device)
    embeddings.embed_documents([PASSAGE] * 3 + questions(3))
    sys.stdout.write(f"{embeddings.encoder.engine}\n")
    plain_rates = []
    rates: dict[int, list[float]] = {callers: [] for callers in CALLERS}
    for _, callers in itertools.product(range(given.rounds), CALLERS):
        rates[callers].append(asyncio.run(many_callers(embeddings, callers)))
        plain_rates.append(one_by_one(plain, 16))
    theirs = statistics.median(plain_rates)
    for callers in CALLERS:
        ours = statistics.median(rates[callers])
        sys.stdout.write(
            f"{callers:3} callers: {ours:7.1f} questions a second, sentence-transformers one by "
            f"one {theirs:7.1f}: {ours / theirs:5.1f}x\n"
        )
    waits = [asyncio.run(beside_bulk(embeddings, given.questions)) for _ in range(given.rounds)]
    p95 = []
    names = ("one question, idle", "one question, beside a bulk job", "one bulk batch")
    for name, column in zip(names, zip(*waits, strict=True), strict=True):
        seconds = np.concatenate(column)
        p95.append(float(np.percentile(seconds, 95)))
        sys.stdout.write(f"{name}: p50 {np.median(seconds):.3f} s, p95 {p95[-1]:.3f} s\n")
    sys.stdout.write(f"p95 is later by {(p95[1] - p95[0]) / p95[2]:.2f} of a bulk batch\n")


if __name__ == "__main__":
    main()
