"""Tests of koe5_integrations.encoder: the vectors it returns, which every adapter rests on."""

from __future__ import annotations

import asyncio
import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoder_samples import STS, TEXTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import make_xlm_roberta

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError, TruncateDimWarning
from koe5_integrations.types import Vectors


@pytest.fixture(scope="module")
def reference(xlm_roberta: Path) -> Any:
    """The same model as sentence-transformers loads it."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(xlm_roberta), device="cpu")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(None, id="fixture with query and passage prompts"),
        pytest.param(
            {"prompts": {"query": "", "document": "document: "}, "default_prompt_name": None},
            id="document prompt",
        ),
        pytest.param(
            {
                "prompts": {"query": "Q: ", "document": "D: ", "passage": "P: "},
                "default_prompt_name": "document",
            },
            id="other prompts and a default",
        ),
        pytest.param({"prompts": {}, "default_prompt_name": None}, id="no prompts"),
    ],
)
def trap(
    request: pytest.FixtureRequest, xlm_roberta: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same model under different prompts in its own configuration."""
    if request.param is None:
        return xlm_roberta
    path = Path(shutil.copytree(xlm_roberta, tmp_path_factory.mktemp("trap") / "model"))
    own = path / "config_sentence_transformers.json"
    config = json.loads(own.read_text()) | request.param
    own.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(("role", "prefix"), [("query", "query: "), ("passage", "passage: ")])
@pytest.mark.parametrize("batched", [False, True], ids=["alone", "batched"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_equals_sentence_transformers_with_the_prefix_written_out(
    trap: Path, reference: Any, role: str, prefix: str, batched: bool, asynchronous: bool
) -> None:
    """One prefix, added once, whatever prompts the model's own configuration holds."""
    encoder = KoE5Encoder(trap, on_truncation="ignore")
    verb = {"query": "queries", "passage": "passages"}[role]

    def encode(texts: list[str]) -> Vectors:
        if asynchronous:
            return asyncio.run(getattr(encoder, f"aencode_{verb}")(texts))
        return getattr(encoder, f"encode_{verb}")(texts)

    vectors = encode(TEXTS) if batched else np.concatenate([encode([text]) for text in TEXTS])
    expected = reference.encode([prefix + text for text in TEXTS], prompt="")
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_the_roles_differ(xlm_roberta: Path) -> None:
    """The same words as a question and as a passage are two vectors."""
    encoder = KoE5Encoder(xlm_roberta)
    similarity = (encoder.encode_queries(TEXTS[:1]) @ encoder.encode_passages(TEXTS[:1]).T).item()
    assert similarity < 0.9999


def test_prompts_given_explicitly_are_used(xlm_roberta: Path, reference: Any) -> None:
    """A prompt of one's own is put in front as it is, an empty one not at all."""
    encoder = KoE5Encoder(xlm_roberta, query_prompt="질문 : ", passage_prompt="")
    texts = TEXTS[:2]
    expected = reference.encode([f"질문 : {text}" for text in texts], prompt="")
    np.testing.assert_allclose(encoder.encode_queries(texts), expected, atol=1e-5)
    expected = reference.encode(texts, prompt="")
    np.testing.assert_allclose(encoder.encode_passages(texts), expected, atol=1e-5)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    picks=st.lists(st.integers(0, 23), min_size=1, max_size=500),
    batch_tokens=st.sampled_from([None, 64, 500]),
    batch_size=st.sampled_from([None, 1, 7]),
)
@pytest.mark.parametrize("kind", ["transformer", "static"])
def test_keeps_the_order_of_any_batch(
    kind: str,
    xlm_roberta: Path,
    static_model: Path,
    picks: list[int],
    batch_tokens: int | None,
    batch_size: int | None,
) -> None:
    """Up to 500 texts of mixed length, duplicates among them, each get the vector of their own."""
    path = xlm_roberta if kind == "transformer" else static_model
    pool = [" ".join(TEXTS[i % 3] for i in range(n, 2 * n + 1)) + str(n) for n in range(24)]
    alone = KoE5Encoder(path, batch_size=1, on_truncation="ignore").encode_passages(pool)
    encoder = KoE5Encoder(
        path, batch_tokens=batch_tokens, batch_size=batch_size, on_truncation="ignore"
    )
    vectors = encoder.encode_passages(pool[i] for i in picks)
    np.testing.assert_allclose(vectors, alone[picks], atol=1e-5)


def test_decomposed_hangul_has_the_vector_of_composed(xlm_roberta: Path) -> None:
    """NFD input is embedded as NFC, to the last bit."""
    encoder = KoE5Encoder(xlm_roberta)
    decomposed = unicodedata.normalize("NFD", TEXTS[0])
    assert decomposed != TEXTS[0]
    np.testing.assert_array_equal(
        encoder.encode_queries([decomposed]), encoder.encode_queries([TEXTS[0]])
    )


def test_bundled_like_and_transformer_models_have_the_same_contract(
    xlm_roberta: Path, static_model: Path
) -> None:
    """Whatever the backend: float32, contiguous, finite, unit length, one row per text."""
    for path, dim in ((xlm_roberta, 32), (static_model, 16)):
        encoder = KoE5Encoder(path, on_truncation="ignore")
        for vectors in (encoder.encode_queries(TEXTS), encoder.encode_passages(tuple(TEXTS))):
            assert vectors.shape == (len(TEXTS), dim)
            assert vectors.dtype == np.float32
            assert vectors.flags.c_contiguous
            assert np.isfinite(vectors).all()
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_no_texts_give_no_rows_and_load_nothing(
    loads: list[str], xlm_roberta: Path, asynchronous: bool
) -> None:
    """An empty list is (0, dim) float32, without loading the model."""
    encoder = KoE5Encoder(xlm_roberta)
    for verb in ("queries", "passages"):
        if asynchronous:
            vectors = asyncio.run(getattr(encoder, f"aencode_{verb}")([]))
        else:
            vectors = getattr(encoder, f"encode_{verb}")(iter([]))
        assert (vectors.shape, vectors.dtype) == ((0, 32), np.float32)
    assert loads == []


def test_a_model_that_does_not_normalise_keeps_lengths(tmp_path: Path) -> None:
    """With a similarity model's profile the vectors are the model's own, lengths included."""
    from sentence_transformers import SentenceTransformer

    path = make_xlm_roberta(tmp_path / "sts", normalize=False, max_seq_length=64)
    encoder = KoE5Encoder(path, profile=STS)
    expected = SentenceTransformer(str(path), device="cpu").encode(TEXTS[:3])
    for vectors in (encoder.encode_queries(TEXTS[:3]), encoder.encode_passages(TEXTS[:3])):
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
        assert (np.abs(np.linalg.norm(vectors, axis=1) - 1) > 0.1).all()
    as_koe5 = KoE5Encoder(path).encode_queries(TEXTS[:3])
    np.testing.assert_allclose(np.linalg.norm(as_koe5, axis=1), 1, atol=1e-5)


def test_cut_vectors_are_the_first_dimensions_at_unit_length(xlm_roberta: Path) -> None:
    """truncate_dim= keeps the first dimensions and scales them again."""
    with pytest.warns(TruncateDimWarning):
        encoder = KoE5Encoder(xlm_roberta, truncate_dim=8)
    full = KoE5Encoder(xlm_roberta).encode_queries(TEXTS[:2])[:, :8]
    expected = full / np.linalg.norm(full, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS[:2]), expected, atol=1e-5)
    assert encoder.dim == 8
    assert encoder.encode_queries([]).shape == (0, 8)


def test_reads_fewer_tokens_if_asked(xlm_roberta: Path, reference: Any) -> None:
    """max_seq_length= cuts where sentence-transformers would, special tokens included."""
    encoder = KoE5Encoder(xlm_roberta, max_seq_length=16, on_truncation="ignore")
    assert encoder.max_seq_length == 16
    before = reference.max_seq_length
    reference.max_seq_length = 16
    try:
        expected = reference.encode([f"query: {text}" for text in TEXTS], prompt="")
    finally:
        reference.max_seq_length = before
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore::koe5_integrations.errors.TruncateDimWarning")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"truncate_dim": 33}, "truncate_dim=33 is more than the model's 32"),
        ({"max_seq_length": 65}, "max_seq_length=65 is more than the model's 64"),
    ],
)
def test_more_than_the_model_has_is_refused(
    xlm_roberta: Path, options: dict[str, Any], expected: str
) -> None:
    """More dimensions or tokens than the model has are an error, not a silent maximum."""
    encoder = KoE5Encoder(xlm_roberta, **options)
    with pytest.raises(ConfigError, match=expected):
        encoder.encode_queries(["가"])
