"""Which configurations there are, and which can run."""

from __future__ import annotations

from pathlib import Path

import pytest
from exports import exported

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.bench.configurations import Configuration, runnable, weight_bytes
from koe5_integrations.errors import ConfigError


def test_specs_name_backend_and_precision() -> None:
    """A bare backend is in fp32; a static model's precision is not worth a word."""
    assert Configuration.parse("torch") == Configuration("torch", "fp32")
    assert Configuration.parse("onnx:int8").name == "onnx int8"
    assert Configuration.parse("static").name == "static"


@pytest.mark.parametrize(
    ("spec", "named"), [("jax", "'jax'"), ("torch:int4", "'int4'"), ("", "''")]
)
def test_a_wrong_spec_names_the_right_ones(spec: str, named: str) -> None:
    """A mistyped backend or precision is refused with what there is."""
    with pytest.raises(ConfigError, match=named) as refused:
        Configuration.parse(spec)
    assert "torch:bf16 or onnx:int8" in str(refused.value)


def test_a_static_model_runs_in_one_way(static_model: Path) -> None:
    """There is nothing to choose for a table of vectors."""
    assert runnable(ModelFolder.read(static_model), None) == [Configuration("static")]


def test_a_transformer_runs_in_torch(xlm_roberta: Path) -> None:
    """fp32 comes first, fp16 is for GPUs, and engines without an export are left out."""
    found = runnable(ModelFolder.read(xlm_roberta), "cpu")
    assert found[0] == Configuration("torch")
    assert Configuration("torch", "int8") in found
    assert Configuration("torch", "fp16") not in found
    assert {each.backend for each in found} == {"torch"}


def test_an_export_runs_on_its_engine() -> None:
    """A folder written by ``koe5 export`` runs as what it is."""
    pytest.importorskip("onnxruntime")
    folder = ModelFolder.read(exported("onnx"))
    assert runnable(folder, None) == [Configuration("onnx")]


def test_weights_are_what_is_loaded(static_model: Path) -> None:
    """The size that memory is checked against is that of the files, and nothing if it can't run."""
    folder = ModelFolder.read(static_model)
    expected = (static_model / "model.safetensors").stat().st_size
    assert weight_bytes(folder, None, Configuration("static")) == expected
    assert weight_bytes(folder, None, Configuration("onnx")) == 0


def test_weights_of_a_graph_are_the_graphs() -> None:
    """An exported graph is measured with the data beside it."""
    pytest.importorskip("onnxruntime")
    at = exported("onnx")
    written = sum(file.stat().st_size for file in (at / "onnx").iterdir())
    assert weight_bytes(ModelFolder.read(at), None, Configuration("onnx")) == written
