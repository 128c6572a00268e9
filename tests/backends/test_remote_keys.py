"""Tests of the remote backend's key: it reaches the server, and shows up nowhere else."""

from __future__ import annotations

import logging
import pickle
import socket
import traceback
from pathlib import Path
from typing import Any

import pytest
from tiny_models import KOREAN

pytest.importorskip("httpx")
pytest.importorskip("stamina")
pytest.importorskip("sentence_transformers")

from embedding_server import KEY, Serving, serving

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.remote import client
from koe5_integrations.backends.remote.retrying import Patience
from koe5_integrations.errors import ConfigError, EmbeddingServerError


@pytest.fixture(autouse=True)
def hurried(fresh_models: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less between attempts than with a real server; no key but the test's."""
    hurry = Patience(first_wait=0.01, longest_wait=0.02, connect=2, read=20)
    monkeypatch.setattr(client, "FIRST_CONTACT", hurry)
    monkeypatch.delenv("KOE5_API_KEY", raising=False)


@pytest.mark.parametrize("kind", ["tei", "vllm", "infinity"])
@pytest.mark.parametrize("variable", [None, "TEI_API_KEY"])
def test_the_key_reaches_the_server_and_nothing_else(
    xlm_roberta: Path,
    kind: str,
    variable: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every request has the key; no log, repr, setting, pickle or fingerprint does."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(variable or "KOE5_API_KEY", KEY + "\n")  # as files end
    what = Serving(xlm_roberta, kind, key=KEY)
    with serving(what) as url:
        remote = KoE5Encoder(xlm_roberta, base_url=url, api_key_env=variable)
        remote.encode_passages(KOREAN[:5])
        assert what.authorizations == {f"Bearer {KEY}"}
        seen = [repr(remote), remote.config(), remote.identity, remote.fingerprint, remote.engine]
        seen += [pickle.dumps(remote), remote.engine.served, caplog.text]
        seen += [vars(remote._handle), vars(remote._handle.worker().backend)]
        assert KEY not in "".join(map(repr, seen))


@pytest.mark.parametrize("key", [None, "another-key-" + KEY[::-1]])
def test_a_refused_key_is_one_error_at_once(
    xlm_roberta: Path,
    key: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a key or with another one, the error says so, after one request."""
    caplog.set_level(logging.DEBUG)
    if key is not None:
        monkeypatch.setenv("KOE5_API_KEY", key)
    what = Serving(xlm_roberta, key=KEY)
    sent = "a request without a key" if key is None else "the key in KOE5_API_KEY"
    with (
        serving(what) as url,
        pytest.raises(EmbeddingServerError, match=rf"/info refuses {sent} \(401\)") as caught,
    ):
        KoE5Encoder(xlm_roberta, base_url=url).encode_passages(KOREAN[:5])
    written = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert len(what.authorizations) == 1
    assert what.asked == []
    assert key is None or key not in written


def test_a_replaced_key_is_used_from_then_on(
    xlm_roberta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is replaced in the environment needs no new encoder."""
    what = Serving(xlm_roberta, key=KEY)
    monkeypatch.setenv("KOE5_API_KEY", KEY)
    with serving(what) as url:
        remote = KoE5Encoder(xlm_roberta, base_url=url)
        remote.load()
        what.key = "the-next-key"
        with pytest.raises(EmbeddingServerError, match="refuses the key"):
            remote.encode_passages(KOREAN[:5])
        monkeypatch.setenv("KOE5_API_KEY", what.key)
        assert remote.encode_passages(KOREAN[:5]).shape == (5, 32)


def test_a_key_that_is_not_there_is_named_by_its_variable(
    xlm_roberta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment variable that was named and is not set, or holds no key, is told."""
    remote = KoE5Encoder(xlm_roberta, base_url="http://127.0.0.1:9", api_key_env="TEI_API_KEY")
    with pytest.raises(ConfigError, match="api_key_env='TEI_API_KEY': there is no such"):
        remote.load()
    for broken in (f"{KEY} {KEY}", f"{KEY}\n{KEY}", f"{KEY}키"):
        monkeypatch.setenv("TEI_API_KEY", broken)
        with pytest.raises(ConfigError, match="characters that no key has") as caught:
            remote.load()
        assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_key_is_not_sent_in_clear_text(
    xlm_roberta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over http a key goes to this machine only: nothing is sent, not even a look-up."""
    monkeypatch.setattr(socket, "getaddrinfo", None)
    monkeypatch.setenv("KOE5_API_KEY", KEY)
    with pytest.raises(ConfigError, match="would be sent over the network in clear text"):
        KoE5Encoder(xlm_roberta, base_url="http://tei.example:8080").load()


@pytest.mark.parametrize(
    "options",
    [
        {"api_key_env": KEY},
        {"api_key_env": KEY.upper().replace("-", "")},
        {"api_key_env": KEY.encode()},
        {"base_url": f"https://user:{KEY}@tei.example"},
        {"base_url": f"https://tei.example/embed?key={KEY}"},
        {"base_url": f"https://tei.example/#{KEY}"},
    ],
    ids=["a key", "in capitals", "bytes", "a password", "a query", "a fragment"],
)
def test_a_key_where_none_belongs_is_refused_unseen(options: dict[str, Any]) -> None:
    """A key given as the variable's name, or in the address, is refused and not shown."""
    from koe5_integrations.fields import EncoderFields

    for made in (KoE5Encoder, lambda **given: EncoderFields(**given)._build_encoder("koe5-mini")):
        with pytest.raises(ConfigError, match=r"not shown|not the key itself") as caught:
            made(**({"base_url": "https://tei.example"} | options))
        written = "".join(traceback.format_exception(caught.value)).casefold()
        value = KEY.casefold()
        assert value not in written
        assert value.replace("-", "") not in written


def test_a_collection_does_not_say_where_the_server_is(xlm_roberta: Path) -> None:
    """What Chroma stores of an embedding function has neither address nor key, and takes none."""
    pytest.importorskip("chromadb")
    from koe5_integrations.chroma import KoE5EmbeddingFunction

    function = KoE5EmbeddingFunction(
        str(xlm_roberta), base_url="http://127.0.0.1:9", api_key_env="TEI_API_KEY"
    )
    assert function.get_config() == {"model": str(xlm_roberta)}
    stored = function.get_config() | {"base_url": "http://elsewhere.example"}
    with pytest.raises(ConfigError, match="unknown: base_url"):
        KoE5EmbeddingFunction.build_from_config(stored)
