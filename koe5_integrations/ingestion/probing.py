"""Whether a Chroma collection can be read, found out in a process that may die of it."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ProbeResult", "probe"]

_ROWS_PER_PAGE = 2000
_SEARCHES = 64
# An index whose files are sound does not find every vector either: once many were replaced, and
# above all where texts are nearly alike (a third of them were out of reach in Chroma's default
# index of 4,000 sentences that differ in a number). One that has lost its rows finds none.
_MOST_NOT_FOUND = 0.5
_SAME_DISTANCE = 1e-3


@dataclass(frozen=True)
class ProbeResult:
    """What came of a probe.

    Attributes:
        readable: nothing is wrong with what is there.
        count: rows of the collection; None if there is no such collection, or it can't be read.
        problem: what is wrong, for people; empty if nothing is.
    """

    readable: bool
    count: int | None = None
    problem: str = ""


def probe(
    place: str | os.PathLike[str],
    collection: str,
    *,
    thorough: bool = True,
    patience: float = 300.0,
) -> ProbeResult:
    """Read a collection in a process of its own.

    Who is killed while Chroma writes its index can leave one that brings down whoever opens it, or
    one that silently lacks rows.

    Args:
        place: folder of an embedded database, where nobody may write meanwhile, or a server's URL.
        collection: its name.
        thorough: read every vector, and search for some; this takes one of ours, in cosine space.
            If not, one row is read and searched for, whatever is in it.
        patience: seconds that each step may take: to open it, to count, to read 2000 vectors.
    """
    code = f"from {__name__} import _examine; _examine()"
    asked = json.dumps([os.fspath(place), collection, thorough, patience])
    # The child ends when its stdin does, that is with this process, even if that is killed.
    stdin, held = os.pipe()
    try:
        child = subprocess.run(
            [sys.executable, "-c", code, asked],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
    finally:
        os.close(stdin)
        os.close(held)
    said: dict[str, Any] = {"doing": "starting to read it"}
    for line in child.stdout.splitlines():
        if line.startswith('{"'):
            said |= json.loads(line)
    if child.returncode == 0 and "problem" not in said:
        return ProbeResult(True, said["count"])
    return ProbeResult(False, problem=f"{said['doing']} failed: {_reason(child, said, patience)}")


def _reason(child: subprocess.CompletedProcess[str], said: dict[str, Any], patience: float) -> str:
    if "problem" in said:
        return str(said["problem"])
    if child.returncode < 0:
        return f"the process died ({signal.Signals(-child.returncode).name})"
    if "Timeout (" in child.stderr:
        return f"it was not done within {patience:g} s"
    complaints = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
    return complaints[-1]


def _examine() -> None:
    """Do the work of the child process; the last of the lines it prints says how it ended."""
    place, collection, thorough, patience = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    result: dict[str, Any] = {}
    try:
        for step in _steps(place, collection, thorough, result):
            # By a thread of C, which works where Chroma hangs.
            faulthandler.dump_traceback_later(patience, exit=True)
            _say({"doing": step})
    except Exception as error:
        result["problem"] = str(error) or type(error).__name__
    _say(result)
    # What is damaged may crash while it is closed, too, which says nothing new.
    os._exit(0)


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(1)


def _say(something: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(something) + "\n")
    sys.stdout.flush()


def _steps(place: str, name: str, thorough: bool, result: dict[str, Any]) -> Iterator[str]:
    """Read the collection, yielding what is done next; the result gets ``count``.

    Raises:
        Exception: whatever Chroma raises, or ValueError for what it does not notice.
    """
    from koe5_integrations.ingestion.stores.chroma_database import DATABASE, connect

    yield "opening its database"
    served = place.startswith(("http://", "https://"))
    result["count"] = None
    if not served and not (Path(place) / DATABASE).is_file():
        return
    import numpy as np
    from chromadb.errors import NotFoundError

    client = connect(None, place) if served else connect(Path(place), None)
    try:
        collection = client.get_collection(name, embedding_function=None)
    except NotFoundError:
        return

    yield "counting its rows"
    count = collection.count()
    to_read = count if thorough else min(count, 1)
    every = max(1, to_read // _SEARCHES)
    wanted: list[Any] = []
    for offset in range(0, to_read, _ROWS_PER_PAGE):
        yield "reading its vectors"
        rows = min(_ROWS_PER_PAGE, to_read - offset)
        page = collection.get(limit=rows, offset=offset, include=["embeddings"])
        vectors = np.asarray(page["embeddings"], dtype=np.float32)
        if len(page["ids"]) != rows or len(vectors) != rows:
            raise ValueError(f"{rows - len(vectors)} of {rows} rows are missing")
        bad = ~(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1))
        if thorough and bad.any():
            raise ValueError(f"{page['ids'][int(bad.argmax())]!r} has no sound vector")
        wanted.extend(vectors[-offset % every :: every])

    if wanted:
        yield "searching it"
        found = collection.query(query_embeddings=wanted, n_results=1, include=["distances"])
        lost = sum(
            not nearest or nearest[0] > _SAME_DISTANCE for nearest in found["distances"] or []
        )
        if thorough and lost > _MOST_NOT_FOUND * len(wanted):
            raise ValueError(f"{lost} of {len(wanted)} stored vectors are not found by themselves")
    result["count"] = count
