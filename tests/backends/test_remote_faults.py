"""Tests of the remote backend before a server whose every third answer is spoilt on its way.

The long run, with 1,000 requests: ``python tests/benchmarks/remote_faults.py --requests 1000``.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from traceback import TracebackException

import numpy as np
import pytest
from tiny_models import KOREAN

pytest.importorskip("httpx")
pytest.importorskip("stamina")
pytest.importorskip("sentence_transformers")

from embedding_server import KEY, Serving, serving
from fault_proxy import FAULTS, Spoiling, spoiling

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.remote import client
from koe5_integrations.backends.remote.retrying import Patience
from koe5_integrations.errors import EmbeddingServerError, EncodingError

REQUESTS = 100
TEXTS = [f"{one} {i}" for i in range(80) for one in KOREAN[:5]]
# A fault alone, always: what is told of it.
TOLD = {
    "reset": "ReadError|RemoteProtocolError",
    "reset in the middle": "ReadError|RemoteProtocolError",
    "408": "answers with 408",
    "429": "answers with 429",
    "500": "answers with 500",
    "502": "answers with 502",
    "503": "answers with 503",
    "504": "answers with 504",
    "cut JSON": "bytes of application/json that are no JSON",
    "empty": "0 bytes of application/json that are no JSON",
    "HTML": "bytes of text/html that are no JSON",
    "redirection": "a redirection to http://127.0.0.1:9/login, which is not followed",
    "too few": "instead of 2 vectors",
    "same index twice": "not of all 2 texts",
    "NaN": "NaN or infinity",
    "null": "NaN or infinity",
    "other dimension": r"a vector of shape \(3,\)",
    "timeout": "ReadTimeout",
}


@pytest.fixture(autouse=True)
def hurried(fresh_models: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less between attempts than with a real server, and be told a key."""
    hurry = Patience(first_wait=0.001, longest_wait=0.01, connect=2, read=0.8)
    monkeypatch.setattr(client, "PATIENCE", hurry)
    monkeypatch.setattr(client, "FIRST_CONTACT", hurry)
    monkeypatch.setenv("KOE5_API_KEY", KEY)


@pytest.mark.parametrize("kind", ["tei", "vllm"])
def test_no_vector_is_wrong_missing_or_out_of_order(
    xlm_roberta: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a hundred requests, nearly a third of them spoilt, each text gets its own vector."""
    caplog.set_level(logging.DEBUG)
    local = KoE5Encoder(xlm_roberta, backend="torch").encode_passages(TEXTS)
    what = Serving(xlm_roberta, kind, key=KEY)
    parts = [TEXTS[start : start + 100] for start in range(0, len(TEXTS), 100)]
    with serving(what) as upstream:
        spoils = Spoiling(upstream, hang=1)
        with spoiling(spoils) as url, ThreadPoolExecutor(len(parts)) as pool:
            remote = KoE5Encoder(xlm_roberta, base_url=url, batch_size=4)
            found = np.concatenate(list(pool.map(remote.encode_passages, parts)))
    np.testing.assert_allclose(found, local, atol=1e-5)
    spoilt = spoils.done.total() - spoils.done["none"]
    assert spoils.done.total() > REQUESTS
    assert spoilt > 0.2 * REQUESTS
    assert len(spoils.done) > 14, spoils.done
    assert KEY not in caplog.text


@pytest.mark.parametrize("fault", TOLD)
def test_a_fault_that_stays_is_one_error(
    xlm_roberta: Path,
    fault: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a bounded number of attempts the error names server and fault, and never the key."""
    caplog.set_level(logging.DEBUG)
    what = Serving(xlm_roberta, "vllm", key=KEY)
    with serving(what) as upstream:
        spoils = Spoiling(upstream, rate=0, faults=[fault], hang=1)
        with spoiling(spoils) as url:
            remote = KoE5Encoder(xlm_roberta, base_url=url)
            remote.load()
            before = spoils.done.total()
            spoils.rate = 1
            if fault == "timeout":
                monkeypatch.setattr(client, "PATIENCE", Patience(attempts=2, read=0.1))
            with pytest.raises((EmbeddingServerError, EncodingError), match=TOLD[fault]) as caught:
                remote.encode_passages(KOREAN[:2])
    assert spoils.done.total() - before <= 30
    frames = TracebackException.from_exception(caught.value, capture_locals=True).stack[1:]
    assert len(frames) > 5
    shown = [str(caught.value), repr(caught.value), *(str(frame.locals) for frame in frames)]
    assert KEY not in "".join(shown) + caplog.text


def test_every_fault_is_tried() -> None:
    """A fault that is added is also tried alone."""
    assert set(TOLD) | {"slow", "shuffled"} == set(FAULTS)
    assert len(FAULTS) >= 14
