"""The files of a model, read without a model library and with errors that name them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from koe5_integrations.errors import ModelLoadError

__all__ = ["check_weights", "read_json", "sample_tensors", "tensor_shape"]


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        ModelLoadError: it can't be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelLoadError(f"{path} can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelLoadError(f"{path} is not valid JSON ({error}); copy it again") from error


def check_weights(path: Path, folders: Iterable[Path]) -> None:
    """Name what is missing or cut short of an interrupted download, before anything is loaded.

    Args:
        path: the model's folder.
        folders: those of its modules.

    Raises:
        ModelLoadError: no safetensors weights, or not all of them.
    """
    weights = [file for folder in folders for file in folder.glob("*.safetensors")]
    if not weights:
        pickled = any(path.rglob("pytorch_model*.bin"))
        raise ModelLoadError(
            f"{path} holds no *.safetensors weights"
            + (
                "; pickled weights (pytorch_model.bin) can run code and are not loaded: "
                "convert them with save_pretrained(safe_serialization=True)"
                if pickled
                else "; is it the folder of a model, completely copied?"
            )
        )
    for file in weights:
        _read_header(file)
    for index in (file for folder in folders for file in folder.glob("*.safetensors.index.json")):
        shards = set(read_json(index).get("weight_map", {}).values())
        if missing := sorted(s for s in shards if not (index.parent / s).is_file()):
            raise ModelLoadError(f"{path} is incomplete: {', '.join(missing)} missing; copy again")


def tensor_shape(path: Path, name: str) -> list[int]:
    """Return the shape of a tensor in a safetensors file.

    Raises:
        ModelLoadError: there is no such file, or no such tensor in it.
    """
    try:
        header = _read_header(path)
    except FileNotFoundError:
        raise ModelLoadError(f"{path} is missing; copy the model again") from None
    if name not in header:
        raise ModelLoadError(f"{path} has no tensor {name!r}, but {sorted(header)}")
    shape: list[int] = header[name]["shape"]
    return shape


def sample_tensors(path: Path, size: int = 2048) -> list[bytes]:
    """Return name, type, shape, and the start, middle and end of each tensor of a file."""
    samples = []
    with path.open("rb") as file:
        header, start = _open_header(file, path)
        for name, tensor in header.items():
            begin, end = tensor["data_offsets"]
            parts = [name.encode(), tensor["dtype"].encode(), repr(tensor["shape"]).encode()]
            for offset in (begin, (begin + end) // 2, max(begin, end - size)):
                file.seek(start + offset)
                parts.append(file.read(min(size, end - offset)))
            samples.append(b"\0".join(parts))
    return samples


def _read_header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return _open_header(file, path)[0]


def _open_header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    """Return the JSON header of a safetensors file and where its data begins."""
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    except (struct.error, ValueError, MemoryError, OverflowError) as error:
        raise ModelLoadError(
            f"{path} is not a safetensors file ({error}); copy it again"
        ) from error
    header.pop("__metadata__", None)
    expected = 8 + length + max((t["data_offsets"][1] for t in header.values()), default=0)
    if (size := path.stat().st_size) != expected:
        raise ModelLoadError(
            f"{path} has {size} bytes instead of {expected}; download or copy it again"
        )
    return header, 8 + length
