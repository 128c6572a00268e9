"""The run folder: whose run it holds, how far that is, and what it came to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from koe5_integrations.errors import MissingExtraError, TrainingError
from koe5_integrations.ingestion.shards.durable import new_file
from koe5_integrations.training.config import NOT_COMPARED, TrainingConfig
from koe5_integrations.training.data.finding import sha256_of
from koe5_integrations.training.recipe import DataFile
from koe5_integrations.training.run.checkpoints import Checkpoints
from koe5_integrations.training.run.trained import Trained

try:
    import yaml
except ImportError as error:
    raise MissingExtraError("koe5_integrations.training", "train") from error

__all__ = ["RunFolder", "write_json"]


class RunFolder:
    """The files of a run.

    Args:
        path: the folder; need not be there.
        keep_checkpoints: how many of the latest are kept beside the best.
    """

    def __init__(self, path: Path, keep_checkpoints: int) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.data = path / "data.json"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.curves = path / "curves.png"
        self.results = path / "results.json"
        self.model = path / "model"
        self.checkpoints = Checkpoints(path / "checkpoints", keep_checkpoints)
        self._own = (
            self.config,
            self.data,
            self.environment,
            self.metrics,
            self.curves,
            self.results,
            self.model,
            self.checkpoints.folder,
        )

    @property
    def finished(self) -> bool:
        """Whether the run in the folder has come to its end."""
        return self.model.is_dir()

    @property
    def _otherwise(self) -> str:
        anew = "" if self.finished else ', or begin anew in this one with resume="never" (--fresh)'
        return f"or choose another out{anew}"

    def open(self, config: TrainingConfig, *, fresh: bool) -> None:
        """Make sure the folder is empty or holds this run; remove one that is not wanted.

        Args:
            config: of this run.
            fresh: an unfinished run is not wanted.

        Raises:
            TrainingError: it holds something else.
        """
        if not self.config.is_file():
            if found := [path.name for path in self._own if path.exists()]:
                raise TrainingError(
                    f"{self.path} holds {', '.join(found)}, but no config.yaml, so it is no run "
                    "folder: choose another out"
                )
            return
        if fresh and self.finished:
            raise TrainingError(
                f"{self.path} holds a finished run, which is not replaced: choose another out, or "
                "remove the folder"
            )
        last = None if self.finished else self.checkpoints.latest()
        if fresh or not (self.finished or last):
            self._clear()
            return
        before = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        if differences := _differences(before, config.to_dict()):
            raise TrainingError(
                f"{self.path} holds a run with other settings: {'; '.join(differences)}. Go on "
                f"with those of its config.yaml, {self._otherwise}"
            )
        self._check_files()
        if last:
            self.checkpoints.best(last)

    def check_data(self, files: Sequence[DataFile]) -> None:
        """Raise TrainingError if the run in the folder was begun with other data than was read."""
        key = ("role", "sha256", "rows")
        before = [{name: row[name] for name in key} for row in self._data_rows()]
        now = [{name: getattr(file, name) for name in key} for file in files]
        if before != now:
            raise TrainingError(
                f"{self.path} was begun with other data: {before} then, {now} now. Go on with "
                f"those of its data.json, {self._otherwise}"
            )

    def begin(self, config: TrainingConfig, files: Sequence[DataFile]) -> None:
        """Write down what the run is made from; from now on the folder is its."""
        # First what tells that the folder is a run's.
        with new_file(self.config) as stream:
            stream.write(config.to_yaml().encode())
        write_json(self.data, [asdict(file) for file in files])

    def add_session(self, session: Mapping[str, Any]) -> None:
        """Write down with what the run begins, or goes on."""
        before = []
        if self.environment.is_file():
            before = json.loads(self.environment.read_text(encoding="utf-8"))["sessions"]
        write_json(self.environment, {"sessions": [*before, session]})

    def trained(self) -> Trained:
        """Return what a finished run came to."""
        return Trained(self.path, **json.loads(self.results.read_text(encoding="utf-8")))

    def _data_rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.data.read_text(encoding="utf-8"))
        return rows

    def _check_files(self) -> None:
        # From the files alone, before a model is loaded.
        for row in self._data_rows():
            file = Path(row["path"])
            if file.is_file() and sha256_of(file) != row["sha256"]:
                raise TrainingError(
                    f"{file} has changed since the run in {self.path} was begun: go on with what "
                    f"it was, {self._otherwise}"
                )

    def _clear(self) -> None:
        # What tells that the folder is ours goes last.
        for path in reversed(self._own):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys([*before, *now])
    return [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in names
        if name not in NOT_COMPARED and before.get(name) != now.get(name)
    ]


def write_json(file: Path, content: Any) -> None:
    """Write JSON that is there wholly or not at all."""
    with new_file(file) as stream:
        stream.write((json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode())
