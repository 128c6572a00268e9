"""Tests of the remote backend with a real infinity server, in a virtual environment of its own.

``KOE5_INFINITY`` is the path of its ``bin`` folder; docs/remote.md says how to make one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_models import KOREAN, make_xlm_roberta

pytest.importorskip("httpx")
pytest.importorskip("stamina")
pytest.importorskip("sentence_transformers")

import httpx

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError, EmbeddingServerError

KEY = "a-key-for-infinity"
START = 120  # seconds: it imports torch
TEXTS = [f"{one} {i}" for i in range(40) for one in KOREAN[:5]]
LONG = "헌법은 국민의 기본권을 보장하고 국가의 조직을 정한다. " * 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small KoE5 in the layout of the sentence-transformers that infinity needs."""
    folder = make_xlm_roberta(tmp_path_factory.mktemp("infinity") / "tiny-koe5")
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        name = module["type"].rpartition(".")[2]
        module["type"] = f"sentence_transformers.models.{name}"
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    for path, content in {
        "modules.json": modules,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
        "tokenizer_config.json": tokenizer | {"tokenizer_class": "PreTrainedTokenizerFast"},
    }.items():
        (folder / path).write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def infinity(model: Path) -> Iterator[str]:
    """Start a server of the model that wants a key; the value is its address."""
    place = os.environ.get("KOE5_INFINITY")
    program = shutil.which("infinity_emb", path=place) if place else None
    if program is None:
        pytest.skip("KOE5_INFINITY names no folder with the program infinity_emb")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--engine", "torch", "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    options += ["--no-bettertransformer", "--no-trust-remote-code", "--no-model-warmup"]
    log = model.with_name("infinity.log")
    with log.open("wb") as written:
        server = subprocess.Popen(
            [program, "v2", "--model-id", str(model), *options],
            env=os.environ | {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "INFINITY_API_KEY": KEY},
            stdout=written,
            stderr=written,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START
        while not _is_up(url):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.skip(f"infinity doesn't start here: {log.read_text()[-300:]}")
            time.sleep(0.2)
        yield url
    finally:
        server.kill()
        server.wait()


def _is_up(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/health", trust_env=False).is_success)
    except httpx.TransportError:
        return False


def test_a_real_server_gives_the_vectors_of_the_model_here(
    infinity: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It embeds questions, passages and what is cut as sentence-transformers does here."""
    monkeypatch.setenv("KOE5_API_KEY", KEY)
    remote = KoE5Encoder(model, base_url=infinity, on_truncation="ignore")
    local = KoE5Encoder(model, backend="torch", on_truncation="ignore")
    texts = [*TEXTS, LONG, LONG[::-1], "질문 문서 " * 99]
    expected = local.encode_passages(texts)
    np.testing.assert_allclose(remote.encode_passages(texts), expected, atol=1e-5)
    questions = local.encode_queries(TEXTS)
    np.testing.assert_allclose(remote.encode_queries(TEXTS), questions, atol=1e-5)
    assert remote.truncation == local.truncation
    assert remote.fingerprint.digest == local.fingerprint.digest


def test_a_real_server_is_told_apart_from_another_models(
    infinity: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers to any name; the name it lists is compared, and what it reads."""
    monkeypatch.setenv("KOE5_API_KEY", KEY)
    other = Path(shutil.copytree(model, tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"serves '.*tiny-koe5', not"):
        KoE5Encoder(other, base_url=infinity).load()
    longer = Path(shutil.copytree(model, tmp_path / model.name))
    config = json.loads((longer / "config.json").read_text()) | {"max_position_embeddings": 130}
    (longer / "config.json").write_text(json.dumps(config))
    (longer / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
    with pytest.raises(ConfigError, match="does not read 128 tokens"):
        KoE5Encoder(longer, base_url=infinity).load()


def test_a_real_server_wants_its_key(infinity: str, model: Path) -> None:
    """Without the key there is one error, at once."""
    with pytest.raises(EmbeddingServerError, match=r"without a key \(401\)"):
        KoE5Encoder(model, base_url=infinity).load()
