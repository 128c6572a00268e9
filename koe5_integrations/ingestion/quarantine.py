"""What could not be ingested, and why, for people to look into."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from koe5_integrations.ingestion.documents import Rejected

__all__ = ["Quarantine"]


class Quarantine:
    """The file ``quarantine.jsonl``: one object a line, with place, id, source and reason.

    Args:
        path: of the file; it exists only while there is something in it.
        sources: being read now: what was said of them before is forgotten, for it is found again.
    """

    def __init__(self, path: Path, sources: Collection[str]) -> None:
        self.path = path
        self.count = 0
        if not path.exists():
            return
        with path.open(encoding="utf-8") as file:
            kept = [line for line in file if _source(line) not in {*sources, None}]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.replace(path)
        if not kept:
            path.unlink()

    def add(self, rejected: Iterable[Rejected]) -> None:
        """Write down what was rejected; it is on disk when this returns."""
        lines = [
            json.dumps(
                {"place": r.place, "id": r.id, "source": r.source, "reason": r.reason},
                ensure_ascii=False,
            )
            for r in rejected
        ]
        if not lines:
            return
        self.count += len(lines)
        with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _source(line: str) -> str | None:
    """Return the source a line speaks of; None if a crash cut it short."""
    try:
        source = json.loads(line)["source"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(source)
