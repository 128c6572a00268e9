"""Tests of koe5_integrations.exporting.export: from a model's name to a proven folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import PLAIN, exported, tiny_bert, tiny_koe5
from tiny_models import KOREAN

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import (
    ConfigError,
    ExportError,
    MissingExtraError,
    ModelLoadError,
    UnknownModelError,
)
from koe5_integrations.exporting import Fidelity, export_model
from koe5_integrations.exports import Engine, Export

for needed in ("torch", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(needed)

TEXTS = KOREAN[:5]


def in_new_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code elsewhere."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])} | environment,
        timeout=300,
    )


def test_an_export_is_found_by_encoders_of_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exported without a place of its own, a model runs on its graph when asked to by name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    steps: list[str] = []
    done = export_model(tiny_koe5(), to="onnx", sample=2, on_step=steps.append)
    assert done.folder == tmp_path / f"koe5/exports/{done.export.weights}-onnx-fp32"
    assert done.fidelity.min_cosine > 0.999999
    assert [step.split()[0] for step in steps] == ["embedding", "exporting", "embedding"]
    assert list(done.folder.parent.iterdir()) == [done.folder]
    assert Export.read(done.folder) == done.export
    assert done.export.fidelity == done.fidelity.as_floats()
    assert (done.export.query_prompt, done.export.normalize) == ("query: ", True)
    report = json.loads((done.folder / "fidelity.json").read_text())
    assert report == {**done.export.fidelity, "sample": 2, "floor": 0.9999}
    encoder = KoE5Encoder(tiny_koe5(), backend="onnx")
    original = KoE5Encoder(tiny_koe5(), backend="torch", device="cpu")
    assert encoder.engine.graph == done.folder / done.export.graph
    assert encoder.fingerprint.digest == original.fingerprint.digest
    np.testing.assert_allclose(
        encoder.encode_queries(TEXTS), original.encode_queries(TEXTS), atol=1e-5
    )
    with pytest.raises(ExportError, match="already exported"):
        export_model(tiny_koe5(), to="onnx")


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("int8", [False, True])
def test_an_export_runs_without_torch_and_without_a_network(
    engine: Engine, int8: bool, tmp_path: Path
) -> None:
    """A copied folder alone gives the model's vectors where torch can't be imported."""
    folder = tmp_path / "copied"
    shutil.copytree(exported(engine, int8=int8), folder)
    done = in_new_process(
        f"""
import sys
sys.modules.update(dict.fromkeys(
    ("torch", "transformers", "sentence_transformers", "onnx", "onnxscript", "onnx_ir")
))
import numpy as np
from koe5_integrations import KoE5Encoder
encoder = KoE5Encoder({str(folder)!r}, backend={engine!r})
np.save({str(tmp_path / "vectors.npy")!r}, encoder.encode_passages({TEXTS!r}))
print(encoder.engine.graph)
""",
        HF_HUB_OFFLINE="1",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(folder))
    original = KoE5Encoder(tiny_koe5(), backend="torch", device="cpu").encode_passages(TEXTS)
    cosines = (np.load(tmp_path / "vectors.npy") * original).sum(axis=1)
    assert cosines.min() > (0.9995 if int8 else 0.999999)


def test_a_model_with_a_head_and_without_normalisation() -> None:
    """Dense modules are in the graph; prompts and lengths of vectors are as it was exported."""
    original = KoE5Encoder(
        tiny_bert(), backend="torch", device="cpu", query_prompt="", passage_prompt=""
    )
    got = KoE5Encoder(exported("onnx", model=tiny_bert(), profile=PLAIN), backend="onnx")
    assert got.dim == 24
    np.testing.assert_allclose(
        got.encode_passages(TEXTS), original.encode_passages(TEXTS), atol=1e-5
    )


def test_an_export_below_the_floor_is_not_kept(tmp_path: Path) -> None:
    """What it lost is told, then it is refused, and nothing of it is left."""
    told: list[Fidelity] = []
    with pytest.raises(ExportError, match=r"the mean cosine to fp32 is 0\.99.*floor of 1\.1"):
        export_model(
            tiny_koe5(),
            to="openvino",
            int8=True,
            output=tmp_path / "new",
            min_cosine=1.1,
            sample=2,
            on_fidelity=told.append,
        )
    assert [fidelity.texts for fidelity in told] == [8]
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_leaves_nothing_that_loads(tmp_path: Path) -> None:
    """Killed when all but the proof is written, it has no name and can't be opened."""
    done = in_new_process(f"""
import os, signal
from koe5_integrations.exporting import export_model
def step(what):
    if what.startswith("embedding the sample"):
        os.kill(os.getpid(), signal.SIGKILL)
export_model({str(tiny_koe5())!r}, to="onnx", output={str(tmp_path / "new")!r}, sample=1,
             on_step=step)
""")
    assert done.returncode == -signal.SIGKILL, done.stderr
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".new.")
    assert any(left.rglob("*.onnx"))
    with pytest.raises(ModelLoadError):
        KoE5Encoder(left, backend="onnx").load()


def test_what_needs_no_export_says_so(static_model: Path, tmp_path: Path) -> None:
    """Static models run without torch as they are."""
    with pytest.raises(ExportError, match="koe5-mini needs no export"):
        export_model("koe5-mini", to="onnx")
    with pytest.raises(ExportError, match="needs no export: static"):
        export_model(static_model, to="openvino", output=tmp_path / "new")


def test_an_export_is_not_exported(tmp_path: Path) -> None:
    """The error names the model the export was made from."""
    with pytest.raises(ExportError, match=rf"is an export already; export '{tiny_koe5()}'"):
        export_model(exported("onnx"), to="openvino", output=tmp_path / "new")


def test_a_model_on_custom_code_is_refused(tmp_path: Path) -> None:
    """Code in a model's repository is never run, and the error says what to do instead."""
    model = tmp_path / "model"
    shutil.copytree(tiny_koe5(), model)
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "new", "auto_map": {"AutoModel": "modeling.NewModel"}}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(ExportError, match=r"is a 'new', which transformers doesn't know \(its own"):
        export_model(model, to="onnx", output=tmp_path / "new")


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"to": "tensorrt"}, ConfigError, "to='tensorrt' must be one of 'onnx', 'openvino'"),
        ({"to": "onnx", "sample": 0}, ConfigError, "sample=0 must be at least 1"),
        ({"to": "onnx", "min_cosine": float("nan")}, ConfigError, "min_cosine=nan"),
        ({"to": "onnx", "model": "me/unknown"}, UnknownModelError, "me/unknown"),
        ({"to": "onnx", "model": "./nowhere"}, ConfigError, "no such folder"),
        ({"to": "onnx", "profile": "nothing"}, ConfigError, "profile='nothing'"),
        ({"to": "onnx", "profile": "BAAI/bge-m3"}, ConfigError, "another kind of model"),
    ],
)
def test_mistakes_are_named_before_anything_is_loaded(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    """Each impossible argument is one clear error."""
    with pytest.raises(error, match=said):
        export_model(arguments.pop("model", tiny_koe5()), **arguments)


@pytest.mark.parametrize(
    ("missing", "to", "extra"),
    [
        ("openvino", "openvino", "openvino"),
        ("onnxruntime", "onnx", "onnx"),
        ("onnxscript", "onnx", "export"),
        ("torch", "onnx", "export"),
    ],
)
def test_what_is_not_installed_is_named(
    missing: str, to: Engine, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error holds the pip line of the extra that is missing."""
    for module in [name for name in sys.modules if name.startswith("koe5_integrations.exporting.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=rf'pip install "koe5-integrations\[{extra}\]"'):
        export_model(tiny_koe5(), to=to, output=tmp_path / "new")
