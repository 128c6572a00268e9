"""Tests of koe5_integrations.exporting.graph and write: the graph computes what the model does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from exports import PLAIN, exported, tiny_bert, tiny_koe5
from hypothesis import given, settings
from hypothesis import strategies as st

from koe5_integrations.exports import Engine, Export
from koe5_integrations.profiles import DEFAULT_MODEL, PROFILES

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")
sentence_transformers = pytest.importorskip("sentence_transformers")

Ids = npt.NDArray[np.int64]
Outputs = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
Forward = Callable[[Ids, Ids], Outputs]

PAD = 1
CLS_PROFILE = PROFILES["nlpai-lab/KURE-v1"]


def bare(model: Path) -> Path:
    """The plain transformers folder that a tiny model was made from."""
    return model.with_name(f"{model.name}-base")


# What is exported, how its profile pools a bare folder, and the longest text it reads.
CASES = {
    "xlm-roberta, mean": (tiny_koe5, PROFILES[DEFAULT_MODEL], 64),
    "bert, cls, dense": (tiny_bert, PLAIN, 48),
    "bare bert, cls": (lambda: bare(tiny_bert()), CLS_PROFILE, 48),
}
ENGINES: tuple[Engine, ...] = ("onnx", "openvino")


@cache
def by_torch(case: str) -> Forward:
    """The model by sentence-transformers in fp32, without its normalisation."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    make, profile, _ = CASES[case]
    folder = make()
    if (folder / "modules.json").is_file():
        model = SentenceTransformer(str(folder), device="cpu")
    else:
        pooling = Pooling(32, pooling_mode=profile.pooling)
        model = SentenceTransformer(modules=[Transformer(str(folder)), pooling], device="cpu")
    model.eval()
    modules = [module for module in model if type(module).__name__ != "Normalize"]

    def forward(ids: Ids, mask: Ids) -> Outputs:
        features: Any = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
        }
        with torch.inference_mode():
            for module in modules:
                features = module(features)
        return features["token_embeddings"].numpy(), features["sentence_embedding"].numpy()

    return forward


@cache
def by_engine(case: str, engine: Engine, int8: bool = False) -> Forward:
    """The model's export by its runtime alone, as anyone would open it."""
    make, profile, _ = CASES[case]
    folder = exported(engine, int8=int8, model=make(), profile=profile)
    export = Export.read(folder)
    assert export is not None
    names = ["token_embeddings", "sentence_embedding"]
    if engine == "onnx":
        session = onnxruntime.InferenceSession(folder / export.graph)
        return lambda ids, mask: tuple(
            session.run(names, {"input_ids": ids, "attention_mask": mask})
        )
    compiled = openvino.Core().compile_model(
        folder / export.graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )

    def forward(ids: Ids, mask: Ids) -> Outputs:
        found = compiled({"input_ids": ids, "attention_mask": mask})
        return found[names[0]], found[names[1]]

    return forward


def batch_of(lengths: list[int], seed: int) -> tuple[Ids, Ids]:
    """Random tokens of these lengths, padded at the end."""
    ids = np.full((len(lengths), max(lengths)), PAD, dtype=np.int64)
    mask = np.zeros_like(ids)
    chance = np.random.default_rng(seed)
    for row, length in enumerate(lengths):
        ids[row, :length] = chance.integers(5, 200, length)
        mask[row, :length] = 1
    return ids, mask


@pytest.mark.parametrize(
    ("case", "engine"),
    [
        ("xlm-roberta, mean", "onnx"),
        ("xlm-roberta, mean", "openvino"),
        ("bert, cls, dense", "onnx"),
        ("bert, cls, dense", "openvino"),
        ("bare bert, cls", "onnx"),
    ],
)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_graph_gives_what_the_model_gives(case: str, engine: Engine, data: st.DataObject) -> None:
    """Whatever the batch and its lengths, both outputs equal sentence-transformers' to 1e-5."""
    longest = CASES[case][2]
    length = st.integers(1, longest) | st.sampled_from([1, 2, longest])
    lengths = data.draw(st.lists(length, min_size=1, max_size=6))
    ids, mask = batch_of(lengths, data.draw(st.integers(0, 2**16)))
    tokens, sentences = by_torch(case)(ids, mask)
    found_tokens, found_sentences = by_engine(case, engine)(ids, mask)
    assert found_sentences.dtype == np.float32
    np.testing.assert_allclose(found_sentences, sentences, atol=1e-5)
    real = mask.astype(bool)
    np.testing.assert_allclose(found_tokens[real], tokens[real], atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_int8_stays_near(engine: Engine) -> None:
    """With weights in 8 bits vectors keep their direction, and are not those of fp32."""
    case = "xlm-roberta, mean"
    for lengths in ([1], [2, 1], [64, 3, 17], [30] * 8):
        ids, mask = batch_of(lengths, seed=len(lengths))
        expected = by_torch(case)(ids, mask)[1]
        got = by_engine(case, engine, int8=True)(ids, mask)[1]
        norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(got, axis=1)
        assert ((expected * got).sum(axis=1) / norms).min() > 0.9995
        assert np.abs(expected - got).max() > 1e-5


def test_int8_weights_of_onnx_keep_to_seven_bits() -> None:
    """No weight reaches what overflows on processors that add products in 16 bits."""
    folder = exported("onnx", int8=True)
    graph = onnx.load(folder / "onnx/model_int8.onnx").graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulInteger"]
    assert len(products) == 12  # six to each layer
    for node in products:
        weights = stored[node.input[1]]
        assert weights.dtype == np.int8
        assert np.abs(weights).max() == 63
    assert not any(
        array.dtype == np.float32 and array.ndim == 2 and array.size > 66 * 32
        for array in stored.values()
    )


def test_int8_weights_of_openvino_are_stored_so() -> None:
    """The files hold the weights as integers, not as what they were restored to."""
    model = openvino.Core().read_model(
        exported("openvino", int8=True) / "openvino/openvino_model_int8.xml"
    )
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    kinds = {"i8": 0, "f32": 0}
    for constant in constants:
        kind = constant.get_element_type().get_type_name()
        if kind in kinds and len(constant.get_output_shape(0)) == 2:
            kinds[kind] += int(np.prod(constant.get_output_shape(0)))
    products = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert kinds["i8"] == products + 300 * 32


def test_the_head_is_not_quantized() -> None:
    """A Dense module works on one vector per text: eight bits would cost much and gain nothing."""
    from koe5_integrations.backends.folder import ModelFolder
    from koe5_integrations.backends.torch_load import load_sentence_transformer
    from koe5_integrations.exporting.graph import build_graph
    from koe5_integrations.exporting.quantize import quantize

    model = load_sentence_transformer(ModelFolder.read(tiny_bert()), device="cpu", pooling=None)
    graph = build_graph(model)
    quantize(graph, "onnx")
    kinds = [node.op_type for node in graph.graph]
    assert kinds.count("MatMulInteger") == 12
    assert kinds.count("Gemm") + kinds.count("MatMul") == 1


def test_nothing_of_this_machine_is_in_a_graph() -> None:
    """The exporter's stack traces, with paths of the machine it ran on, are left out."""
    for engine in ENGINES:
        folder = exported(engine)
        for file in folder.rglob("*"):
            if file.is_file() and file.name != "koe5_export.json":
                content = file.read_bytes()
                assert b"site-packages" not in content
                assert str(tiny_koe5().parent).encode() not in content
