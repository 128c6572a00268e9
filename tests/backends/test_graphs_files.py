"""Tests of graphs on disk: damaged, written again, and written by other exporters."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import exported, tiny_koe5
from graph_samples import ENGINES, TEXTS, backend, expected_vectors, random_tokens
from new_process import run_python

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import ModelLoadError
from koe5_integrations.exports import Engine

for name in ("sentence_transformers", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(name)
onnx = pytest.importorskip("onnx")


INTERRUPTED = """
import gc, json, os, signal, sys, time
from koe5_integrations import KoE5Encoder, release_models

lengths = (16, 32)
encoders = [KoE5Encoder(sys.argv[1], backend=sys.argv[2], max_seq_length=n) for n in lengths]
for encoder in encoders:
    encoder.encode_queries(["파이썬"])
release_models()
del encoder, encoders
gc.collect()
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    print(json.dumps("interrupted"))
"""


@pytest.fixture(scope="module")
def expected() -> Any:
    """The vectors of TEXTS as questions, each embedded on its own."""
    return expected_vectors()


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Engine], Path]:
    """Copy an export, to be spoilt."""
    return lambda engine: Path(shutil.copytree(exported(engine), tmp_path / engine))


@pytest.mark.parametrize(
    ("engine", "file"),
    [
        ("onnx", "onnx/model.onnx"),
        ("openvino", "openvino/openvino_model.xml"),
    ],
)
@pytest.mark.parametrize("spoilt", ["garbage", "emptied in the middle"])
def test_a_damaged_graph_is_named(
    copied: Callable[[Engine], Path], engine: Engine, file: str, spoilt: str
) -> None:
    """Bytes that are no graph are a ModelLoadError with the file's path and a remedy."""
    path = copied(engine) / file
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        bytes(range(256)) * (len(content) // 256) + b"x" * (len(content) % 256)
        if spoilt == "garbage"
        else content[: middle - 2000] + bytes(4000) + content[middle + 2000 :]
    )
    with pytest.raises(ModelLoadError, match=r"can't be loaded.*`koe5 export` the model") as caught:
        KoE5Encoder(path.parents[1]).encode_queries(["가"])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("engine", "file"),
    [("onnx", "onnx/model.onnx.data"), ("openvino", "openvino/openvino_model.bin")],
)
def test_a_graph_cut_short_is_named_before_it_is_loaded(
    copied: Callable[[Engine], Path], engine: Engine, file: str
) -> None:
    """An interrupted copy of the weights is found by the manifest."""
    path = copied(engine) / file
    found = KoE5Encoder(path.parents[1])
    os.truncate(path, 1000)
    with pytest.raises(ModelLoadError, match="has 1000 bytes instead of") as caught:
        found.encode_queries(["가"])
    assert str(path) in str(caught.value)


def write_graph(folder: Path, model: onnx.ModelProto) -> Path:
    """Put a graph where the manifest, if there is one, names it, and correct the sizes there."""
    path = folder / "onnx" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    (path.parent / "model.onnx.data").unlink(missing_ok=True)
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data")
    manifest = folder / "koe5_export.json"
    if manifest.exists():
        content = json.loads(manifest.read_text())
        content["sizes"] = {f"onnx/{f.name}": f.stat().st_size for f in path.parent.iterdir()}
        manifest.write_text(json.dumps(content))
    return path


def test_a_graph_written_again_is_loaded_again(copied: Callable[[Engine], Path]) -> None:
    """Another graph at the same path is not answered by the one loaded before."""
    path = copied("onnx")
    before = KoE5Encoder(path).encode_queries(["헌법"])
    model = onnx.load(path / "onnx/model.onnx")
    bias = next(i for i in model.graph.initializer if i.name.endswith("LayerNorm.bias"))
    changed = onnx.numpy_helper.to_array(bias) + 1
    bias.CopyFrom(onnx.numpy_helper.from_array(changed, bias.name))
    write_graph(path, model)
    assert np.abs(KoE5Encoder(path).encode_queries(["헌법"]) - before).max() > 1e-3


# Graphs of other exporters


def foreign_graph(folder: Path, *, output: str, extra_input: str | None = None) -> Path:
    """Write a graph as other exporters do: token vectors only, under a name of their own."""
    model = onnx.load(exported("onnx") / "onnx/model.onnx")
    kept = next(o for o in model.graph.output if o.name == "token_embeddings")
    model.graph.node.append(onnx.helper.make_node("Identity", ["token_embeddings"], [output]))
    del model.graph.output[:]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [None, None, 32])
    )
    assert kept.name == "token_embeddings"
    if extra_input:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(extra_input, onnx.TensorProto.INT64, [None, None])
        )
    return write_graph(folder, model)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("extra_input", [None, "token_type_ids"])
def test_pools_a_graph_that_only_gives_token_vectors(
    engine: Engine, extra_input: str | None, tmp_path: Path, expected: Any
) -> None:
    """Graphs of other exporters, found in the model's own folder, are pooled as the model is."""
    model = Path(shutil.copytree(tiny_koe5(), tmp_path / "model"))
    graph = foreign_graph(model, output="last_hidden_state", extra_input=extra_input)
    loaded = backend(engine, model, graph)
    found = loaded.forward(loaded.tokenize([f"query: {text}" for text in TEXTS]))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_foreign_graph_is_used_only_if_asked_for(tmp_path: Path, expected: Any) -> None:
    """Nothing shows which weights such a graph was made from, so that auto leaves it alone."""
    model = Path(shutil.copytree(tiny_koe5(), tmp_path / "model"))
    foreign_graph(model, output="last_hidden_state")
    assert KoE5Encoder(model).engine.backend == "torch"
    asked = KoE5Encoder(model, backend="onnx", on_truncation="ignore")
    assert asked.engine.graph == model / "onnx/model.onnx"
    np.testing.assert_allclose(asked.encode_queries(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bare_folder_is_pooled_as_its_profile_says(engine: Engine) -> None:
    """Whatever pooling its graph has, a folder that says none is pooled by the profile's."""
    bare = tiny_koe5().with_name(f"{tiny_koe5().name}-base")
    graph = ModelFolder.read(exported(engine)).find_graph(engine, "fp32")
    batch = random_tokens([5, 9])
    by = {pooling: backend(engine, bare, graph, pooling=pooling) for pooling in ("mean", "cls")}
    own = backend(engine, exported(engine)).forward(batch)
    np.testing.assert_allclose(by["mean"].forward(batch), own, atol=1e-6)
    assert np.abs(by["cls"].forward(batch) - own).max() > 0.1


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupt_after_models_were_released_is_no_crash(engine: Engine) -> None:
    """OpenVINO leaves a signal stack behind that is freed with the model."""
    assert run_python(INTERRUPTED, str(exported(engine)), engine) == "interrupted"


@pytest.mark.parametrize(
    ("output", "extra_input", "pooling", "expected_message"),
    [
        ("logits", None, "mean", r"has the outputs \['logits'\].*`koe5 export` writes one"),
        ("last_hidden_state", "pixel_values", "mean", r"wants \['pixel_values'\] as input"),
        ("last_hidden_state", None, "max", "pooling by 'max' would be left out"),
    ],
)
def test_refuses_a_graph_it_cannot_use(
    tmp_path: Path, output: str, extra_input: str | None, pooling: str, expected_message: str
) -> None:
    """Other models' graphs, and pooling that is only done within a graph, are refused."""
    graph = foreign_graph(tmp_path, output=output, extra_input=extra_input)
    bare = tiny_koe5().with_name(f"{tiny_koe5().name}-base")
    for engine in ENGINES:
        with pytest.raises(ModelLoadError, match=expected_message) as caught:
            backend(engine, bare, graph, pooling=pooling)
        assert str(graph) in str(caught.value)
