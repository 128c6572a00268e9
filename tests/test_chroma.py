"""KoE5EmbeddingFunction itself: its roles, its options and the configuration Chroma stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chroma_samples import QUERY, TEXTS
from new_process import run_python

pytest.importorskip("chromadb")

from chromadb.utils.embedding_functions import known_embedding_functions

from koe5_integrations.chroma import KoE5EmbeddingFunction
from koe5_integrations.errors import ConfigError, UnknownModelError


@pytest.fixture
def function(static_model: Path) -> KoE5EmbeddingFunction:
    return KoE5EmbeddingFunction(static_model)


def test_the_roles_differ(function: KoE5EmbeddingFunction) -> None:
    """The same text is another vector as a question than as a document, both float32."""
    [document], [query] = function([QUERY]), function.embed_query([QUERY])
    assert document.dtype == query.dtype == np.float32
    assert document.shape == query.shape == (16,)
    assert np.dot(document, query) < 0.9999
    np.testing.assert_array_equal(document, function.encoder.encode_passages([QUERY])[0])
    np.testing.assert_array_equal(query, function.encoder.encode_queries([QUERY])[0])


def test_constructing_is_free() -> None:
    """Constructing any number of functions, of any model, loads none and reads no file of it."""
    script = """
import json, sys
from koe5_integrations.chroma import KoE5EmbeddingFunction
for _ in range(2000):
    KoE5EmbeddingFunction()
    KoE5EmbeddingFunction("koe5-mini").get_config()
    KoE5EmbeddingFunction.build_from_config({"model": "/nowhere/koe5"}).get_config()
print(json.dumps(sorted({"torch", "transformers", "safetensors"} & set(sys.modules))))
"""
    assert run_python(script) == []


def test_the_name_is_registered_on_import() -> None:
    """Chroma knows the class by the name it stores."""
    assert KoE5EmbeddingFunction.name() == "koe5"
    assert known_embedding_functions["koe5"] is KoE5EmbeddingFunction


def test_model_and_model_name_are_the_same_argument(static_model: Path) -> None:
    """A model is given by position, as model_name or as model; two different ones are refused."""
    given = [
        KoE5EmbeddingFunction(static_model),  # type: ignore[arg-type]  # a Path works too
        KoE5EmbeddingFunction(str(static_model)),
        KoE5EmbeddingFunction(model_name=str(static_model)),
        KoE5EmbeddingFunction(model=str(static_model)),
        KoE5EmbeddingFunction(str(static_model), model=str(static_model)),
    ]
    assert [function.get_config() for function in given] == [{"model": str(static_model)}] * 5
    assert KoE5EmbeddingFunction().get_config() == {"model": "nlpai-lab/KoE5"}
    with pytest.raises(ConfigError, match="give one"):
        KoE5EmbeddingFunction("koe5-mini", model=str(static_model))


def test_an_impossible_option_is_an_error_at_once(static_model: Path) -> None:
    """Options are checked when constructing."""
    with pytest.raises(ConfigError, match="batch_size=0"):
        KoE5EmbeddingFunction(str(static_model), batch_size=0)
    with pytest.raises(UnknownModelError):
        KoE5EmbeddingFunction("nlpai-lab/KoE6")
    with pytest.raises(TypeError, match="normalise"):
        KoE5EmbeddingFunction(str(static_model), normalise=True)  # type: ignore[call-arg]  # no such


def test_progress_is_drawn_when_asked_for(
    static_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A progress bar counts documents on stderr with show_progress=True."""
    KoE5EmbeddingFunction(str(static_model), show_progress=True)(TEXTS)
    assert "4/4" in capsys.readouterr().err


def test_the_stored_configuration_decides_vectors_and_nothing_else(static_model: Path) -> None:
    """Prompts and lengths are stored; device, batch sizes and folders of the machine are not."""
    function = KoE5EmbeddingFunction(
        str(static_model),
        query_prompt="질문: ",
        max_seq_length=128,
        normalize_unicode=False,
        device="cpu",
        batch_size=8,
        cache_folder="/cache",
        on_truncation="ignore",
    )
    config = {
        "model": str(static_model),
        "query_prompt": "질문: ",
        "max_seq_length": 128,
        "normalize_unicode": False,
    }
    assert function.get_config() == config
    twin = KoE5EmbeddingFunction.build_from_config(json.loads(json.dumps(config)))
    assert twin.get_config() == config
    assert twin.encoder.fingerprint == function.encoder.fingerprint
    np.testing.assert_array_equal(twin.embed_query([QUERY]), function.embed_query([QUERY]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model": "koe5-mini", "normalise": True}, "unknown: normalise"),
        ({"model": "koe5-mini", "device": "cuda"}, "unknown: device"),
        ({"model": "koe5-mini", "trust_remote_code": True}, "unknown: trust_remote_code"),
        ({"query_prompt": "query: "}, "'model' is missing"),
        ({"model": 3}, "'model' is missing"),
        ({"model": "koe5-mini", "precision": "int4"}, "precision='int4'"),
        ({"model": "koe5-mini", "max_seq_length": "512"}, "max_seq_length='512'"),
    ],
    ids=["unknown", "machine", "code", "no model", "model", "choice", "type"],
)
def test_a_configuration_that_is_not_ours_is_refused(config: dict[str, Any], message: str) -> None:
    """Keys and values that get_config() never writes raise an error that names them."""
    with pytest.raises(ConfigError, match=message):
        KoE5EmbeddingFunction.validate_config(config)
    with pytest.raises(ConfigError, match=message):
        KoE5EmbeddingFunction.build_from_config(config)
