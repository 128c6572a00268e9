"""How fast a model loads and embeds on one core, in processes of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass

from koe5_integrations.errors import EncodingError

__all__ = ["Speed", "measure_speed"]

_ONE_CORE = {
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
# Loading is timed from an empty interpreter to the first vector, imports included.
_ONCE = """
import json, sys, time
from pathlib import Path
began = time.perf_counter()
from koe5_integrations import KoE5Encoder
encoder = KoE5Encoder(sys.argv[1])
encoder.encode_queries(["첫 질문"])
load = time.perf_counter() - began
# Not getrusage, whose maximum a new process inherits from the one that started it.
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
memory = next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")), None)
sentence = "{}번 문서는 파이썬의 리스트와 튜플이 어떻게 다른지, 언제 쓰는지 설명합니다. "
rates, numbers = {}, iter(range(10**5, 10**9))
for sentences in (1, 15):
    count, seconds = 16, 0.0
    while seconds < 1 and count < 40_000:
        count *= 2
        passages = [
            "".join(sentence.format(next(numbers)) for _ in range(sentences)).strip()
            for _ in range(count)
        ]
        start = time.perf_counter()
        encoder.encode_passages(passages)
        seconds = time.perf_counter() - start
    rates[len(passages[0])] = count / seconds
print(json.dumps([load, rates, memory]))
"""


@dataclass(frozen=True)
class Speed:
    """Medians over several processes.

    Attributes:
        load_s: seconds from an empty interpreter's first import to the first vector.
        passages_per_s: by the passages' length in characters.
        memory_mb: the most that a process held until its first vector; None where the system
            is not Linux.
    """

    load_s: float
    passages_per_s: dict[int, float]
    memory_mb: float | None


def measure_speed(model: str, runs: int) -> Speed:
    """Time a model in so many processes, one after the other.

    Args:
        model: a folder, or a name KoE5Encoder knows.
        runs: at least 1.

    Raises:
        EncodingError: a process failed.
    """
    loads, rates, memories = [], [], []
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-c", _ONCE, model],
            env=os.environ | _ONE_CORE,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise EncodingError(f"the process that times {model} failed:\n{done.stderr.strip()}")
        load, rate, memory = json.loads(done.stdout.splitlines()[-1])
        loads.append(load)
        rates.append(rate)
        memories.append(memory)
    return Speed(
        statistics.median(loads),
        {int(size): statistics.median(rate[size] for rate in rates) for size in rates[0]},
        None if None in memories else statistics.median(memories),
    )
