"""Tests of koe5_integrations.backends.remote.checks: servers that would embed something else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_models import KOREAN, make_xlm_roberta

pytest.importorskip("httpx")
pytest.importorskip("stamina")
pytest.importorskip("sentence_transformers")

from embedding_server import Serving, serving

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.remote import client
from koe5_integrations.backends.remote.discovery import discover
from koe5_integrations.backends.remote.retrying import Patience
from koe5_integrations.backends.remote.server import Address
from koe5_integrations.errors import ConfigError, EmbeddingServerError

KINDS = ["tei", "vllm", "infinity"]
COMMIT, OTHER_COMMIT = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def hurried(fresh_models: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less between attempts than with a real server."""
    hurry = Patience(first_wait=0.01, longest_wait=0.02, connect=2, read=20)
    monkeypatch.setattr(client, "FIRST_CONTACT", hurry)


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tokenizer, but vectors of another length."""
    return make_xlm_roberta(tmp_path_factory.mktemp("other") / "tiny-koe5", dim=16)


def refusal(model: Path, what: Serving, **options: Any) -> str:
    """Return why an encoder refuses a server, before any text of ours was sent."""
    with serving(what) as url, pytest.raises(ConfigError) as caught:
        KoE5Encoder(model, base_url=url, **options).encode_passages(["비밀"])
    assert "비밀" not in json.dumps([body for _, body in what.asked], ensure_ascii=False)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", ["query: ", "가", "Represent this sentence: "])
def test_a_prompt_of_the_servers_own_is_refused(xlm_roberta: Path, kind: str, prompt: str) -> None:
    """Whatever a server puts in front of every text, of one token even, it is found out."""
    message = refusal(xlm_roberta, Serving(xlm_roberta, kind, default_prompt=prompt))
    assert "without a default prompt" in message
    if kind != "infinity":
        assert "puts a prompt of" in message


def test_usage_gives_a_prompt_away(xlm_roberta: Path) -> None:
    """A server that tells its tokens in nothing but ``usage`` is found out by their number."""
    message = refusal(xlm_roberta, Serving(xlm_roberta, "counting", default_prompt="query: "))
    assert "tokens more than each text has" in message
    with serving(Serving(xlm_roberta, "counting")) as url:
        KoE5Encoder(xlm_roberta, base_url=url).load()
        # A length that the server can't tell apart from a prompt is fine where there is none.
        KoE5Encoder(xlm_roberta, base_url=url, max_seq_length=20).load()


def test_another_tokenizer_is_refused(xlm_roberta: Path, tmp_path: Path) -> None:
    """The same text as other tokens is another model."""
    other = Path(shutil.copytree(xlm_roberta, tmp_path / xlm_roberta.name))
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"][5:] = reversed(tokenizer["model"]["vocab"][5:])
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    for kind in ("tei", "vllm"):
        assert "reads texts as other tokens" in refusal(xlm_roberta, Serving(other, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_reads_less_is_refused(xlm_roberta: Path, tmp_path: Path, kind: str) -> None:
    """Texts would be cut, or refused, that the model reads whole."""
    shorter = Path(shutil.copytree(xlm_roberta, tmp_path / xlm_roberta.name))
    config = json.loads((shorter / "sentence_bert_config.json").read_text())
    (shorter / "sentence_bert_config.json").write_text(json.dumps(config | {"max_seq_length": 40}))
    what = Serving(shorter, kind, reads=40)
    message = refusal(xlm_roberta, what)
    assert "max_seq_length=" in message
    if kind != "infinity":
        with serving(what) as url:
            assert KoE5Encoder(xlm_roberta, base_url=url, max_seq_length=40).dim == 32


def test_what_tei_says_of_itself_is_compared(xlm_roberta: Path, tmp_path: Path) -> None:
    """Another pooling, commit or kind of model is refused by its name."""
    message = refusal(xlm_roberta, Serving(xlm_roberta, pooling="cls"))
    assert "pools by 'cls', the model by 'mean'" in message
    assert "computes in 'float8'" in refusal(xlm_roberta, Serving(xlm_roberta, dtype="float8"))
    snapshot = Path(shutil.copytree(xlm_roberta, tmp_path / COMMIT))
    message = refusal(snapshot, Serving(snapshot, commit=OTHER_COMMIT))
    assert f"--revision {COMMIT}" in message
    assert f"revision='{OTHER_COMMIT}'" in message
    with serving(Serving(snapshot, commit=COMMIT)) as url:
        KoE5Encoder(snapshot, base_url=url).load()


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_another_name_is_refused(xlm_roberta: Path, kind: str) -> None:
    """A server that answers to any name is not believed; a path is known by its last part."""
    message = refusal(xlm_roberta, Serving(xlm_roberta, kind, name="intfloat/e5-large"))
    assert "serves 'intfloat/e5-large'" in message
    assert "--served-model-name" in message
    for name in ("tiny-koe5", "/data/models/tiny-koe5/", "models/Tiny-KoE5"):
        with serving(Serving(xlm_roberta, kind, name=name)) as url:
            KoE5Encoder(xlm_roberta, base_url=url).load()


def test_owners_of_hub_names_are_told_apart(xlm_roberta: Path) -> None:
    """Somebody else's model of the same name is not the one that was asked for."""
    with serving(Serving(xlm_roberta, name="someone/KoE5")) as url:
        with pytest.raises(ConfigError, match="not 'nlpai-lab/KoE5'"):
            discover(Address(url), ["nlpai-lab/KoE5"])
        assert discover(Address(url), ["Someone/koe5"]).model == "someone/KoE5"


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_another_length_are_refused(
    xlm_roberta: Path, other_model: Path, kind: str
) -> None:
    """Another model's vectors are recognised by their length, whatever the server calls it."""
    with (
        serving(Serving(other_model, kind)) as url,
        pytest.raises(EmbeddingServerError, match="the model's have 32 dimensions"),
    ):
        KoE5Encoder(xlm_roberta, base_url=url).encode_passages(["파이썬"])


def test_models_that_keep_lengths_need_a_server_that_does(tmp_path: Path) -> None:
    """OpenAI's interface has unit vectors only, which is not what some models make."""
    folder = make_xlm_roberta(tmp_path / "sts", normalize=False)
    profile = {"profile": "jhgan/ko-sroberta-multitask"}
    message = refusal(folder, Serving(folder, "vllm"), **profile)
    assert "use Text Embeddings Inference" in message
    with serving(Serving(folder, "tei")) as url:
        found = KoE5Encoder(folder, base_url=url, **profile).encode_passages(KOREAN[:5])
        expected = KoE5Encoder(folder, backend="torch", **profile).encode_passages(KOREAN[:5])
    assert found == pytest.approx(expected, abs=1e-5)
