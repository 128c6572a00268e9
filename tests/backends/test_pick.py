"""Tests of koe5_integrations.backends.pick: which engine runs a model."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exports import exported, tiny_koe5

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.hardware import Machine
from koe5_integrations.backends.pick import EngineChoice, pick
from koe5_integrations.errors import ConfigError, MissingExtraError, ModelLoadError
from koe5_integrations.exports import Engine, default_exports_folder

for name in ("sentence_transformers", "onnx", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(name)

ALL = frozenset({"torch", "onnx", "openvino"})
NEW = Machine(int8=True, bf16=True, installed=ALL)
OLD = Machine(int8=False, bf16=False, installed=ALL)
GPU = replace(NEW, gpu="cuda")
NO_TORCH = replace(NEW, installed=ALL - {"torch"})


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the exports that encoders find by themselves."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return default_exports_folder()


def keep(kept: Path, *exports: str) -> None:
    """Put exports of the small model where they are found: ``onnx``, ``openvino-int8``, …."""
    for each in exports:
        engine, _, int8 = each.partition("-")
        source = exported(engine, int8=bool(int8))  # type: ignore[arg-type]  # names an engine
        digest = ModelFolder.read(tiny_koe5()).digest
        shutil.copytree(source, kept / f"{digest}-{engine}-{int8 or 'fp32'}")


def choose(folder: Path | None = None, machine: Machine = NEW, **options: Any) -> EngineChoice:
    asked = {"backend": "auto", "device": None, "precision": None} | options
    return pick(ModelFolder.read(folder or tiny_koe5()), machine=machine, **asked)


@pytest.mark.parametrize(
    ("machine", "precision", "exports", "expected"),
    [
        (NEW, None, (), ("torch", "fp32")),
        (NEW, None, ("onnx", "openvino"), ("openvino", "fp32")),
        (OLD, None, ("onnx", "openvino"), ("openvino", "fp32")),
        (NEW, None, ("onnx", "openvino-int8"), ("onnx", "fp32")),
        (NEW, "fp32", ("onnx-int8",), ("torch", "fp32")),
        (replace(NEW, installed=ALL - {"openvino"}), None, ("onnx", "openvino"), ("onnx", "fp32")),
        (NEW, "int8", ("onnx-int8", "openvino-int8"), ("openvino", "int8")),
        (OLD, "int8", ("onnx-int8", "openvino-int8"), ("onnx", "int8")),
        (OLD, "int8", ("openvino-int8",), ("openvino", "int8")),
        (NEW, "int8", ("onnx", "openvino"), ("torch", "int8")),
        (NEW, "bf16", ("onnx", "openvino"), ("openvino", "bf16")),
        (OLD, "bf16", ("onnx", "openvino"), ("torch", "bf16")),
        (NEW, "fp16", ("onnx", "openvino"), ("torch", "fp16")),
        (NO_TORCH, None, ("onnx",), ("onnx", "fp32")),
    ],
)
def test_auto_takes_the_fastest_at_hand_on_the_cpu(
    kept: Path,
    machine: Machine,
    precision: str | None,
    exports: tuple[str, ...],
    expected: tuple[str, str],
) -> None:
    """The order is OpenVINO, onnxruntime, torch, but for int8 and bf16 on older processors."""
    keep(kept, *exports)
    choice = choose(machine=machine, precision=precision)
    assert (choice.backend, choice.precision, choice.device) == (*expected, "cpu")
    assert (choice.graph is None) == (choice.backend == "torch")
    assert choice.graph is None or kept in choice.graph.parents


def test_auto_takes_torch_where_there_is_a_gpu(kept: Path) -> None:
    """A GPU goes before exports; int8, and a CPU that was asked for, do not run on it."""
    keep(kept, "onnx", "onnx-int8")
    assert choose(machine=GPU) == EngineChoice("torch", "fp32", "cuda")
    assert choose(machine=GPU, precision="bf16") == EngineChoice("torch", "bf16", "cuda")
    assert choose(machine=GPU, backend="torch").device == "cuda"
    assert choose(machine=GPU, backend="torch", precision="int8").device == "cpu"
    assert choose(machine=GPU, precision="int8").backend == "onnx"
    assert choose(machine=GPU, device="cpu").backend == "onnx"


@pytest.mark.parametrize(
    "options", [{"device": "cuda:1"}, {"device": "cpu, cpu"}, {"device": "mps"}, {"compile": True}]
)
def test_auto_takes_torch_for_what_only_torch_does(kept: Path, options: dict[str, Any]) -> None:
    """A GPU, several devices and torch.compile mean torch, and without it say what to install."""
    keep(kept, "onnx", "openvino")
    choice = choose(**options)
    assert choice.backend == "torch"
    assert choice.devices == [part.strip() for part in options.get("device", "cpu").split(",")]
    with pytest.raises(MissingExtraError, match=next(iter(options))) as caught:
        choose(machine=NO_TORCH, **options)
    assert caught.value.extra == "torch"


def test_without_torch_and_export_both_ways_on_are_named() -> None:
    """Nothing that could run is one error, with the line that exports and the one that installs."""
    with pytest.raises(MissingExtraError, match=r"`koe5 export .* --to onnx`") as caught:
        choose(machine=NO_TORCH)
    assert caught.value.extra == "torch"
    with pytest.raises(MissingExtraError, match=r"`koe5 export .* --to onnx --int8`"):
        choose(machine=NO_TORCH, precision="int8")


def test_an_export_whose_runtime_is_missing_is_mentioned(kept: Path) -> None:
    """An export whose runtime is missing is said, and needed where torch is not there."""
    keep(kept, "openvino")
    without = replace(NEW, installed=frozenset({"torch", "onnx"}))
    assert "OpenVINO, for which there is an export, is not installed" in choose(machine=without).why
    with pytest.raises(MissingExtraError) as caught:
        choose(machine=replace(without, installed=frozenset({"onnx"})))
    assert caught.value.extra == "openvino"


def test_a_forked_process_leaves_openvino_alone(kept: Path) -> None:
    """Its threads are lost: fp32 goes on with another engine, int8 would be other vectors."""
    forked = replace(NEW, lost_by_fork=frozenset({"openvino"}))
    keep(kept, "openvino", "openvino-int8")
    choice = choose(machine=forked)
    assert choice.backend == "torch"
    assert "does not survive a fork" in choice.why
    for options in ({"precision": "int8"}, {"backend": "openvino"}):
        with pytest.raises(ConfigError, match="'spawn' or 'forkserver'"):
            choose(machine=forked, **options)
    with pytest.raises(ConfigError, match="'spawn' or 'forkserver'"):
        choose(machine=replace(forked, installed=frozenset({"openvino"})))
    keep(kept, "onnx")
    assert choose(machine=forked).backend == "onnx"


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_backend_that_was_asked_for_is_taken_or_says_what_it_needs(
    kept: Path, engine: Engine
) -> None:
    """No other engine is put in its place; without an export the line that makes it is given."""
    with pytest.raises(ModelLoadError, match=rf"`koe5 export 'my model' --to {engine}`"):
        choose(backend=engine, name="my model")
    with pytest.raises(ModelLoadError, match=rf"`koe5 export KoE5 --to {engine} --int8`"):
        choose(backend=engine, precision="int8", name="KoE5")
    keep(kept, engine, f"{engine}-int8")
    assert choose(backend=engine, machine=GPU).backend == engine
    assert choose(backend=engine, precision="int8", machine=OLD).backend == engine
    with pytest.raises(MissingExtraError) as caught:
        choose(backend=engine, machine=replace(NEW, installed=ALL - {engine}))
    assert caught.value.extra == engine
    assert choose(backend="torch").backend == "torch"
    with pytest.raises(MissingExtraError, match="backend='torch'"):
        choose(backend="torch", machine=NO_TORCH)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "onnx", "precision": "fp16"}, "onnxruntime runs fp32, int8 here; .*torch"),
        ({"backend": "onnx", "precision": "bf16"}, "onnxruntime runs fp32, int8 here"),
        ({"backend": "openvino", "precision": "fp16"}, "OpenVINO runs fp32, bf16, int8 here"),
        ({"backend": "openvino", "precision": "bf16", "machine": OLD}, "no instructions for it"),
        ({"backend": "openvino", "device": "cuda"}, "device='cuda'.*one CPU.*backend='torch'"),
        ({"backend": "onnx", "device": "cpu,cpu"}, "device='cpu,cpu'.*one CPU"),
        ({"device": "cuda", "precision": "int8"}, "int8 runs on CPUs; on a GPU bf16 and fp16"),
        ({"backend": "torch", "device": "cpu,cuda", "precision": "int8"}, "int8 runs on CPUs"),
        ({"backend": "onnx", "compile": True}, "compile=True, backend='onnx'"),
        ({"backend": "static"}, "a transformer model: use backend='torch'"),
        ({"device": "cuda:0,"}, "device='cuda:0,' names no device"),
        ({"device": ""}, "device='' names no device"),
    ],
)
def test_what_cannot_be_is_refused_before_loading(options: dict[str, Any], message: str) -> None:
    """Engines, devices and precisions that don't go together say so, with a remedy."""
    with pytest.raises(ConfigError, match=message):
        choose(**options)


def test_a_static_model_runs_in_numpy(static_model: Path) -> None:
    """A static model has one engine, and nothing to compile."""
    assert choose(static_model) == EngineChoice("static", "fp32", "cpu")
    assert choose(static_model, machine=GPU, backend="static").backend == "static"
    for options in ({"compile": True}, {"backend": "onnx"}, {"device": "cpu,cpu"}):
        with pytest.raises(ConfigError):
            choose(static_model, **options)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("int8", [False, True])
def test_an_export_opened_by_path_runs_as_it_was_made(engine: Engine, int8: bool) -> None:
    """The folder decides engine and precision, whatever else the machine has."""
    folder = exported(engine, int8=int8)
    choice = choose(folder, machine=replace(GPU, int8=False))
    assert (choice.backend, choice.precision) == (engine, "int8" if int8 else "fp32")
    assert choice.graph is not None
    assert choice.graph.is_relative_to(folder)
    assert choose(folder, backend=engine, precision=choice.precision) == choice
    other = "fp32" if int8 else "int8"
    for options in ({"precision": other}, {"backend": "torch"}, {"compile": True}):
        with pytest.raises(ConfigError, match=f"holds a graph for .* in {choice.precision} and"):
            choose(folder, **options)
    with pytest.raises(MissingExtraError) as caught:
        choose(folder, machine=replace(NEW, installed=frozenset({"torch"})))
    assert caught.value.extra == engine


def test_an_openvino_export_may_run_in_bf16() -> None:
    """bf16 needs no graph of its own."""
    assert choose(exported("openvino"), precision="bf16").precision == "bf16"
    with pytest.raises(ConfigError, match="holds a graph for OpenVINO in int8"):
        choose(exported("openvino", int8=True), precision="bf16")


def test_an_export_beside_the_weights_is_used_while_they_are_the_same(tmp_path: Path) -> None:
    """An export in the model's own folder counts until the model is trained further."""
    model = Path(shutil.copytree(tiny_koe5(), tmp_path / "model"))
    shutil.copytree(exported("onnx"), model, dirs_exist_ok=True)
    assert choose(model).graph == model / "onnx/model.onnx"
    tokenizer = model / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("헌법", "헌벌"))
    assert choose(model).backend == "torch"
    with pytest.raises(ModelLoadError, match="made from other weights than lie beside it"):
        choose(model, backend="onnx")


def test_another_models_export_is_not_used(kept: Path, xlm_roberta: Path) -> None:
    """Exports are found by the digest of the weights."""
    keep(kept, "onnx")
    other = ModelFolder.read(tiny_koe5()).digest
    renamed = next(kept.iterdir())
    renamed.rename(kept / renamed.name.replace(other, "0" * 32))
    assert choose().backend == "torch"


def test_the_encoder_says_what_runs_and_logs_it(
    kept: Path, caplog: pytest.LogCaptureFixture, fresh_models: None
) -> None:
    """``engine`` tells before anything is loaded, and loading writes it into the log."""
    keep(kept, "onnx")
    encoder = KoE5Encoder(tiny_koe5(), backend="onnx")
    with caplog.at_level(logging.INFO, logger="koe5_integrations"):
        choice = encoder.engine
        assert not caplog.records
        encoder.encode_queries(["가"])
        encoder.encode_queries(["나"])
    assert (choice.backend, choice.precision, choice.device) == ("onnx", "fp32", "cpu")
    assert encoder.engine == choice
    (record,) = (record for record in caplog.records if record.name == "koe5_integrations")
    assert record.message == f"{tiny_koe5()}: fp32 on cpu by onnxruntime: asked for"


def test_encoders_that_come_to_the_same_engine_share_the_model(
    kept: Path, fresh_models: None
) -> None:
    """Asking for what auto would take anyway loads nothing twice."""
    asked = KoE5Encoder(tiny_koe5(), backend="torch", device="cpu", precision="fp32")
    auto = KoE5Encoder(tiny_koe5())
    assert auto._handle.worker() is asked._handle.worker()
    keep(kept, "onnx")
    # It stays with what it has loaded; a new encoder takes what has come since.
    assert auto.engine.backend == "torch"
    assert KoE5Encoder(tiny_koe5()).engine.backend == "onnx"


def test_several_devices_have_a_copy_of_the_model_each(fresh_models: None) -> None:
    """Two devices are two replicas behind one worker, and give the vectors of one."""
    import numpy as np

    texts = [f"텍스트 {i}" * (i % 7 + 1) for i in range(40)]
    two = KoE5Encoder(tiny_koe5(), device="cpu,cpu", batch_tokens=64)
    one = KoE5Encoder(tiny_koe5(), device="cpu")
    np.testing.assert_allclose(two.encode_passages(texts), one.encode_passages(texts), atol=1e-5)
    assert two.engine.devices == ["cpu", "cpu"]
    assert two.fingerprint == one.fingerprint
