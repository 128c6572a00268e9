"""The folder of an export: a graph, and the configuration and tokenizer of its model."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import MissingExtraError
from koe5_integrations.exports import Engine, Export, ExportPrecision, graph_path
from koe5_integrations.profiles import ModelProfile

try:
    import onnx_ir as ir
    import onnxscript  # noqa: F401 - torch's exporter needs it, and says so only in its midst
    import sentence_transformers  # noqa: F401 - is it there?
    import torch
except ImportError as error:
    raise MissingExtraError("exporting a model", "export") from error

from koe5_integrations.backends.torch_load import load_sentence_transformer
from koe5_integrations.exporting.graph import build_graph
from koe5_integrations.exporting.quantize import quantize

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["write_export"]

# Configuration, vocabulary and sentencepiece files; weights stay behind, for the graph has them.
_COPIED = ("*.json", "*.txt", "*.model")
_NOT_COPIED = "*.safetensors.index.json"
_MAKERS = ("koe5-integrations", "torch", "transformers", "sentence-transformers", "onnxscript")
_RUNTIME = {"onnx": "onnxruntime", "openvino": "openvino"}


def write_export(
    source: ModelFolder,
    target: Path,
    *,
    engine: Engine,
    precision: ExportPrecision,
    model: str,
    profile: ModelProfile,
) -> Export:
    """Write all of an export but its manifest, which is returned, into an empty folder.

    Args:
        source: the model's files, of kind ``transformer``.
        target: an existing folder.
        engine: what is to run the graph.
        precision: number format of its weights.
        model: what the manifest calls the model.
        profile: how it is used.

    Raises:
        ModelLoadError: transformers can't load the model.
        ExportError: torch's exporter can't follow the model's code.
        OSError: the disk is full, or the folder can't be written.
    """
    # In fp32 whatever the folder holds, on the CPU.
    loaded = load_sentence_transformer(
        source, device="cpu", pooling=profile.pooling, dtype=torch.float32
    )
    _write_configuration(source, loaded, target)
    graph = build_graph(loaded)
    del loaded
    if precision == "int8":
        quantize(graph, engine)
    path = target / graph_path(engine, precision)
    path.parent.mkdir()
    if engine == "onnx":
        ir.save(graph, path, external_data=f"{path.name}.data")
    else:
        _write_openvino(graph, path)
    return Export(
        engine=engine,
        precision=precision,
        graph=graph_path(engine, precision),
        sizes={
            file.relative_to(target).as_posix(): file.stat().st_size
            for file in sorted(path.parent.iterdir())
        },
        weights=source.digest,
        model=model,
        query_prompt=profile.query_prompt,
        passage_prompt=profile.passage_prompt,
        normalize=source.normalize or bool(profile.normalize),
        versions={name: version(name) for name in (*_MAKERS, _RUNTIME[engine])},
    )


def _write_openvino(graph: ir.Model, path: Path) -> None:
    import openvino

    passed_on = path.with_suffix(".onnx")
    ir.save(graph, passed_on, external_data=f"{passed_on.name}.data")
    # Not convert_model, which reports its use to OpenVINO's makers.
    openvino.save_model(openvino.Core().read_model(passed_on), path, compress_to_fp16=False)
    passed_on.unlink()
    passed_on.with_name(f"{passed_on.name}.data").unlink()


def _write_configuration(source: ModelFolder, loaded: SentenceTransformer, target: Path) -> None:
    """Copy what the model's folders say of it; say it of a bare one as it was loaded."""
    for folder in {source.path, *source.folders}:
        for file in (file for pattern in _COPIED for file in folder.glob(pattern)):
            if not file.match(_NOT_COPIED):
                copy = target / file.relative_to(source.path)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
    if not source.modules:
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
        rows = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ]
        (target / "modules.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
        (target / "1_Pooling").mkdir()
        pooling: Any = loaded[1]
        pooling.save(str(target / "1_Pooling"))
    tokenizer = target / source.folders[0].relative_to(source.path) / "tokenizer.json"
    if not tokenizer.is_file():
        loaded.tokenizer.backend_tokenizer.save(str(tokenizer))
