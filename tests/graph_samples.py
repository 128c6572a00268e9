"""What the tests of exported graphs embed, in which ways, and what should come of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from exports import tiny_koe5

from koe5_integrations.backends import Backend, Tokens
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.exports import Engine

ENGINES: tuple[Engine, ...] = ("onnx", "openvino")
TEXTS = [
    "파이썬 문자열이 불변인 이유는 무엇입니까?",
    "헌법",
    "서울의 겨울은 춥고 건조하며 여름은 덥고 습하다. " * 20,
    "☃ 模型 unknown characters",
    "a",
    "헌법",
]


def backend(
    engine: Engine,
    model: Path,
    graph: Path | None = None,
    *,
    precision: str = "fp32",
    **options: Any,
) -> Backend:
    """Load a graph without an encoder around it."""
    folder = ModelFolder.read(model)
    if graph is None:
        graph = folder.find_graph(engine, "int8" if precision == "int8" else "fp32", unproven=True)
    assert graph is not None
    if engine == "onnx":
        from koe5_integrations.backends.onnx import OnnxBackend

        return OnnxBackend(folder, graph, **{"max_seq_length": 64, "pooling": None, **options})
    from koe5_integrations.backends.openvino import OpenVinoBackend

    return OpenVinoBackend(
        folder, graph, precision=precision, **{"max_seq_length": 64, "pooling": None, **options}
    )


def random_tokens(lengths: Sequence[int]) -> list[Tokens]:
    """Tokens that no tokenizer made, of these lengths."""
    rng = np.random.default_rng(0)
    return [Tokens(rng.integers(4, 200, n).astype(np.int32), n) for n in lengths]


@cache
def reference_model() -> Any:
    """sentence-transformers in fp32."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(tiny_koe5()), device="cpu")


@cache
def expected_vectors() -> Any:
    """The vectors of TEXTS as questions, each embedded on its own."""
    reference = reference_model()
    return np.concatenate([reference.encode([f"query: {text}"], prompt="") for text in TEXTS])
