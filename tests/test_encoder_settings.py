"""Tests of what an encoder says of itself: its settings, its fingerprint, and token counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from encoder_samples import STS, TEXTS

from koe5_integrations import PROFILES, Fingerprint, KoE5Encoder
from koe5_integrations.errors import ConfigError, UnknownModelError
from koe5_integrations.truncation import Truncation


def test_says_what_it_is(loads: list[str], xlm_roberta: Path, static_model: Path) -> None:
    """Size, length, profile and fingerprint are known without loading the model."""
    encoder = KoE5Encoder(xlm_roberta)
    assert (encoder.model, encoder.dim, encoder.max_seq_length) == (str(xlm_roberta), 32, 64)
    assert encoder.profile == PROFILES["nlpai-lab/KoE5"]
    fingerprint = encoder.fingerprint
    assert isinstance(fingerprint, Fingerprint)
    assert fingerprint.query_prompt == "query: "
    assert fingerprint.passage_prompt == "passage: "
    assert (fingerprint.pooling, fingerprint.normalize) == ("mean", True)
    assert (fingerprint.max_seq_length, fingerprint.truncate_dim) == (64, None)
    assert (fingerprint.precision, fingerprint.unicode) == ("fp32", "NFC")
    static = KoE5Encoder(static_model)
    assert (static.dim, static.max_seq_length) == (16, None)
    assert loads == []


def test_an_unknown_hub_name_is_refused_when_made() -> None:
    """The encoder never guesses a prefix."""
    with pytest.raises(UnknownModelError, match="query_prompt="):
        KoE5Encoder("someone/some-model")


def test_a_borrowed_profile_says_nothing_of_size_or_commit(tmp_path: Path) -> None:
    """A hub name used as KoE5 has KoE5's prompts, but not its dimensions or its commit."""
    encoder = KoE5Encoder("me/tuned", profile="nlpai-lab/KoE5", cache_folder=tmp_path)
    assert encoder.profile.query_prompt == "query: "
    with pytest.raises(OSError, match="'me/tuned' is not in the local cache"):
        _ = encoder.dim


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"query_prompt": "Q: ", "passage_prompt": "", "device": "cpu", "precision": "bf16"},
        {"profile": STS, "on_prefixed": "keep", "on_truncation": "error"},
        {"max_seq_length": 32, "batch_size": 4, "batch_tokens": 128, "normalize_unicode": False},
        {"backend": "torch", "revision": "main", "cache_folder": "c", "local_files_only": True},
        {"embedding_cache": "e", "embedding_cache_size": 9, "compile": True},
    ],
    ids=str,
)
def test_its_configuration_rebuilds_it(xlm_roberta: Path, options: dict[str, Any]) -> None:
    """config() is JSON, holds what differs from the defaults, and makes an equal encoder."""
    encoder = KoE5Encoder(xlm_roberta, **options)
    config = json.loads(json.dumps(encoder.config()))
    assert config == {"model": str(xlm_roberta), **options}
    again = KoE5Encoder(**config)
    assert again == encoder
    assert hash(again) == hash(encoder)
    assert again.config() == config
    assert repr(again) == repr(encoder)
    assert again != KoE5Encoder(xlm_roberta, max_seq_length=7)
    assert again.fingerprint == encoder.fingerprint


def test_paths_may_be_path_objects(xlm_roberta: Path, tmp_path: Path) -> None:
    """Path objects and strings make the same encoder."""
    assert KoE5Encoder(xlm_roberta, cache_folder=tmp_path) == KoE5Encoder(
        str(xlm_roberta), cache_folder=str(tmp_path)
    )


# Counting tokens


@pytest.mark.parametrize("role", ["query", "passage"])
@pytest.mark.parametrize("loaded", [False, True])
def test_counts_the_tokens_transformers_counts(
    fresh_models: None, xlm_roberta: Path, role: Any, loaded: bool
) -> None:
    """Prefix and special tokens are counted, and nothing is cut, loaded or not."""
    from transformers import AutoTokenizer

    encoder = KoE5Encoder(xlm_roberta)
    if loaded:
        encoder.encode_queries(["헌법"])
    tokenizer = AutoTokenizer.from_pretrained(xlm_roberta)
    expected = [len(tokenizer(f"{role}: {t}", truncation=False)["input_ids"]) for t in TEXTS]
    assert encoder.count_tokens(TEXTS, role) == expected
    assert encoder.truncation == Truncation(0, 0)


@pytest.mark.parametrize("role", ["document", "Query", "", None])
def test_counting_knows_two_roles(static_model: Path, role: Any) -> None:
    """A role that is neither query nor passage is refused."""
    with pytest.raises(ConfigError, match=r"must be 'query' or 'passage'"):
        KoE5Encoder(static_model).count_tokens(["가"], role)
