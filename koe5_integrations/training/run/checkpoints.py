"""Checkpoints of a run: each is there wholly or not at all."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from koe5_integrations.errors import TrainingError
from koe5_integrations.ingestion.shards.durable import new_file, sync_folder

__all__ = ["Checkpoints", "sync_files"]

_log = logging.getLogger("koe5_integrations")

# The trainer's own names.
_PREFIX = "checkpoint-"
_STATE = "trainer_state.json"
_MANIFEST = "complete.json"


class Checkpoints:
    """The checkpoints in a folder.

    The trainer writes one in ``staging``; :meth:`complete` then gives it its place.

    Args:
        folder: of the checkpoints; need not be there.
        keep: how many of the latest are kept beside the best.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        self.staging = folder / ".unfinished"

    def path(self, step: int) -> Path:
        """Return where the checkpoint after an update is."""
        return self.folder / f"{_PREFIX}{step}"

    def written(self, step: int) -> Path:
        """Return where the trainer writes the checkpoint after an update."""
        return self.staging / f"{_PREFIX}{step}"

    def steps(self) -> list[int]:
        """Return the updates after which there are checkpoints, complete or not, in order."""
        names = [path.name.removeprefix(_PREFIX) for path in self.folder.glob(f"{_PREFIX}*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def latest(self) -> int | None:
        """Return the update of the last complete checkpoint; damaged ones are passed over."""
        for step in reversed(self.steps()):
            if self.is_complete(step):
                return step
            _log.warning("%s is damaged and passed over", self.path(step))
        return None

    def is_complete(self, step: int) -> bool:
        """Whether every file of a checkpoint is there in its full size."""
        try:
            sizes = json.loads((self.path(step) / _MANIFEST).read_text(encoding="utf-8"))
            return bool(sizes) and all(
                (self.path(step) / name).stat().st_size == size for name, size in sizes.items()
            )
        except (OSError, ValueError):
            return False

    def state(self, step: int) -> dict[str, Any]:
        """Return the trainer's state in a checkpoint."""
        read: dict[str, Any] = json.loads((self.path(step) / _STATE).read_text(encoding="utf-8"))
        return read

    def best(self, step: int) -> int:
        """Return the update of the best checkpoint as of another; without a dev set, that one.

        Raises:
            TrainingError: it is damaged.
        """
        found = int(self.state(step)["best_global_step"] or step)
        if not self.is_complete(found):
            raise TrainingError(
                f"{self.path(found)}, the best of the run, is damaged: put it back as it was, or "
                'begin anew with resume="never" (--fresh)'
            )
        return found

    def complete(self, step: int) -> None:
        """Put the checkpoint that was written in ``staging`` in its place; remove older ones.

        Args:
            step: the update it was written after.
        """
        written = self.written(step)
        sizes = {
            file.relative_to(written).as_posix(): file.stat().st_size
            for file in sync_files(written)
        }
        with new_file(written / _MANIFEST) as stream:
            stream.write(json.dumps(sizes, indent=1).encode())
        shutil.rmtree(self.path(step), ignore_errors=True)  # a damaged one
        written.rename(self.path(step))
        sync_folder(self.folder)
        latest = self.steps()[-self.keep :]
        # With each its best, so that a run can go on from any of them.
        kept = {*latest, *(self.state(each)["best_global_step"] for each in latest)}
        for old in self.steps():
            if old not in kept:
                shutil.rmtree(self.path(old), ignore_errors=True)

    def clear_after(self, step: int) -> None:
        """Remove what is unfinished or damaged, or was written after an update."""
        shutil.rmtree(self.staging, ignore_errors=True)
        for later in self.steps():
            if later > step or not self.is_complete(later):
                shutil.rmtree(self.path(later))


def sync_files(folder: Path) -> list[Path]:
    """Wait until all files below a folder are on the disk; return them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for file in files:
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
    return files
