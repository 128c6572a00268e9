"""How fast koe5-mini loads and embeds: ``python tests/benchmarks/bundled_model.py``.

Each figure is the median of several new processes on one core.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

RUNS = 5
# Loading is timed from an empty interpreter to the first vector, imports included.
ONCE = """
import resource, time
began = time.perf_counter()
from koe5_integrations import KoE5Encoder
encoder = KoE5Encoder("koe5-mini")
encoder.encode_queries(["첫 질문"])
loaded = time.perf_counter()
sentence = "{}번 문서는 파이썬의 리스트와 튜플이 어떻게 다른지, 언제 쓰는지 설명합니다."
passages = [sentence.format(number) for number in range(20_000)]
start = time.perf_counter()
encoder.encode_passages(passages)
rate = len(passages) / (time.perf_counter() - start)
print(loaded - began, rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
"""


def main() -> None:
    """Run and print the medians."""
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    runs = []
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, "-c", ONCE],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        runs.append([float(figure) for figure in done.stdout.split()])
    load, rate, memory = (statistics.median(column) for column in zip(*runs, strict=True))
    sys.stdout.write(
        f"import, load and first vector {load:.2f} s; {rate:,.0f} passages of 47 characters a "
        f"second; {memory:.0f} MB at most (medians of {RUNS} processes, one core)\n"
    )


if __name__ == "__main__":
    main()
