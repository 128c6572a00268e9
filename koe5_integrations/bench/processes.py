"""A process for each configuration, seen from the one that starts it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from types import TracebackType
from typing import Any

from koe5_integrations.errors import KoE5Error

__all__ = ["WorkerError", "WorkerProcess"]

_SECONDS_TO_END = 5.0


class WorkerError(KoE5Error, RuntimeError):
    """A configuration could not be measured; the message is the reason."""


class WorkerProcess:
    """Starts a fresh interpreter, and ends it with the ``with`` block, whatever happens in it."""

    def __init__(self) -> None:
        # A file, because a pipe nobody reads would stop the process when it is full.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed on exit
        self._process = subprocess.Popen(
            [sys.executable, "-m", "koe5_integrations.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the process at once, and wait until it is gone; a second time does nothing."""
        # It holds nothing that has to be put in order, and may be in the middle of a measurement.
        self._process.kill()
        self._process.wait(_SECONDS_TO_END)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # a command it did not live to read
                    pipe.close()
        self._stderr.close()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Raises:
            WorkerError: it failed, or the process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(self._why_it_ended())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _why_it_ended(self) -> str:
        code = self._process.wait(_SECONDS_TO_END)
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        last = f": {said[-1]}" if said else ""
        if code >= 0:
            return f"its process ended with {code}{last}"
        hint = ", perhaps because memory ran out" if -code == getattr(signal, "SIGKILL", 0) else ""
        return f"its process was ended by {signal.Signals(-code).name}{hint}{last}"
