"""Exported models: a graph that runs without torch, in a folder that says what it was made from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from koe5_integrations.errors import ModelLoadError

__all__ = [
    "MANIFEST",
    "Engine",
    "Export",
    "ExportPrecision",
    "default_exports_folder",
    "graph_path",
]

Engine: TypeAlias = Literal["onnx", "openvino"]
ExportPrecision: TypeAlias = Literal["fp32", "int8"]

MANIFEST = "koe5_export.json"
_FORMAT = 1


@dataclass(frozen=True)
class Export:
    """What ``koe5_export.json`` says of the folder it lies in.

    The folder also holds the configuration and tokenizer of the model, in sentence-transformers'
    layout, so that it can be opened by its path like any model.

    Attributes:
        engine: what runs the graph.
        precision: number format of its weights.
        graph: the file to load, relative to the folder.
        sizes: bytes of each file of the graph, by relative path.
        weights: digest of the model it was made from: its fingerprint's ``weights``.
        model: name or folder of that model.
        query_prompt: what it puts in front of a question.
        passage_prompt: what it puts in front of a text to be found.
        normalize: its vectors have unit length.
        fidelity: what its vectors lost, as measured when it was made.
        versions: of the libraries that made it.
    """

    engine: Engine
    precision: ExportPrecision
    graph: str
    sizes: dict[str, int]
    weights: str
    model: str
    query_prompt: str
    passage_prompt: str
    normalize: bool
    fidelity: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Export | None:
        """Return what a folder says of itself; None if it holds no export.

        Raises:
            ModelLoadError: the manifest can't be read, or a file it names is missing or cut short.
        """
        path = folder / MANIFEST
        if not path.is_file():
            return None
        try:
            stored: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if stored["format"] != _FORMAT:
                raise ModelLoadError(
                    f"{path} has format {stored['format']}, this version reads {_FORMAT}: export "
                    "the model again"
                )
            export = cls(**{name: value for name, value in stored.items() if name != "format"})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelLoadError(f"{path} can't be read ({error}): export the model again") from (
                error
            )
        for name, size in export.sizes.items():
            file = folder / name
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                state = "is missing" if found is None else f"has {found} bytes instead of {size}"
                raise ModelLoadError(f"{file} {state}: export the model again, or copy it again")
        return export

    def write(self, folder: Path) -> None:
        """Write ``koe5_export.json``, the last file of an export to be written."""
        content = {"format": _FORMAT, **asdict(self)}
        (folder / MANIFEST).write_text(
            json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
        )


def graph_path(engine: Engine, precision: ExportPrecision) -> str:
    """Return where in its folder a graph lies; where sentence-transformers looks for it too."""
    suffix = "_int8" if precision == "int8" else ""
    if engine == "onnx":
        return f"onnx/model{suffix}.onnx"
    return f"openvino/openvino_model{suffix}.xml"


def default_exports_folder() -> Path:
    """Return ``koe5/exports`` under ``$XDG_CACHE_HOME``, or else under ``~/.cache``.

    An export of a model lies there as ``WEIGHTS-ENGINE-PRECISION``, where encoders find it by the
    digest of their model's weights.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "koe5/exports"
