"""What an interrupted evaluation had done: one file per finished system, gone when all are."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from koe5_integrations.evaluation.files import UNFINISHED, to_json, write_whole
from koe5_integrations.evaluation.results import Hit, IndexStats
from koe5_integrations.evaluation.running import Measurement

__all__ = ["Unfinished"]


class Unfinished:
    """Keeps measurements in the results' folder until the results are there.

    Args:
        out: the results' folder; None keeps nothing.
    """

    def __init__(self, out: Path | None) -> None:
        self._folder = out / UNFINISHED if out else None

    def find(self, key: str) -> Measurement | None:
        """Return what was kept under a key; None if there is nothing, or it can't be read."""
        if self._folder is None:
            return None
        try:
            kept = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
            run = {q: [Hit(doc, score) for doc, score in hits] for q, hits in kept["run"].items()}
            return Measurement(**kept | {"run": run, "index": IndexStats(**kept["index"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, key: str, measured: Measurement) -> None:
        """Keep a measurement, whole or not at all."""
        if self._folder is not None:
            write_whole(self._folder, {f"{key}.json": [to_json(asdict(measured))]})

    def forget(self) -> None:
        """Remove everything kept: the results are written."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
