"""How long starting takes: ``python tests/benchmarks/startup.py``.

Wall-clock seconds of whole new processes, beside an empty interpreter: minimum, median, maximum.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 9
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import koe5_integrations": ["-c", "import koe5_integrations"],
    "import the encoder": ["-c", "from koe5_integrations import KoE5Encoder"],
    "koe5 --help": ["-m", "koe5_integrations", "--help"],
}


def main() -> None:
    """Run every command in turn, and print its times."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - began)
    for name, taken in seconds.items():
        low, middle, high = min(taken), statistics.median(taken), max(taken)
        sys.stdout.write(f"{name:26} {low:6.3f} {middle:6.3f} {high:6.3f}\n")


if __name__ == "__main__":
    main()
