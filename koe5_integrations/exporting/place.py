"""Where an export comes to lie: a folder that appears when it is complete, or not at all."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path

from safetensors import safe_open

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import ConfigError, ExportError, ModelLoadError
from koe5_integrations.exports import (
    MANIFEST,
    Engine,
    Export,
    ExportPrecision,
    default_exports_folder,
)

__all__ = ["check_room", "put_in_place", "staged", "target_folder"]

_PARTIAL = ".partial"
# What a killed export leaves is taken away by the next into the same place; none takes so long.
_ABANDONED_SECONDS = 24 * 3600
_BYTES = {"fp32": 4, "int8": 1}
# Tokenizer, configuration, and the graph itself.
_BESIDE_WEIGHTS = 100 * 2**20


def target_folder(
    output: str | os.PathLike[str] | None,
    source: ModelFolder,
    engine: Engine,
    precision: ExportPrecision,
) -> Path:
    """Return the folder to write, an absolute path.

    Args:
        output: what was asked for; None is where encoders look for the model's exports.
        source: the model.
        engine: of the export.
        precision: of the export.

    Raises:
        ConfigError: ``output`` is a file, is not empty or can't be written.
        ExportError: the model is already exported there.
    """
    if output is None:
        target = default_exports_folder() / f"{source.digest}-{engine}-{precision}"
        if (target / MANIFEST).is_file():
            raise ExportError(
                f"the model is already exported to {target}: remove that folder first, or name "
                "another with output="
            )
    else:
        target = Path(output).expanduser().absolute()
    if target.exists() and not target.is_dir():
        raise ConfigError(f"output={str(target)!r} is not a folder")
    if target.is_dir() and any(target.iterdir()):
        raise ConfigError(f"output={str(target)!r} is not empty; name a new folder")
    if not os.access(_existing(target.parent), os.W_OK | os.X_OK):
        raise ConfigError(f"output={str(target)!r} can't be made: no permission in its parent")
    return target


def check_room(
    target: Path, source: ModelFolder, engine: Engine, precision: ExportPrecision
) -> None:
    """Raise ExportError if the export, with what is written on the way to it, needs more disk."""
    weights = 0
    for file in source.files("*.safetensors"):
        with safe_open(file, "numpy") as tensors:
            weights += sum(prod(tensors.get_slice(n).get_shape()) for n in tensors.keys())  # noqa: SIM118 - not a dict
    # OpenVINO's files are made from ONNX's.
    copies = 2 if engine == "openvino" else 1
    needed = weights * _BYTES[precision] * copies + _BESIDE_WEIGHTS
    at = _existing(target.parent)
    if (free := shutil.disk_usage(at).free) < needed:
        raise ExportError(
            f"exporting to {target} needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free "
            f"there: make room, or name a folder on another disk with output="
        )


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a new folder beside ``target`` to write in, which is gone afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*{_PARTIAL}"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left)
    staging = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}{_PARTIAL}"
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def put_in_place(staging: Path, target: Path, export: Export) -> None:
    """Give a complete export its name; one of the same that came first is left in place.

    Raises:
        ExportError: something else has come to lie there.
    """
    with suppress(OSError):
        target.rmdir()
    try:
        staging.rename(target)
    except OSError as error:
        with suppress(ModelLoadError):
            there = Export.read(target)
            if there is not None and (there.weights, there.engine, there.precision) == (
                export.weights,
                export.engine,
                export.precision,
            ):
                return
        raise ExportError(
            f"the export can't be put at {target} ({error.strerror}): name another folder with "
            "output="
        ) from error


def _existing(folder: Path) -> Path:
    return next(at for at in (folder, *folder.parents) if at.exists())
