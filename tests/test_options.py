"""Tests of koe5_integrations.options."""

from __future__ import annotations

import inspect
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from koe5_integrations import PROFILES, KoE5Encoder
from koe5_integrations.errors import ConfigError, TruncateDimWarning
from koe5_integrations.options import (
    VECTOR_OPTIONS,
    EncoderOptions,
    check_options,
    check_truncate_dim,
    model_argument,
)
from koe5_integrations.profiles import ModelProfile

VALID: dict[str, list[Any]] = {
    "revision": [None, "main"],
    "profile": [None, "nlpai-lab/KoE5"],
    "query_prompt": [None, "", "query: "],
    "passage_prompt": [None, "", "passage: "],
    "backend": ["auto", "torch", "onnx", "openvino", "static", "remote"],
    "base_url": [None, "http://127.0.0.1:8080", "https://tei.example/koe5/v1/", "http://[::1]:80"],
    "api_key_env": [None, "TEI_API_KEY", "TOKEN", "A_VARIABLE_WITH_QUITE_A_LONG_NAME"],
    "device": [None, "cpu", "cuda:1"],
    "precision": [None, "fp32", "bf16", "fp16", "int8"],
    "compile": [True, False],
    "max_seq_length": [None, 1, 512],
    "truncate_dim": [None, 1, 256],
    "batch_size": [None, 1, 64],
    "batch_tokens": [None, 1, 4096],
    "on_prefixed": ["warn", "error", "keep"],
    "on_truncation": ["warn", "error", "ignore"],
    "normalize_unicode": [True, False],
    "embedding_cache": [None, "vectors"],
    "embedding_cache_size": [None, 1, 100_000],
    "cache_folder": [None, "cache"],
    "local_files_only": [True, False],
}
TEXT, NUMBER, FLAG = (0, True, b"x", ["x"]), ("8", 8.0, True, [8]), (None, 1, "yes")
INVALID: dict[str, tuple[Any, ...]] = {
    "revision": TEXT,
    "profile": TEXT,
    "query_prompt": TEXT,
    "passage_prompt": TEXT,
    "backend": (None, "tensorrt", "TORCH", 1, ["torch"]),
    "base_url": (
        *TEXT,
        "",
        "127.0.0.1:8080",
        "localhost",
        "ftp://tei.example",
        "http://",
        "http://tei.example:port",
        "http://tei.example:99999",
        "http://tei.example/a b",
        "http://user:password@tei.example",
        "https://tei.example?key=secret",
        "https://tei.example#key",
    ),
    "api_key_env": (*TEXT, "", "sk-0123456789abcdef", "hf_AbCdEf", "ABCDEFGHIJKLMNOP0123456789"),
    "device": TEXT,
    "precision": ("float16", "int4", 16, {}),
    "compile": FLAG,
    "max_seq_length": (*NUMBER, 0, -1),
    "truncate_dim": (*NUMBER, 0, -1),
    "batch_size": (*NUMBER, 0, -1),
    "batch_tokens": (*NUMBER, 0, -1),
    "on_prefixed": (None, "ignore", True),
    "on_truncation": (None, "keep", True),
    "normalize_unicode": FLAG,
    "embedding_cache": TEXT,
    "embedding_cache_size": (*NUMBER, 0, -1),
    "cache_folder": TEXT,
    "local_files_only": FLAG,
}


def test_every_option_is_tested() -> None:
    """An option that is added needs its valid and invalid values here."""
    assert set(EncoderOptions.__annotations__) == set(VALID) == set(INVALID)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in VALID.items() for value in values]
)
def test_takes_possible_values(name: str, value: Any) -> None:
    """Every possible value of an option passes the check."""
    check_options({name: value})


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in INVALID.items() for value in values]
)
def test_refuses_impossible_values(name: str, value: Any) -> None:
    """A value of the wrong type or out of range is refused by the option's name."""
    with pytest.raises(ConfigError, match=f"^{name}="):
        check_options({name: value})


@pytest.mark.parametrize("name", INVALID)
def test_the_encoder_refuses_them_when_it_is_made(name: str) -> None:
    """The encoder's constructor checks each option before anything else."""
    with pytest.raises(ConfigError, match=f"^{name}="):
        KoE5Encoder(**{name: INVALID[name][0]})


def test_says_what_would_be_right() -> None:
    """The message names the choices, the types or the range."""
    with pytest.raises(
        ConfigError, match="must be one of 'auto', 'torch', 'onnx', 'openvino', 'static', 'remote'"
    ):
        check_options({"backend": "tensorrt"})
    with pytest.raises(ConfigError, match="'8' must be int or None"):
        check_options({"batch_size": "8"})
    with pytest.raises(ConfigError, match="must be at least 1"):
        check_options({"batch_tokens": 0})


def test_refuses_unknown_options_by_name() -> None:
    """An unknown option is named, with those there are."""
    with pytest.raises(ConfigError, match=r"encode_kwargs= is no option; .*batch_size"):
        check_options({"encode_kwargs": {}})


def test_the_encoder_the_options_and_the_fields_agree() -> None:
    """Encoder, typed dict and pydantic fields have the same options, types and defaults."""
    fields = pytest.importorskip("koe5_integrations.fields")
    parameters = {
        name: p
        for name, p in inspect.signature(KoE5Encoder).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }
    model_fields = fields.EncoderFields.model_fields
    assert list(parameters) == list(EncoderOptions.__annotations__) == list(model_fields)
    defaults = {name: p.default for name, p in parameters.items()}
    assert {name: f.default for name, f in model_fields.items()} == defaults
    check_options(defaults)


def test_options_that_change_vectors_are_options() -> None:
    """The options that change a vector are a part of the options."""
    assert set(EncoderOptions.__annotations__) > VECTOR_OPTIONS
    # Where and how fast must not decide whether vectors may be compared.
    elsewhere = {"backend", "base_url", "api_key_env", "device", "cache_folder"}
    assert not VECTOR_OPTIONS & (elsewhere | {"batch_size", "batch_tokens"})


def test_more_dimensions_than_the_model_has_are_refused() -> None:
    """truncate_dim= can't make vectors longer."""
    with pytest.raises(ConfigError, match=r"truncate_dim=2000 .* 1024 dimensions"):
        check_truncate_dim(2000, PROFILES["nlpai-lab/KoE5"], is_folder=False)


def test_cutting_a_model_not_trained_for_it_warns() -> None:
    """Only a dimension of the model's Matryoshka training passes without a warning."""
    matryoshka = ModelProfile("m", "", "", dim=768, matryoshka=(256, 512))
    with pytest.warns(TruncateDimWarning, match="Matryoshka dimensions: none"):
        check_truncate_dim(256, PROFILES["nlpai-lab/KoE5"], is_folder=False)
    with pytest.warns(TruncateDimWarning, match="256, 512"):
        check_truncate_dim(300, matryoshka, is_folder=False)
    with warnings.catch_warnings(action="error"):
        check_truncate_dim(256, matryoshka, is_folder=False)
        check_truncate_dim(768, matryoshka, is_folder=False)


def test_a_folder_becomes_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a folder is written, it is kept as one absolute path."""
    (tmp_path / "models").mkdir()
    (tmp_path / "link").symlink_to("models")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = (str(tmp_path.resolve() / "models"), True)
    for given in ("models", "./models", Path("models"), "link", "~/models", tmp_path / "models"):
        assert model_argument(given) == expected


def test_a_name_stays_a_name() -> None:
    """A hub name that is no folder here is left as it is."""
    assert model_argument("nlpai-lab/KoE5") == ("nlpai-lab/KoE5", False)
    assert model_argument("koe5-mini") == ("koe5-mini", False)


@pytest.mark.parametrize(
    "missing",
    ["./nowhere", "/no/where", "~/nowhere", "a/b/c", "..\\models", Path("nowhere")],
    ids=str,
)
def test_a_path_where_no_folder_is_is_refused(missing: str | os.PathLike[str]) -> None:
    """What can only be meant as a path is not asked of the hub."""
    with pytest.raises(ConfigError, match="there is no such folder"):
        model_argument(missing)


@pytest.mark.parametrize("model", [None, 3, "", b"", ["a"]], ids=repr)
def test_a_model_that_is_no_text_is_refused(model: object) -> None:
    """The model is a name or a path."""
    with pytest.raises(ConfigError, match="must be a model's name or the path of a folder"):
        model_argument(model)
