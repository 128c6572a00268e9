"""The process that measures one configuration: commands on stdin, answers on stdout, JSON lines.

Started as ``python -m koe5_integrations.bench.worker``. It has loaded nothing when it begins, so
that the time and memory of loading are the configuration's own, and it ends with its stdin, so that
it never outlives the process that started it, however that ended.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from koe5_integrations.bench.measuring import Measuring
    from koe5_integrations.encoder import KoE5Encoder

__all__ = ["main"]


class _Session:
    """One loaded encoder and what is asked of it; each public method answers a command."""

    def __init__(self) -> None:
        self._measuring: Measuring | None = None

    def load(self, encoder: dict[str, Any]) -> dict[str, Any]:
        """Load the model in the way of these arguments of ``KoE5Encoder``."""
        began = time.perf_counter()
        from koe5_integrations.encoder import KoE5Encoder

        self._arguments = encoder
        self._encoder = KoE5Encoder(**encoder)
        self._encoder.load()
        seconds = time.perf_counter() - began

        import psutil

        return {
            "seconds": seconds,
            "resident": psutil.Process().memory_info().rss,
            "batch_tokens": self._encoder._handle.worker().backend.batch_tokens,
            "device": _device(self._encoder),
        }

    def prepare(self, workload: str) -> dict[str, Any]:
        """Read the workload and run everything once."""
        from koe5_integrations.bench.measuring import Measuring
        from koe5_integrations.bench.workload import Workload
        from koe5_integrations.encoder import KoE5Encoder

        def make(batch_tokens: int | None) -> KoE5Encoder:
            return KoE5Encoder(**self._arguments, batch_tokens=batch_tokens)

        own = self._encoder._handle.worker().backend.batch_tokens
        self._measuring = Measuring(Workload.read(Path(workload)), make, own)
        return {"first_query": self._measuring.warm_up()}

    def measure(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Run one measurement."""
        answer: dict[str, Any] = getattr(self._measuring, name)(**arguments)
        return answer

    def vectors(self, path: str) -> dict[str, Any]:
        """Write the vectors that fidelity is measured on."""
        import numpy as np

        assert self._measuring is not None
        np.save(path, self._measuring.vectors())
        return {}

    def finish(self) -> dict[str, Any]:
        """Return what memory it took."""
        from koe5_integrations.bench.machine import peak_memory

        torch = sys.modules.get("torch")
        on_gpu = torch is not None and torch.cuda.is_initialized()
        return {
            "peak": peak_memory(),
            "device_peak": torch.cuda.max_memory_allocated() if on_gpu and torch else None,
        }


def main() -> None:
    """Answer commands until stdin ends."""
    # Ctrl-C reaches every process of a terminal; the one that started this ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries print what they like; answers go where only they are.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    commands: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(commands,), daemon=True).start()
    session = _Session()
    while True:
        command = json.loads(commands.get())
        answer: dict[str, Any]
        try:
            answer = getattr(session, command.pop("do"))(**command)
        except Exception as error:
            from koe5_integrations.errors import KoE5Error

            # Ours say everything; of others the type is part of the message.
            ours = isinstance(error, KoE5Error)
            answer = {"error": str(error) if ours else f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _read(commands: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        commands.put(line)
    # Whatever is being measured, nobody waits for it any more.
    os._exit(0)


def _device(encoder: KoE5Encoder) -> str:
    device: str = encoder.engine.device
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return f"{device} ({torch.cuda.get_device_name()})"
    return device


if __name__ == "__main__":
    main()
