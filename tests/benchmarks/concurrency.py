"""Many callers at once, and questions during a bulk job.

Run it with ``python tests/benchmarks/concurrency.py``. A transformer of e5-small's shape
with random weights, on this machine: questions a second from 64 asyncio tasks, against
sentence-transformers called once per question; and how long a question takes on an idle encoder and
during a bulk job. Both sides take turns; medians are printed.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sentence_transformers import SentenceTransformer
from tiny_models import KOREAN, make_xlm_roberta

from koe5_integrations import KoE5Encoder

ROUNDS = 5
CALLERS = 64


async def many_callers(encoder: KoE5Encoder, questions: list[str]) -> float:
    """Return questions a second, each its own task."""
    began = time.perf_counter()
    await asyncio.gather(*(encoder.aencode_queries([question]) for question in questions))
    return len(questions) / (time.perf_counter() - began)


def one_by_one(model: SentenceTransformer, questions: list[str]) -> float:
    """Return questions a second of plain sentence-transformers, a call each."""
    began = time.perf_counter()
    for question in questions:
        model.encode(f"query: {question}", normalize_embeddings=True)
    return len(questions) / (time.perf_counter() - began)


async def during_bulk(encoder: KoE5Encoder, question: str) -> tuple[float, float, float]:
    """Return seconds of a question alone, of one during a bulk job, and of the bulk job's batch."""
    alone = time.perf_counter()
    await encoder.aencode_queries([question])
    alone = time.perf_counter() - alone
    passages = [" ".join(KOREAN) + str(number) for number in range(400)]
    began = time.perf_counter()
    bulk = asyncio.create_task(encoder.aencode_passages(passages))
    await asyncio.sleep(0.5)
    busy = time.perf_counter()
    await encoder.aencode_queries([question])
    busy = time.perf_counter() - busy
    await bulk
    tokens = sum(encoder.count_tokens(passages, "passage"))
    batches = tokens / encoder._handle.worker().backend.batch_tokens
    return alone, busy, (time.perf_counter() - began) / batches


def main() -> None:
    """Measure and print."""
    folder = make_xlm_roberta(
        Path(tempfile.mkdtemp()) / "model", dim=384, layers=12, max_seq_length=512
    )
    encoder, plain = KoE5Encoder(folder), SentenceTransformer(str(folder), device="cpu")
    questions = [f"{KOREAN[number % 5]} {number}" for number in range(CALLERS)]
    encoder.encode_queries(questions)
    rates = [
        (asyncio.run(many_callers(encoder, questions)), one_by_one(plain, questions))
        for _ in range(ROUNDS)
    ]
    waits = [asyncio.run(during_bulk(encoder, questions[0])) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
    alone, busy, batch = (1000 * statistics.median(column) for column in zip(*waits, strict=True))
    sys.stdout.write(
        f"{CALLERS} callers: {ours:.0f} questions a second, sentence-transformers one by one "
        f"{theirs:.0f} ({ours / theirs:.1f}x)\n"
        f"one question: {alone:.0f} ms idle, {busy:.0f} ms during a bulk job whose batches take "
        f"{batch:.0f} ms\n"
    )


if __name__ == "__main__":
    main()
