"""Tests of koe5_integrations.exporting.place: a folder that is complete or not there."""

from __future__ import annotations

import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import ConfigError, ExportError
from koe5_integrations.exporting.place import check_room, put_in_place, staged, target_folder
from koe5_integrations.exports import Export

EXPORT = Export("onnx", "fp32", "onnx/model.onnx", {}, "weights", "model", "", "", True)


@pytest.fixture
def source(xlm_roberta: Path) -> ModelFolder:
    """A model to export."""
    return ModelFolder.read(xlm_roberta)


def test_the_default_is_where_encoders_look(
    source: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a name, an export lies under the digest of its model's weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    target = target_folder(None, source, "openvino", "int8")
    assert target == tmp_path / f"koe5/exports/{source.digest}-openvino-int8"
    target.mkdir(parents=True)
    EXPORT.write(target)
    with pytest.raises(ExportError, match=r"already exported to .*-openvino-int8: remove"):
        target_folder(None, source, "openvino", "int8")


def test_nothing_is_written_over(source: ModelFolder, tmp_path: Path) -> None:
    """A file, and a folder that holds something, are refused; an empty folder is taken."""
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="is not a folder"):
        target_folder(file, source, "onnx", "fp32")
    with pytest.raises(ConfigError, match="is not empty; name a new folder"):
        target_folder(tmp_path, source, "onnx", "fp32")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert target_folder(empty, source, "onnx", "fp32") == empty


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_named(source: ModelFolder, tmp_path: Path) -> None:
    """No permission is said before anything is computed."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="no permission"):
        target_folder(closed / "new", source, "onnx", "fp32")


def test_a_full_disk_is_noticed_before(
    source: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little room for the export, and for what is written on the way to it, is refused."""
    usage = namedtuple("usage", "total used free")
    free = 150 * 2**20
    monkeypatch.setattr(shutil, "disk_usage", lambda at: usage(2 * free, free, free))
    check_room(tmp_path / "new", source, "onnx", "fp32")
    free = 50 * 2**20
    with pytest.raises(ExportError, match=r"needs 0\.1 GB, and 0\.1 GB are free"):
        check_room(tmp_path / "new", source, "onnx", "fp32")


def test_what_is_not_finished_goes(tmp_path: Path) -> None:
    """An error on the way leaves nothing beside the target."""
    target = tmp_path / "new" / "export"

    def fail() -> None:
        with staged(target) as staging:
            (staging / "graph").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(target.parent.iterdir()) == []


def test_a_finished_folder_gets_its_name(tmp_path: Path) -> None:
    """A complete export replaces an empty folder and nothing else."""
    target = tmp_path / "export"
    target.mkdir()
    with staged(target) as staging:
        EXPORT.write(staging)
        put_in_place(staging, target, EXPORT)
    assert Export.read(target) == EXPORT
    assert list(tmp_path.iterdir()) == [target]


def test_of_two_exports_at_once_one_stays(tmp_path: Path) -> None:
    """The second to finish leaves the first in place if it is the same, and else says so."""
    target = tmp_path / "export"
    with staged(target) as first, staged(target) as second:
        assert first != second
        for staging in (first, second):
            EXPORT.write(staging)
        put_in_place(first, target, EXPORT)
        put_in_place(second, target, EXPORT)
    assert list(tmp_path.iterdir()) == [target]
    other = Export("openvino", "fp32", "openvino/openvino_model.xml", {}, "", "", "", "", True)
    with pytest.raises(ExportError, match="can't be put at"), staged(target) as staging:
        put_in_place(staging, target, other)
    assert Export.read(target) == EXPORT


def test_what_a_killed_export_left_is_taken_away(tmp_path: Path) -> None:
    """The next export into the same place removes what is old enough to be nobody's."""
    target = tmp_path / "export"
    abandoned, others = tmp_path / ".export.0123.partial", tmp_path / ".export2.0123.partial"
    running = tmp_path / ".export.4567.partial"
    for folder in (abandoned, others, running):
        folder.mkdir()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(abandoned, (two_days_ago, two_days_ago))
    os.utime(others, (two_days_ago, two_days_ago))
    with staged(target) as staging:
        assert sorted(tmp_path.iterdir()) == sorted([staging, others, running])
