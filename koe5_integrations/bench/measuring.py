"""One measurement at a time of a loaded encoder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np

from koe5_integrations.bench.workload import Passages, Workload
from koe5_integrations.encoder import KoE5Encoder

__all__ = ["Measuring"]

# Percentiles need many calls, memory and JSON few.
_FEWEST_CALLS, _MOST_CALLS = 5, 1000
# A batch that takes so many times as long as a measurement should is left out.
_TOO_LONG = 4
# A bulk job of fewer batches would be over before a question has to wait for one.
_BULK_BATCHES = 3


@dataclass
class Measuring:
    """Measures an encoder on a workload.

    Args:
        workload: what is embedded.
        make: makes an encoder of the loaded model with this ``batch_tokens``; None is the
            backend's own choice.
        own_batch_tokens: what that is.
    """

    workload: Workload
    make: Callable[[int | None], KoE5Encoder]
    own_batch_tokens: int
    _tokens_per_second: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._encoder = self.make(None)
        self._queries = cycle(self.workload.queries)

    def warm_up(self) -> float:
        """Run everything once and learn how fast it is; return seconds of the first question."""
        began = time.perf_counter()
        self._encoder.encode_queries([next(self._queries)])
        first = time.perf_counter() - began
        self.query(0.2)
        self.callers(8, 0.2)
        for passages in self.workload.passages:
            few = passages.texts[: max(1, min(2048, self.own_batch_tokens) // passages.length)]
            self._encoder.encode_passages(few)
            began = time.perf_counter()
            self._encoder.encode_passages(few)
            seconds = time.perf_counter() - began
            self._tokens_per_second[passages.length] = passages.tokens * len(few) / seconds
        return first

    def throughput(self, length: int, batch_tokens: int | None, seconds: float) -> dict[str, Any]:
        """Embed passages in bulk for about so long.

        Returns:
            ``texts`` in a call and ``rate`` (texts a second); or ``skipped``, and why.
        """
        passages = self._of(length)
        per_second = self._tokens_per_second[length]
        batch = batch_tokens or self.own_batch_tokens
        if batch_tokens == self.own_batch_tokens:
            return {"skipped": "the backend's own choice"}
        if batch_tokens and batch_tokens / per_second > _TOO_LONG * seconds:
            return {"skipped": f"one batch takes {batch_tokens / per_second:.0f} s"}
        wanted = max(per_second * seconds, batch) / passages.tokens
        texts = passages.texts[: max(1, int(wanted))]
        encoder = self.make(batch_tokens)
        calls, began = 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - began < 0.8 * seconds:
            encoder.encode_passages(texts)
            calls += 1
        return {
            "texts": len(texts),
            "rate": calls * len(texts) / (time.perf_counter() - began),
        }

    def query(self, seconds: float) -> dict[str, Any]:
        """Ask questions one after another; return the seconds of each as ``waits``."""
        # What others did in between has cooled the caches, which is not what is asked here.
        self._encoder.encode_queries([next(self._queries)])
        waits: list[float] = []
        began = time.perf_counter()
        while _goes_on(waits, began, seconds):
            asked = time.perf_counter()
            self._encoder.encode_queries([next(self._queries)])
            waits.append(time.perf_counter() - asked)
        return {"waits": waits}

    def query_during_bulk(self, seconds: float) -> dict[str, Any]:
        """Ask questions one after another while passages are embedded; as :meth:`query`."""
        passages = self.workload.passages[-1]
        tokens = max(
            self._tokens_per_second[passages.length] * seconds,
            _BULK_BATCHES * self.own_batch_tokens,
        )
        copies = range(1 + int(tokens / passages.tokens) // len(passages.texts))
        # Equal texts would be embedded once.
        texts = [f"{copy} {text}" if copy else text for copy in copies for text in passages.texts]
        texts = texts[: 1 + int(tokens / passages.tokens)]

        async def run() -> list[float]:
            waits: list[float] = []
            began = time.perf_counter()
            while not waits or time.perf_counter() - began < seconds:
                bulk = asyncio.create_task(self._encoder.aencode_passages(texts))
                await asyncio.sleep(0)
                while not bulk.done() and len(waits) < _MOST_CALLS:
                    asked = time.perf_counter()
                    await self._encoder.aencode_queries([next(self._queries)])
                    waits.append(time.perf_counter() - asked)
                await bulk
            return waits

        return {"waits": asyncio.run(run())}

    def callers(self, callers: int, seconds: float) -> dict[str, Any]:
        """Let tasks ask question after question.

        Returns:
            ``rate`` (questions a second of all together), ``p50`` and ``p95`` (seconds of one).
        """
        waits: list[float] = []

        async def ask(until: float) -> None:
            while True:
                asked = time.perf_counter()
                await self._encoder.aencode_queries([next(self._queries)])
                waits.append(time.perf_counter() - asked)
                if time.perf_counter() >= until:
                    return

        async def run() -> float:
            # The event loop's threads start with its first calls.
            await asyncio.gather(*(ask(0.0) for _ in range(callers)))
            waits.clear()
            began = time.perf_counter()
            await asyncio.gather(*(ask(began + seconds) for _ in range(callers)))
            return time.perf_counter() - began

        took = asyncio.run(run())
        p50, p95 = np.percentile(waits, [50, 95])
        return {"rate": len(waits) / took, "p50": float(p50), "p95": float(p95)}

    def vectors(self) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """Return the vectors of the texts that fidelity is measured on, float32 (n, dim)."""
        compared = self.workload.compared
        return np.concatenate(
            [
                self._encoder.encode_queries(compared["query"]),
                self._encoder.encode_passages(compared["passage"]),
            ]
        )

    def _of(self, length: int) -> Passages:
        return next(each for each in self.workload.passages if each.length == length)


def _goes_on(waits: Sequence[float], began: float, seconds: float) -> bool:
    enough = time.perf_counter() - began >= seconds and len(waits) >= _FEWEST_CALLS
    return not enough and len(waits) < _MOST_CALLS
