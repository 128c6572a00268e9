"""Tests of koe5_integrations.backends.hub."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pytest

from koe5_integrations import PROFILES, KoE5Encoder
from koe5_integrations.backends.hub import find_model
from koe5_integrations.errors import ModelLoadError

NAME = "nlpai-lab/KoE5"
COMMIT = "bc6d284c60fe5a973e74c1751b92594c9f581213"
UNPINNED = "intfloat/multilingual-e5-small"
OTHER_COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cache_model(cache: Path, name: str, commit: str, model: Path, ref: str | None = None) -> Path:
    """Lay a model out as huggingface_hub does: blobs by hash, a snapshot of links per commit."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    (repository / "blobs").mkdir(parents=True, exist_ok=True)
    for source in model.rglob("*"):
        if source.is_dir():
            continue
        content = source.read_bytes()
        blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        link = snapshot / source.relative_to(model)
        link.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * len(link.relative_to(repository).parent.parts)
        link.symlink_to(f"{up}blobs/{blob.name}")
    if ref is not None:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / ref).write_text(commit)
    return snapshot


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the small model pass for the real ones, whose dimensions are checked."""
    for name in (NAME, UNPINNED):
        monkeypatch.setitem(PROFILES, name, replace(PROFILES[name], dim=32))


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let the hub client try the network, refuse every connection and note it."""
    tried: list[Any] = []

    def refuse(*args: Any, **kwargs: Any) -> Any:
        tried.append(args)
        raise OSError("no network here")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    # The hub client waits 23 seconds in all before it gives up.
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    return tried


def test_loads_the_pinned_commit_from_the_cache(
    small: None, tmp_path: Path, xlm_roberta: Path, attempts: list[Any]
) -> None:
    """KoE5 in the hub's cache at its pinned commit is used without a question to the hub."""
    snapshot = cache_model(tmp_path, NAME, COMMIT, xlm_roberta)
    encoder = KoE5Encoder(cache_folder=tmp_path)
    expected = KoE5Encoder(xlm_roberta).encode_queries(["파이썬"])
    np.testing.assert_array_equal(encoder.encode_queries(["파이썬"]), expected)
    assert find_model(NAME, is_folder=False, revision=COMMIT, cache_folder=str(tmp_path)).path == (
        snapshot
    )
    assert attempts == []


def test_the_default_is_the_pinned_commit_and_no_other(
    small: None, tmp_path: Path, xlm_roberta: Path
) -> None:
    """A newer commit in the cache is not taken for the pinned one."""
    cache_model(tmp_path, NAME, OTHER_COMMIT, xlm_roberta, ref="main")
    with pytest.raises(ModelLoadError, match=f"at revision '{COMMIT}'"):
        KoE5Encoder(cache_folder=tmp_path).encode_queries(["가"])
    newer = KoE5Encoder(cache_folder=tmp_path, revision=OTHER_COMMIT)
    assert newer.encode_queries(["가"]).shape == (1, 32)


def test_a_model_without_a_pin_follows_the_caches_main(
    small: None, tmp_path: Path, xlm_roberta: Path, static_model: Path
) -> None:
    """Offline, a model without a pinned commit is what the cache calls main at first use."""
    assert PROFILES[UNPINNED].revision is None
    cache_model(tmp_path, UNPINNED, OTHER_COMMIT, xlm_roberta, ref="main")
    first = KoE5Encoder(UNPINNED, cache_folder=tmp_path)
    assert first.fingerprint.digest == KoE5Encoder(xlm_roberta).fingerprint.digest
    cache_model(tmp_path, UNPINNED, COMMIT, static_model, ref="main")
    later = KoE5Encoder(UNPINNED, cache_folder=tmp_path)
    assert later.fingerprint == first.fingerprint


def test_another_models_files_under_the_name_are_refused(tmp_path: Path, xlm_roberta: Path) -> None:
    """Files whose vectors are not as long as the named model's are not that model."""
    cache_model(tmp_path, NAME, COMMIT, xlm_roberta)
    with pytest.raises(ModelLoadError, match=r"32 dimensions, not the 1024 of nlpai-lab/KoE5"):
        KoE5Encoder(cache_folder=tmp_path).encode_queries(["가"])


@pytest.mark.parametrize("local_files_only", [True, False])
def test_a_model_that_cannot_be_had_is_one_error_with_three_ways_on(
    tmp_path: Path, attempts: list[Any], local_files_only: bool
) -> None:
    """Neither cached nor reachable: one error that names the three ways on."""
    encoder = KoE5Encoder(cache_folder=tmp_path, local_files_only=local_files_only)
    with pytest.raises(ModelLoadError) as caught:
        encoder.encode_queries(["가"])
    for part in (
        f"'{NAME}' at revision '{COMMIT}'",
        "Three ways on",
        "path of a local folder as model=",
        "cache_folder=",
        "HF_HOME",
        "HF_ENDPOINT",
        "model='koe5-mini'",
    ):
        assert part in str(caught.value)
    assert bool(attempts) is not local_files_only


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "1_Pooling/config.json"])
def test_an_incomplete_copy_in_the_cache_is_an_error(
    small: None, tmp_path: Path, xlm_roberta: Path, missing: str
) -> None:
    """A file that is missing from the cached snapshot is reported, not guessed around."""
    (cache_model(tmp_path, NAME, COMMIT, xlm_roberta) / missing).unlink()
    with pytest.raises(ModelLoadError, match=r"safetensors weights|can't be read"):
        KoE5Encoder(cache_folder=tmp_path).encode_queries(["가"])


def test_constructing_asks_for_nothing(tmp_path: Path, attempts: list[Any]) -> None:
    """Making an encoder touches neither network nor cache."""
    encoder = KoE5Encoder(cache_folder=tmp_path)
    assert (encoder.dim, encoder.profile.name) == (1024, NAME)
    assert encoder.encode_queries([]).shape == (0, 1024)
    assert attempts == []
    assert list(tmp_path.iterdir()) == []


def test_a_name_the_hub_would_not_allow_is_an_error_of_ours(tmp_path: Path) -> None:
    """A malformed hub name ends in the same error as one that does not exist."""
    encoder = KoE5Encoder(
        "bad name!", query_prompt="", passage_prompt="", cache_folder=str(tmp_path)
    )
    with pytest.raises(ModelLoadError, match=r"bad name!.*HFValidationError"):
        encoder.encode_queries(["가"])


def test_weights_are_not_downloaded_for_a_server(
    small: None, tmp_path: Path, xlm_roberta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hub model only tokenizer and configuration are asked for, and its commit is known."""
    asked: list[Any] = []
    download = huggingface_hub.snapshot_download

    def noted(*args: Any, **kwargs: Any) -> str:
        asked.append(kwargs["ignore_patterns"])
        return download(*args, **kwargs)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", noted)
    for name, commit, ref in ((NAME, COMMIT, None), (UNPINNED, OTHER_COMMIT, "main")):
        (cache_model(tmp_path, name, commit, xlm_roberta, ref) / "model.safetensors").unlink()
        options = {"cache_folder": tmp_path, "local_files_only": True, "precision": "fp32"}
        remote = KoE5Encoder(name, base_url="http://127.0.0.1:9", **options)
        assert remote.count_tokens(["파이썬"], "query") == [
            KoE5Encoder(xlm_roberta).count_tokens(["파이썬"], "query")[0]
        ]
        folder = remote._handle.folder
        assert (folder.dim, folder.version) == (32, f"{name}@{commit}")
        assert remote.fingerprint.weights == folder.digest
        with pytest.raises(ModelLoadError, match="safetensors weights"):
            KoE5Encoder(name, **options).load()
    assert ["*.safetensors" in ignored for ignored in asked].count(True) == 2


def test_weights_that_are_there_are_what_counts(
    small: None, tmp_path: Path, xlm_roberta: Path
) -> None:
    """With the weights in the cache, a server's vectors have the local model's fingerprint."""
    cache_model(tmp_path, NAME, COMMIT, xlm_roberta)
    found = find_model(
        NAME, is_folder=False, revision=COMMIT, cache_folder=str(tmp_path), weights=False
    )
    assert found.version is None
    assert found.digest == KoE5Encoder(xlm_roberta).fingerprint.weights
