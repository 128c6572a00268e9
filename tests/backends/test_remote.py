"""Tests of koe5_integrations.backends.remote: models on a server, over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import pickle
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import KOREAN

pytest.importorskip("httpx")
pytest.importorskip("stamina")
pytest.importorskip("sentence_transformers")

from embedding_server import Serving, serving

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.remote import client
from koe5_integrations.backends.remote.backend import RemoteBackend
from koe5_integrations.backends.remote.retrying import Patience
from koe5_integrations.errors import (
    ConfigError,
    EmbeddingServerError,
    EncodingError,
    ModelLoadError,
    TruncationWarning,
)

KINDS = ["tei", "vllm", "infinity"]
SENTENCES = KOREAN[:5]
TEXTS = [f"{one} {i} {other}" for i in range(8) for one in SENTENCES for other in SENTENCES]
LONG = ["헌법은 국민의 기본권을 보장하고 국가의 조직을 정한다. " * 8, "서울의 겨울은 춥고\n" * 40]


@pytest.fixture(autouse=True)
def hurried(fresh_models: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less between attempts than with a real server."""
    hurry = Patience(first_wait=0.01, longest_wait=0.05, connect=2, read=20)
    monkeypatch.setattr(client, "PATIENCE", hurry)
    monkeypatch.setattr(client, "FIRST_CONTACT", hurry)


@pytest.fixture
def local(xlm_roberta: Path) -> KoE5Encoder:
    return KoE5Encoder(xlm_roberta, backend="torch", on_truncation="ignore")


@pytest.fixture
def tei(xlm_roberta: Path) -> Iterator[tuple[Serving, KoE5Encoder]]:
    what = Serving(xlm_roberta)
    with serving(what) as url:
        yield what, KoE5Encoder(xlm_roberta, base_url=url, on_truncation="ignore")


def without_weights(folder: Path, to: Path) -> Path:
    """Copy what tokenises and describes a model, and nothing else."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors"))
    return to


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_the_model_here(
    xlm_roberta: Path, local: KoE5Encoder, kind: str
) -> None:
    """Whatever the server, questions, passages and texts that are cut have the local vectors."""
    with serving(Serving(xlm_roberta, kind)) as url:
        remote = KoE5Encoder(xlm_roberta, base_url=url)
        texts = TEXTS + LONG
        expected = local.encode_passages(texts)
        with pytest.warns(TruncationWarning):
            np.testing.assert_allclose(remote.encode_passages(texts), expected, atol=1e-5)
        np.testing.assert_allclose(
            remote.encode_queries(SENTENCES), local.encode_queries(SENTENCES), atol=1e-5
        )
        assert remote.truncation == local.truncation
        assert remote.count_tokens(LONG, "passage") == local.count_tokens(LONG, "passage")
        assert remote.fingerprint.digest == local.fingerprint.digest
        assert remote.identity == local.identity


async def test_concurrent_callers_share_requests(tei: tuple[Serving, KoE5Encoder]) -> None:
    """Questions asked at the same time go out together, and each gets its own answer."""
    what, remote = tei
    expected = remote.encode_queries(TEXTS)
    what.asked.clear()
    found = await asyncio.gather(*(remote.aencode_queries([text]) for text in TEXTS))
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)
    assert len(what.asked) < len(TEXTS) / 2


def test_requests_keep_to_the_servers_limits(xlm_roberta: Path) -> None:
    """No request has more texts than /info allows, nor do all at once take up half the places."""
    what = Serving(xlm_roberta, most_texts=8, places=64)
    with serving(what) as url:
        KoE5Encoder(xlm_roberta, base_url=url).encode_passages(TEXTS)
        sizes = [len(body["inputs"]) for path, body in what.asked if path == "/embed"]
        assert max(sizes) == 4
        assert 4 < what.most_at_once <= 32


def test_requests_keep_to_the_bytes_servers_take(
    tei: tuple[Serving, KoE5Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts that together are too large for one request go in several, in order."""
    what, remote = tei
    expected = remote.encode_passages(TEXTS)
    what.asked.clear()
    monkeypatch.setattr("koe5_integrations.backends.remote.backend._MOST_BYTES", 500)
    np.testing.assert_allclose(remote.encode_passages(TEXTS), expected, atol=1e-5)
    sent = [body["inputs"] for _, body in what.asked]
    assert max(sum(len(text.encode()) for text in texts) for texts in sent) <= 500


@pytest.mark.parametrize(
    ("kind", "status"), [("tei", 413), ("tei", 422), ("tei", 424), ("vllm", 400), ("infinity", 500)]
)
def test_a_text_the_server_refuses_fails_alone(xlm_roberta: Path, kind: str, status: int) -> None:
    """Of texts embedded together, the refused one is named, and other callers get their vectors."""
    what = Serving(xlm_roberta, kind, poison="기본권", poison_status=status)
    with serving(what) as url:
        remote = KoE5Encoder(xlm_roberta, base_url=url)
        assert "기본권" in SENTENCES[3]
        with pytest.raises(EncodingError, match=f"answers with {status}") as caught:
            remote.encode_passages(SENTENCES)
        assert caught.value.__notes__ == ["raised while texts[3] was embedded"]
        assert remote.encode_passages(SENTENCES[:3]).shape == (3, 32)


def test_a_server_that_fails_on_everything_is_not_asked_text_by_text(xlm_roberta: Path) -> None:
    """When nothing can be embedded any more, all that waits fails after a few attempts."""
    what = Serving(xlm_roberta)
    with serving(what) as url:
        remote = KoE5Encoder(xlm_roberta, base_url=url)
        remote.load()
        what.asked.clear()
        what.poison, what.poison_status = "", 500  # every text holds it
        with pytest.raises(EmbeddingServerError, match="tried 4 times: answers with 500"):
            remote.encode_passages(TEXTS)
        assert len(what.asked) < 150


def test_a_server_that_goes_away_is_one_error_soon(xlm_roberta: Path) -> None:
    """A lost server fails the call with its address, and its return is noticed."""
    what = Serving(xlm_roberta)
    with serving(what) as url:
        remote = KoE5Encoder(xlm_roberta, base_url=url)
        expected = remote.encode_passages(SENTENCES)
    with pytest.raises(EmbeddingServerError, match=f"{url}/embed, tried 10 times: ConnectError"):
        remote.encode_passages(SENTENCES)
    with serving(what, int(url.rpartition(":")[2])):
        np.testing.assert_array_equal(remote.encode_passages(SENTENCES), expected)


@pytest.mark.parametrize("change", [{"dtype": "float16"}, {"commit": "0" * 40}])
def test_another_server_at_the_same_address_is_noticed(
    xlm_roberta: Path, change: dict[str, str]
) -> None:
    """After a lost connection the server is asked again what it serves, before it is believed."""
    with serving(Serving(xlm_roberta)) as url:
        remote = KoE5Encoder(xlm_roberta, base_url=url)
        remote.load()
    with (
        serving(Serving(xlm_roberta, **change), int(url.rpartition(":")[2])),
        pytest.raises(EmbeddingServerError, match="is not the server it was: it served"),
    ):
        remote.encode_passages(SENTENCES)


def test_nobody_there_is_one_error_with_the_address(xlm_roberta: Path) -> None:
    """Nothing that listens, and something that is no such server, are told apart."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(EmbeddingServerError, match=f"127.0.0.1:{port}/info, tried 10 times"):
        KoE5Encoder(xlm_roberta, base_url=f"http://127.0.0.1:{port}").load()
    with serving(Serving(xlm_roberta, prefix="/elsewhere")) as url:
        wrong = KoE5Encoder(xlm_roberta, base_url=url.removesuffix("/elsewhere") + "/nowhere")
        with pytest.raises(EmbeddingServerError, match=r"neither /info, .* nor /models"):
            wrong.load()


@pytest.mark.parametrize(("kind", "end"), [("tei", ""), ("tei", "/v1"), ("vllm", "/v1/")])
def test_the_address_is_taken_as_people_write_it(xlm_roberta: Path, kind: str, end: str) -> None:
    """With a path before it, /v1 or a slash at its end, or without, the address is understood."""
    with serving(Serving(xlm_roberta, kind, prefix="/koe5")) as url:
        remote = KoE5Encoder(xlm_roberta, base_url=url + end, backend="remote")
        assert remote.encode_queries(SENTENCES).shape == (5, 32)
        assert "by " in str(remote.engine)
        assert url in str(remote.engine)


def test_servers_without_base64_are_asked_for_numbers(xlm_roberta: Path, local: Any) -> None:
    """A server that doesn't know base64 is found out and asked for JSON's numbers."""
    what = Serving(xlm_roberta, "vllm", knows_base64=False)
    with serving(what) as url:
        found = KoE5Encoder(xlm_roberta, base_url=url).encode_queries(SENTENCES)
        np.testing.assert_allclose(found, local.encode_queries(SENTENCES), atol=1e-5)
        assert what.asked[-1][1]["encoding_format"] == "float"


def test_vectors_are_scaled_here(xlm_roberta: Path, local: KoE5Encoder) -> None:
    """Whatever length a server's vectors have, ours have the profile's."""
    with serving(Serving(xlm_roberta, scale=7.5)) as url:
        found = KoE5Encoder(xlm_roberta, base_url=url).encode_queries(SENTENCES)
        np.testing.assert_allclose(found, local.encode_queries(SENTENCES), atol=1e-5)


@pytest.mark.parametrize(("dtype", "precision"), [("float16", "fp16"), ("bfloat16", "bf16")])
def test_the_servers_precision_is_in_the_fingerprint(
    xlm_roberta: Path, local: KoE5Encoder, dtype: str, precision: str
) -> None:
    """TEI says what it computes in; it makes other vectors than fp32, and is no other precision."""
    with serving(Serving(xlm_roberta, dtype=dtype)) as url:
        remote = KoE5Encoder(xlm_roberta, base_url=url)
        assert remote.fingerprint.precision == precision
        assert remote.identity["precision"] == precision
        assert remote.fingerprint.digest != local.fingerprint.digest
        stated = KoE5Encoder(xlm_roberta, base_url=url, precision=precision)
        assert stated.fingerprint == remote.fingerprint
        with pytest.raises(ConfigError, match=rf"precision='fp32': .* computes in {precision}"):
            KoE5Encoder(xlm_roberta, base_url=url, precision="fp32").load()
    with serving(Serving(xlm_roberta, "vllm")) as url:
        stated = KoE5Encoder(xlm_roberta, base_url=url, precision=precision)
        assert stated.fingerprint == remote.fingerprint


def test_no_weights_are_needed_here(xlm_roberta: Path, local: KoE5Encoder, tmp_path: Path) -> None:
    """Tokenizer and configuration are enough; what the weights are is then said by the version."""
    folder = without_weights(xlm_roberta, tmp_path / xlm_roberta.name)
    with serving(Serving(xlm_roberta)) as url:
        remote = KoE5Encoder(folder, base_url=url, revision="1")
        expected = local.encode_passages(SENTENCES)
        np.testing.assert_allclose(remote.encode_passages(SENTENCES), expected, atol=1e-5)
        other = KoE5Encoder(folder, base_url=url, revision="2")
        digests = {each.fingerprint.digest for each in (local, remote, other)}
        assert len(digests) == 3
    with pytest.raises(ModelLoadError, match="safetensors weights"):
        KoE5Encoder(folder).load()


def test_pickles_and_forks_connect_anew(tei: tuple[Serving, KoE5Encoder]) -> None:
    """An encoder that has been used embeds alike after pickling, and in a forked process."""
    _, remote = tei
    expected = remote.encode_passages(SENTENCES)
    again = pickle.loads(pickle.dumps(remote))
    np.testing.assert_array_equal(again.encode_passages(SENTENCES), expected)
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    child = fork.Process(target=lambda: there.send(remote.encode_passages(SENTENCES)))
    child.start()
    assert here.poll(30)
    np.testing.assert_array_equal(here.recv(), expected)
    child.join(30)
    np.testing.assert_array_equal(remote.encode_passages(SENTENCES), expected)


def test_encoders_of_one_server_share_its_connections(
    tei: tuple[Serving, KoE5Encoder], caplog: pytest.LogCaptureFixture
) -> None:
    """The server is greeted and examined once, however many encoders use it."""
    what, remote = tei
    with caplog.at_level(logging.INFO, "koe5_integrations"):
        for _ in range(5):
            KoE5Encoder(**remote.config()).encode_queries(SENTENCES)
    assert sum("by TEI" in record.message for record in caplog.records) == 1
    assert sum(path == "/tokenize" for path, _ in what.asked) == 1


def test_a_close_does_not_wait_for_the_server(xlm_roberta: Path) -> None:
    """Releasing models, as at a process's end, returns though a server has not answered."""
    from koe5_integrations import release_models

    what = Serving(xlm_roberta)
    with serving(what) as url:
        remote = KoE5Encoder(xlm_roberta, base_url=url)
        remote.load()
        with what.lock:  # nothing is embedded meanwhile
            done = threading.Thread(target=remote.encode_queries, args=(SENTENCES,), daemon=True)
            done.start()
            while not any(path == "/embed" and len(b["inputs"]) == 5 for path, b in what.asked):
                done.join(0.01)
            release_models()
        done.join(20)
        assert not done.is_alive()


def test_texts_are_cut_where_the_model_stops_reading(xlm_roberta: Path) -> None:
    """What is sent of a long text is read uncut, as the tokens the whole text is cut to."""
    with serving(Serving(xlm_roberta)) as url:
        remote = KoE5Encoder(xlm_roberta, base_url=url, max_seq_length=20)
        backend = remote._handle.worker().backend
        assert isinstance(backend, RemoteBackend)
        for text in [*LONG, *(text * 9 for text in SENTENCES), "띄어쓰기없이" * 30, "漢字" * 50]:
            (cut,) = backend.tokenize([text])
            assert text.startswith(cut.text)
            (again,) = backend.tokenize([cut.text])
            assert again.uncut == len(again.ids) <= 20
            assert again.ids.tolist() == cut.ids.tolist()
            assert again.text == cut.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "device='cuda': the server decides"),
        ({"compile": True}, "compile=True: the server decides"),
        ({"precision": "int8"}, "precision='int8': servers round"),
        ({"backend": "torch"}, "backend='torch': either a server .* or this machine"),
    ],
)
def test_what_a_server_decides_can_not_be_asked_for(
    xlm_roberta: Path, options: dict[str, Any], message: str
) -> None:
    """Options that don't go with a server are refused before it is asked anything."""
    with pytest.raises(ConfigError, match=message):
        KoE5Encoder(xlm_roberta, base_url="http://127.0.0.1:9", **options).load()


def test_a_server_needs_an_address() -> None:
    """The backend without an address, and a key without one, are refused at once."""
    with pytest.raises(ConfigError, match="backend='remote' needs base_url="):
        KoE5Encoder(backend="remote")
    with pytest.raises(ConfigError, match="api_key_env= is for a server"):
        KoE5Encoder(api_key_env="TEI_API_KEY")
