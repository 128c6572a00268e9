"""Who is compared, what each needs installed, and the model files each reads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[3]
WORKER = Path(__file__).with_name("worker.py")
_CONSTRAINTS = REPOSITORY / "tests" / "constraints.txt"

# One environment for all whose pins agree, so that they run on the same torch and onnxruntime.
TOGETHER = "together"
ENVIRONMENTS = {
    TOGETHER: [
        "-e",
        f"{REPOSITORY}[torch,export,onnx,openvino,langchain,llama-index,chroma]",
        "langchain-huggingface",
        "llama-index-embeddings-huggingface",
        "fastembed",
    ],
    # optimum-onnx wants an older transformers, and pip then picks an older sentence-transformers.
    "onnx": ["sentence-transformers[onnx]", "transformers<4.58"],
    "openvino": ["sentence-transformers[openvino]"],
}
# Comes in with openvino's, is not needed, and its build for CUDA breaks importing transformers.
_REMOVED = "torchvision"


class Unavailable(Exception):
    """A row that can't be measured here, and why."""


@dataclass(frozen=True)
class Row:
    """One peer as it is measured.

    Attributes:
        name: how the table calls it.
        adapter: class of ``worker.py``.
        environment: of ``ENVIRONMENTS``.
        files: the model as it reads it: ``model``, or an export: ``MAKER-KIND``.
        options: for the adapter.
        grows: GB it keeps beyond its weights once it has embedded passages (onnxruntime does).
    """

    name: str
    adapter: str
    environment: str = TOGETHER
    files: str = "model"
    options: Mapping[str, Any] = field(default_factory=dict)
    grows: float = 0.5


def _ours(name: str, files: str, **options: str) -> Row:
    return Row(f"koe5_integrations {name}", "KoE5", files=files, options=options)


REFERENCE = Row("LangChain HuggingFaceEmbeddings", "LangChain")
ROWS = [
    REFERENCE,
    Row("LlamaIndex HuggingFaceEmbedding", "LlamaIndex"),
    Row("Chroma SentenceTransformerEmbeddingFunction", "Chroma"),
    Row(
        "fastembed",
        "FastEmbed",
        files="onnx-fp32",
        options={"file": "onnx/model.onnx"},
        grows=4.5,
    ),
    Row(
        "sentence-transformers, one text at a time",
        "SentenceTransformers",
        options={"one_by_one": True},
    ),
    Row("sentence-transformers", "SentenceTransformers"),
    *(
        Row(
            f"sentence-transformers[{engine}]",
            "SentenceTransformers",
            environment=engine,
            files=f"st-{engine}",
            options={"backend": engine},
            grows=3,
        )
        for engine in ("onnx", "openvino")
    ),
    _ours("torch fp32", "model", backend="torch"),
    _ours("onnx fp32", "onnx-fp32", backend="onnx"),
    _ours("openvino fp32", "openvino-fp32", backend="openvino"),
    _ours("openvino bf16", "openvino-fp32", backend="openvino", precision="bf16"),
    _ours("torch int8", "model", backend="torch", precision="int8"),
    _ours("onnx int8", "onnx-int8", backend="onnx", precision="int8"),
    _ours("openvino int8", "openvino-int8", backend="openvino", precision="int8"),
]

_ST_EXPORT = """
from sentence_transformers import SentenceTransformer
SentenceTransformer({model!r}, backend={engine!r}).save_pretrained({target!r})
"""


class Store:
    """Environments and model files, made once and kept under a folder.

    Args:
        folder: where they are kept.
        layers: of the model.
    """

    def __init__(self, folder: Path, layers: int) -> None:
        self._environments = folder
        self._models = folder / f"models-{layers}"
        self._layers = layers
        self._failed: dict[Path, str] = {}

    def python(self, environment: str) -> Path:
        """Return the Python of an environment, made now if it is not there.

        Raises:
            Unavailable: pip can't install it; says why in pip's words.
        """
        folder = self._environments / environment
        python = folder / "bin" / "python"
        pip = [str(python), "-m", "pip"]
        install = ["install", "-q", "-c", str(_CONSTRAINTS), *ENVIRONMENTS[environment]]
        self._once(
            folder,
            [
                [sys.executable, "-m", "venv", str(folder)],
                [*pip, *install],
                [*pip, "uninstall", "-q", "-y", _REMOVED],
            ],
        )
        return python

    def files(self, name: str) -> Path:
        """Return a folder of model files, made now if it is not there.

        Raises:
            Unavailable: they can't be made; says why.
        """
        target = self._models / name
        target.parent.mkdir(exist_ok=True)
        if name == "model":
            layers = ["--layers", str(self._layers)]
            script = str(WORKER.parents[1] / "true_shape.py")
            self._once(
                target, [[str(self.python(TOGETHER)), script, "--output", str(target), *layers]]
            )
            return target
        model = str(self.files("model"))
        maker, kind = name.split("-")
        if maker == "st":
            code = _ST_EXPORT.format(model=model, engine=kind, target=str(target))
            command = [str(self.python(kind)), "-c", code]
        else:
            # What random weights lose is of no interest, and measuring it would take minutes.
            command = [
                *(str(self.python(TOGETHER)), "-m", "koe5_integrations", "export", model),
                *("--to", maker, "--output", str(target), "--sample", "1", "--keep-anyway"),
                *(["--int8"] if kind == "int8" else []),
            ]
        self._once(target, [command])
        return target

    def _once(self, folder: Path, commands: list[list[str]]) -> None:
        """Run commands that fill a folder, unless they once have."""
        done = folder.with_name(folder.name + ".done")
        if done.is_file():
            return
        if folder not in self._failed:
            sys.stderr.write(f"making {folder}\n")
            for command in commands:
                run = subprocess.run(command, capture_output=True, text=True, check=False)
                if run.returncode:
                    said = [line for line in run.stderr.splitlines() if line.strip()]
                    errors = [line for line in said if line.startswith("ERROR")]
                    self._failed[folder] = (errors or said or ["no reason given"])[-1][:300]
                    break
            else:
                done.touch()
                return
        raise Unavailable(f"{folder.name} can't be made: {self._failed[folder]}")
