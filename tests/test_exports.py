"""Tests of koe5_integrations.exports, and of export folders as models."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import exported, tiny_koe5

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import ModelLoadError
from koe5_integrations.exports import MANIFEST, Export, default_exports_folder, graph_path
from koe5_integrations.profiles import DEFAULT_MODEL, PROFILES, ModelProfile, profile_for

for name in ("sentence_transformers", "onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(name)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A copy of a small export, to be spoilt."""
    return Path(shutil.copytree(exported("onnx"), tmp_path / "export"))


def change(folder: Path, **fields: Any) -> None:
    """Rewrite fields of the manifest."""
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | fields))


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Writing and reading a manifest loses nothing, Korean prompts included."""
    written = Export(
        engine="onnx",
        precision="int8",
        graph=graph_path("onnx", "int8"),
        sizes={},
        weights="0" * 32,
        model="모델",
        query_prompt="질문: ",
        passage_prompt="문서: ",
        normalize=False,
        fidelity={"cosine_mean": 0.99},
        versions={"torch": "2.13.0"},
    )
    written.write(tmp_path)
    assert Export.read(tmp_path) == written
    assert Export.read(tmp_path / "elsewhere") is None


def test_an_export_folder_is_read_like_its_model(export: Path) -> None:
    """Everything but the place is the model's, its digest included; the weights are not there."""
    model, read = ModelFolder.read(tiny_koe5()), ModelFolder.read(export)
    assert not list(export.rglob("*.safetensors"))
    for name in ("kind", "modules", "dim", "max_seq_length", "pooling", "normalize", "digest"):
        assert getattr(read, name) == getattr(model, name), name
    assert model.export is None
    assert read.export == Export.read(export)
    assert read.pad_id == model.pad_id == 1


def test_the_state_covers_graph_and_manifest(export: Path) -> None:
    """Writing either again is another state of the folder."""
    states = {ModelFolder.read(export).state}
    for file in (MANIFEST, "onnx/model.onnx", "onnx/model.onnx.data"):
        os.utime(export / file, ns=(0, 1))
        states.add(ModelFolder.read(export).state)
    assert len(states) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "can't be read"),
        ("[]", "can't be read"),
        ("{}", "can't be read.*format"),
        ('{"format": 99}', "has format 99, this version reads 1: export the model again"),
        ('{"format": 1, "engine": "onnx"}', "can't be read.*missing"),
        ('{"format": 1, "surplus": 0}', "can't be read.*surplus"),
    ],
)
def test_a_spoilt_manifest_is_named(export: Path, content: str, message: str) -> None:
    """A manifest that can't be understood is an error with its path, when the encoder is made."""
    (export / MANIFEST).write_text(content)
    with pytest.raises(ModelLoadError, match=message) as caught:
        KoE5Encoder(export)
    assert str(export / MANIFEST) in str(caught.value)


def test_a_missing_graph_is_named(export: Path) -> None:
    """A file of the graph that was not copied is named."""
    (export / "onnx/model.onnx.data").unlink()
    with pytest.raises(ModelLoadError, match=r"model\.onnx\.data is missing: export the model"):
        ModelFolder.read(export)


def test_an_export_is_used_as_its_manifest_says(export: Path) -> None:
    """Prompts and normalisation come from the manifest, unless the user says otherwise."""
    change(export, query_prompt="Q: ", passage_prompt="", normalize=False, model="somebody/else")
    profile = profile_for(str(export), is_folder=True)
    assert profile == ModelProfile("somebody/else", "Q: ", "", normalize=False)
    given = profile_for(str(export), is_folder=True, passage_prompt="P: ")
    assert (given.query_prompt, given.passage_prompt) == ("Q: ", "P: ")
    assert (
        profile_for(str(export), is_folder=True, profile=DEFAULT_MODEL) == (PROFILES[DEFAULT_MODEL])
    )
    change(export, model=DEFAULT_MODEL)
    assert profile_for(str(export), is_folder=True).pooling == "mean"
    by_path = KoE5Encoder(export)
    assert by_path.fingerprint.query_prompt == "Q: "
    other = KoE5Encoder(tiny_koe5(), query_prompt="Q: ", passage_prompt="")
    np.testing.assert_allclose(
        by_path.encode_queries(["헌법"]), other.encode_queries(["헌법"]), atol=1e-5
    )


def test_the_default_folder_is_in_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``XDG_CACHE_HOME`` moves it; without, or empty, it is under the home folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_exports_folder() == tmp_path / "koe5/exports"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_exports_folder() == tmp_path / "home/.cache/koe5/exports"
