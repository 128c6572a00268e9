"""Tests of koe5_integrations.backends.torch."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import ConfigError, ModelLoadError

torch = pytest.importorskip("torch")
backend_module = pytest.importorskip("koe5_integrations.backends.torch")

TEXTS = ["파이썬 문자열이 불변인 이유는 무엇입니까?", "서울의 겨울은 춥다.", "헌법"]


def in_forked_child(work: Callable[[], Any]) -> Any:
    """Return what the work gives in a forked child, or raise what it raised there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # rather than wait for ever
        try:
            result = work()
        except BaseException as error:
            result = error
        with os.fdopen(writer, "wb") as out:
            pickle.dump(result, out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as result_file:
        result = pickle.load(result_file)
    os.waitpid(pid, 0)
    if isinstance(result, BaseException):
        raise result
    return result


def test_half_precision_is_close(xlm_roberta: Path) -> None:
    """bf16 gives float32 unit vectors near those of fp32, under a fingerprint of its own."""
    full = KoE5Encoder(xlm_roberta, device="cpu")
    half = KoE5Encoder(xlm_roberta, device="cpu", precision="bf16")
    expected, vectors = full.encode_passages(TEXTS), half.encode_passages(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similarity = (expected * vectors).sum(axis=1)
    assert similarity.min() > 0.999
    # Not the fp32 model again under another name.
    assert np.abs(expected - vectors).max() > 1e-5
    assert half.fingerprint.digest != full.fingerprint.digest


@pytest.mark.parametrize("device", ["cuda:99", "cud", "tpu"])
def test_refuses_a_device_that_is_not_there(xlm_roberta: Path, device: str) -> None:
    """A device that can't be used is an error of configuration that names the one that works."""
    with pytest.raises(ConfigError, match=f"device='{device}'.*device='cpu' always works"):
        KoE5Encoder(xlm_roberta, device=device).encode_queries(["가"])


def test_what_transformers_cannot_load_is_a_load_error(
    xlm_roberta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the loading library is reported as ours, with the folder's path."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise KeyError("model_type")

    monkeypatch.setattr(backend_module, "SentenceTransformer", fail)
    with pytest.raises(ModelLoadError, match="can't be loaded: 'model_type'") as caught:
        backend_module.TorchBackend(
            ModelFolder.read(xlm_roberta),
            device="cpu",
            precision="fp32",
            max_seq_length=64,
            pooling=None,
        )
    assert str(xlm_roberta) in str(caught.value)


def test_never_runs_code_from_the_folder(
    xlm_roberta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is loaded offline, from safetensors, without its code."""
    seen: dict[str, Any] = {}
    real = backend_module.SentenceTransformer

    def record(path: str, **kwargs: Any) -> Any:
        seen.update(kwargs)
        return real(path, **kwargs)

    monkeypatch.setattr(backend_module, "SentenceTransformer", record)
    backend_module.TorchBackend(
        ModelFolder.read(xlm_roberta),
        device="cpu",
        precision="fp32",
        max_seq_length=64,
        pooling=None,
    )
    assert seen["trust_remote_code"] is False
    assert seen["local_files_only"] is True
    assert seen["model_kwargs"]["use_safetensors"] is True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_works_in_a_forked_child(xlm_roberta: Path) -> None:
    """A child forked from a process that has used the model reloads it and agrees."""
    encoder = KoE5Encoder(xlm_roberta, device="cpu")
    expected = encoder.encode_passages(TEXTS * 50)
    vectors, threads = in_forked_child(
        lambda: (encoder.encode_passages(TEXTS * 50), torch.get_num_threads())
    )
    # The parent's OpenMP threads are not there, and would be waited for.
    assert threads == 1
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_passages(TEXTS), expected[:3], atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_grandchild_works_too(xlm_roberta: Path) -> None:
    """Forking again from a forked child is no different."""
    encoder = KoE5Encoder(xlm_roberta, device="cpu")
    expected = encoder.encode_queries(TEXTS)

    def child() -> Any:
        encoder.encode_queries(TEXTS)
        return in_forked_child(lambda: encoder.encode_queries(TEXTS))

    np.testing.assert_allclose(in_forked_child(child), expected, atol=1e-5)
