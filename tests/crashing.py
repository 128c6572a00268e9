"""Ingestions in processes of their own, which can be killed at a chosen point.

Run as a program, it reads jobs from stdin, one JSON object a line, and forks a child for each: what
takes seconds to import is imported once.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Where a child can be killed: the owner and name of what is called there. Each is a seam of the
# pipeline, or a call to the system or the store below it.
POINTS = {
    "embed": ("koe5_integrations.ingestion.writing", "embed_each"),
    "write": ("koe5_integrations.ingestion.shards.ShardFolder", "write"),
    "rename": ("os", "replace"),
    "fsync": ("os", "fsync"),
    "upsert": ("koe5_integrations.ingestion.stores.chroma.ChromaStore", "upsert"),
    "mid-upsert": ("koe5_integrations.ingestion.stores.chroma", "replace"),
    "delete": ("chromadb.api.models.Collection.Collection", "delete"),
    "close": ("koe5_integrations.ingestion.stores.chroma.ChromaStore", "close"),
    "mark": ("koe5_integrations.ingestion.shards.ShardFolder", "mark_loaded"),
}


class Crashing:
    """A server of such processes, one job at a time."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.communicate()  # its stdin ends, and so does it

    def run(
        self,
        folder: Path,
        model: Path | str,
        documents: list[dict[str, Any]],
        *,
        point: str | None = None,
        moment: str = "before",
        nth: int = 1,
        delay: float = 0.0,
        job: str = "ingest",
        **options: Any,
    ) -> dict[str, Any] | None:
        """Ingest documents into ``folder``; return the summary, or None if it was killed.

        Args:
            folder: holds ``chroma`` and ``chroma.shards``.
            model: of the encoder.
            documents: as ``ingest(documents=…)`` takes them.
            point: one of :data:`POINTS`; None kills nothing.
            moment: ``before`` or ``after`` that call; or, by another process, ``within`` it, or as
                soon as Chroma is ``saving`` an index from the call on.
            nth: which of these calls.
            delay: seconds into the call or the saving, for ``within`` and ``saving``.
            job: ``ingest``, or ``rebuild`` the store.
            options: further ones of ``ingest``.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        line = {
            "job": job,
            "folder": str(folder),
            "model": str(model),
            "documents": documents,
            "point": point,
            "moment": moment,
            "nth": nth,
            "delay": delay,
            "options": options,
        }
        self._server.stdin.write(json.dumps(line) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        if answer["status"] == -signal.SIGKILL:
            return None
        assert answer["status"] == 0, answer["error"]
        return dict(answer["summary"])


def _serve() -> None:
    import chromadb  # noqa: F401  # loaded once, before the forks, which inherit it

    from koe5_integrations.ingestion import ingest  # noqa: F401  # likewise

    for line in sys.stdin:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(read)
            with os.fdopen(write, "w") as answer:
                status = _run(json.loads(line), answer)
            os._exit(status)
        os.close(write)
        with os.fdopen(read) as lines:
            said = [json.loads(each) for each in _until_kill(lines, pid)]
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        answer = {"status": status, **(said[-1] if said else {})}
        print(json.dumps(answer), flush=True)  # noqa: T201  # this is how it answers


def _until_kill(lines: Any, pid: int) -> Any:
    for line in lines:
        asked = json.loads(line)
        if "kill_after" in asked:
            if "saving" in asked:
                _wait_for_a_save(Path(asked["saving"]), pid)
            time.sleep(asked["kill_after"])
            os.kill(pid, signal.SIGKILL)  # it may be over by then
        else:
            yield line


def _wait_for_a_save(folder: Path, pid: int) -> None:
    """Wait until Chroma writes an index of its folder, or the process has ended."""

    def written() -> dict[Path, int]:
        # The file that is written first, in place. A save is over in a millisecond or two.
        return {file: file.stat().st_mtime_ns for file in folder.glob("*/header.bin")}

    before = written()
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while written() == before and os.waitid(os.P_PID, pid, ended) is None:
        pass


def _run(job: dict[str, Any], answer: Any) -> int:
    from koe5_integrations.ingestion import ingest, rebuild

    if job["point"] is not None:
        _arm(job, answer)
    place: dict[str, Any] = {
        "encoder": job["model"],
        "persist_dir": Path(job["folder"]) / "chroma",
        "collection": "notes",
    }
    try:
        if job["job"] == "rebuild":
            summary = rebuild(**place)
        else:
            summary = ingest(documents=job["documents"], **place, **job["options"])
    except BaseException as error:
        answer.write(json.dumps({"error": repr(error)}) + "\n")
        return 1
    quarantine = None if summary.quarantine is None else str(summary.quarantine)
    answer.write(json.dumps({"summary": asdict(summary) | {"quarantine": quarantine}}) + "\n")
    return 0


def _arm(job: dict[str, Any], answer: Any) -> None:
    """Have this process killed at the point asked for."""
    import importlib

    where, name = POINTS[job["point"]]
    try:
        owner = importlib.import_module(where)
    except ImportError:
        module, _, attribute = where.rpartition(".")
        owner = getattr(importlib.import_module(module), attribute)
    called = getattr(owner, name)
    calls = itertools.count(1)

    def killing(*args: Any, **kwargs: Any) -> Any:
        due = next(calls) == job["nth"]
        if due and job["moment"] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if due and job["moment"] in ("within", "saving"):
            kill: dict[str, Any] = {"kill_after": job["delay"]}
            if job["moment"] == "saving":
                kill["saving"] = str(Path(job["folder"]) / "chroma")
            answer.write(json.dumps(kill) + "\n")
            answer.flush()
        result = called(*args, **kwargs)
        if due and job["moment"] == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, killing)


if __name__ == "__main__":
    _serve()
