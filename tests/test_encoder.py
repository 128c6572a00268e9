"""Tests of koe5_integrations.encoder: the contracts every adapter rests on."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tiny_models import make_static, make_xlm_roberta

import koe5_integrations.handle
from koe5_integrations import PROFILES, Fingerprint, KoE5Encoder, release_models
from koe5_integrations.backends import Tokens
from koe5_integrations.backends.static import StaticBackend
from koe5_integrations.errors import (
    ConfigError,
    EmptyTextError,
    EncodingError,
    PrefixedTextError,
    PrefixedTextWarning,
    TextTypeError,
    TruncateDimWarning,
    TruncationError,
    TruncationWarning,
    UnknownModelError,
)
from koe5_integrations.truncation import Truncation
from koe5_integrations.types import Vectors

WAIT = 20
TEXTS = [
    "파이썬 문자열이 불변인 이유는 무엇입니까?",
    "헌법",
    "제빵사는 밀가루와 물과 소금으로 빵을 굽는다.\n\n서울의 겨울은 춥고 건조하다.",
    "emoji 👨‍👩‍👧‍👦 und｢법원조직 법｣",
    "서울의 겨울은 춥고 건조하며 여름은 덥고 습하다. " * 10,  # more than the 64 tokens it reads
]
STS = "jhgan/ko-sroberta-multitask"


@pytest.fixture(scope="module")
def reference(xlm_roberta: Path) -> Any:
    """The same model as sentence-transformers loads it."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(xlm_roberta), device="cpu")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each pass of a static model has embedded."""
    seen: list[int] = []
    forward = StaticBackend.forward

    def counted(self: StaticBackend, batch: Sequence[Tokens]) -> Vectors:
        seen.append(len(batch))
        return forward(self, batch)

    monkeypatch.setattr(StaticBackend, "forward", counted)
    return seen


@pytest.fixture
def loads(fresh_models: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of which a model has been loaded."""
    seen: list[str] = []
    load = koe5_integrations.handle.load_backend

    def counted(folder: Any, *args: Any, **options: Any) -> Any:
        seen.append(str(folder.path))
        return load(folder, *args, **options)

    monkeypatch.setattr(koe5_integrations.handle, "load_backend", counted)
    return seen


def slow_down(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[int]:
    """Make every pass of a static model slow, and return how many texts each has embedded."""
    seen: list[int] = []
    forward = StaticBackend.forward

    def slow(self: StaticBackend, batch: Sequence[Tokens]) -> Vectors:
        seen.append(len(batch))
        time.sleep(seconds)
        return forward(self, batch)

    monkeypatch.setattr(StaticBackend, "forward", slow)
    return seen


# Exactness


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


def test_equal_texts_are_embedded_once(static_model: Path, passes: list[int]) -> None:
    """Equal texts of a call, equal after NFC too, go through the model once."""
    encoder = KoE5Encoder(static_model)
    texts = ["헌법", unicodedata.normalize("NFD", "헌법"), "서울", "헌법"]
    vectors = encoder.encode_passages(texts)
    assert passes == [2]
    assert encoder.computed == 2
    np.testing.assert_array_equal(vectors, vectors[[0, 0, 2, 0]])
    assert not np.allclose(vectors[0], vectors[2])
    vectors[0] = 0
    assert vectors[3].any()


# Checks before any work


@pytest.mark.parametrize("verb", ["encode_queries", "encode_passages", "count_tokens"])
@pytest.mark.parametrize(
    ("bad", "error"), [(None, TextTypeError), ("", EmptyTextError), (b"x", TextTypeError)]
)
def test_a_bad_text_is_found_before_anything_is_loaded(
    loads: list[str], static_model: Path, verb: str, bad: Any, error: type[Exception]
) -> None:
    """The last of many texts is bad: its position is named and no model is loaded."""
    encode = getattr(KoE5Encoder(static_model), verb)
    role = ["query"] if verb == "count_tokens" else []
    with pytest.raises(error) as caught:
        encode([*TEXTS, bad], *role)
    assert caught.value.position == len(TEXTS)  # type: ignore[attr-defined]
    assert loads == []


def test_a_bad_text_is_found_before_the_model_is_looked_for(tmp_path: Path) -> None:
    """A model that can't be had is no reason to hide what is wrong with the text."""
    encoder = KoE5Encoder("me/tuned", profile="nlpai-lab/KoE5", cache_folder=tmp_path)
    with pytest.raises(EmptyTextError):
        encoder.encode_queries([""])


async def test_the_async_twins_raise_the_same(static_model: Path) -> None:
    """A bad text is the same error through the event loop."""
    encoder = KoE5Encoder(static_model)
    for encode in (encoder.aencode_queries, encoder.aencode_passages):
        with pytest.raises(EmptyTextError) as caught:
            await encode(["가", " "])
        assert caught.value.position == 1


def test_prefixed_text_is_named_in_a_warning(static_model: Path) -> None:
    """By default a prefixed text is embedded with our prefix on top, and warned of."""
    encoder = KoE5Encoder(static_model)
    with pytest.warns(PrefixedTextWarning, match="positions 1"):
        vectors = encoder.encode_queries(["헌법", "query: 헌법"])
    assert not np.allclose(vectors[0], vectors[1])


def test_prefixed_text_is_refused_before_anything_is_embedded(
    static_model: Path, passes: list[int]
) -> None:
    """With on_prefixed="error" nothing runs."""
    encoder = KoE5Encoder(static_model, on_prefixed="error")
    with pytest.raises(PrefixedTextError) as caught:
        encoder.encode_passages([*TEXTS, "passage: 헌법"])
    assert caught.value.position == len(TEXTS)
    assert passes == []


def test_kept_prefixes_are_not_added_again(static_model: Path, passes: list[int]) -> None:
    """With on_prefixed="keep" bare and prefixed texts are one text; the other role's raises."""
    encoder = KoE5Encoder(static_model, on_prefixed="keep")
    vectors = encoder.encode_queries(["헌법", "query: 헌법"])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert passes == [1]
    with pytest.raises(PrefixedTextError, match="other role"):
        encoder.encode_queries(["헌법", "passage: 헌법"])
    assert passes == [1]


def test_cut_text_is_named_in_a_warning_and_counted(xlm_roberta: Path) -> None:
    """By default a text beyond the model's length is cut, warned of and counted per encoder."""
    encoder, other = KoE5Encoder(xlm_roberta), KoE5Encoder(xlm_roberta)
    uncut = encoder.count_tokens(TEXTS, "passage")
    beyond = sum(n - 64 for n in uncut if n > 64)
    assert [n > 64 for n in uncut] == [False, False, False, False, True]
    with pytest.warns(TruncationWarning, match=r"1 of 5 texts \(positions 4\)"):
        encoder.encode_passages(TEXTS)
    assert encoder.truncation == Truncation(1, beyond)
    with pytest.warns(TruncationWarning):
        encoder.encode_passages(TEXTS[-1:] * 3)
    assert encoder.truncation == Truncation(4, 4 * beyond)
    assert other.truncation == Truncation(0, 0)


def test_cut_text_is_refused_before_anything_is_embedded(
    static_model: Path, passes: list[int]
) -> None:
    """With on_truncation="error" nothing runs, nothing is counted, and the text is named."""
    encoder = KoE5Encoder(static_model, max_seq_length=30, on_truncation="error")
    with pytest.raises(TruncationError, match="the model reads 30") as caught:
        encoder.encode_passages(["헌법", TEXTS[-1]])
    assert caught.value.position == 1
    assert passes == []
    assert encoder.truncation == Truncation(0, 0)


def test_cut_text_is_counted_even_if_ignored(static_model: Path) -> None:
    """With on_truncation="ignore" there is no warning, but there is the count."""
    encoder = KoE5Encoder(static_model, max_seq_length=30, on_truncation="ignore")
    (uncut,) = encoder.count_tokens(TEXTS[-1:], "query")
    encoder.encode_queries(TEXTS[-1:])
    assert encoder.truncation == Truncation(1, uncut - 30)


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


def test_a_vector_that_is_not_finite_is_an_error(
    static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN from the model is never returned, but named by the text's position."""
    forward = StaticBackend.forward

    def spoil(self: StaticBackend, batch: Sequence[Tokens]) -> Vectors:
        vectors = forward(self, batch)
        vectors[[len(t.ids) == shortest for t in batch]] = np.nan
        return vectors

    encoder = KoE5Encoder(static_model)
    counts = encoder.count_tokens(TEXTS, "query")
    shortest = min(counts)
    monkeypatch.setattr(StaticBackend, "forward", spoil)
    expected = rf"NaN or infinity for texts\[{counts.index(shortest)}\]"
    with pytest.raises(EncodingError, match=expected):
        encoder.encode_queries(TEXTS)


def test_errors_name_the_callers_position_among_equal_texts(
    static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text behind repeated ones is found at its place in the caller's list."""
    encoder = KoE5Encoder(static_model, max_seq_length=30, on_truncation="error")
    repeated = ["헌법", "헌법", "서울", "서울"]
    with pytest.raises(TruncationError) as cut:
        encoder.encode_passages([*repeated, TEXTS[-1], TEXTS[-1]])
    assert cut.value.position == 4
    forward = StaticBackend.forward

    def spoil(self: StaticBackend, batch: Sequence[Tokens]) -> Vectors:
        vectors = forward(self, batch)
        longest = max(len(text.ids) for text in batch)
        vectors[[len(text.ids) == longest for text in batch]] = np.nan
        return vectors

    monkeypatch.setattr(StaticBackend, "forward", spoil)
    with pytest.raises(EncodingError, match=r"texts\[4\]"):
        encoder.encode_passages([*repeated, TEXTS[0]])


@pytest.mark.filterwarnings("default::koe5_integrations.errors.KoE5Warning")
@pytest.mark.parametrize(
    "work",
    [
        lambda path: KoE5Encoder(path).encode_queries(["query: 헌법"]),
        lambda path: KoE5Encoder(path, max_seq_length=1).encode_queries(["헌법"]),
        lambda path: KoE5Encoder(path, truncate_dim=4),
    ],
    ids=["prefixed", "cut text", "cut vector"],
)
def test_warnings_point_at_the_callers_file(
    static_model: Path, work: Callable[[Path], object]
) -> None:
    """A warning shows the line that called, not one of ours."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work(static_model)
    assert [Path(w.filename) for w in caught] == [Path(__file__)]


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


def test_counting_loads_no_torch(xlm_roberta: Path) -> None:
    """Tokens of a transformer model are counted without torch, transformers or weights."""
    code = f"""
import json, sys
from koe5_integrations import KoE5Encoder
counts = KoE5Encoder({str(xlm_roberta)!r}).count_tokens({TEXTS!r}, "passage")
print(json.dumps([counts, [m for m in ("torch", "transformers") if m in sys.modules]]))
"""
    counts, loaded = json.loads(run_python(code))
    assert counts == KoE5Encoder(xlm_roberta).count_tokens(TEXTS, "passage")
    assert loaded == []


@pytest.mark.parametrize("role", ["document", "Query", "", None])
def test_counting_knows_two_roles(static_model: Path, role: Any) -> None:
    """A role that is neither query nor passage is refused."""
    with pytest.raises(ConfigError, match=r"must be 'query' or 'passage'"):
        KoE5Encoder(static_model).count_tokens(["가"], role)


# What an encoder says of itself


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


# Processes


def run_python(code: str, *args: str, timeout: float = 120) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        check=True,
        timeout=timeout,
    )
    return done.stdout


@pytest.mark.parametrize("kind", ["transformer", "static"])
def test_pickles_its_settings_into_a_new_process(
    kind: str, xlm_roberta: Path, static_model: Path, tmp_path: Path
) -> None:
    """A loaded encoder pickles without its model, and gives the same vectors elsewhere."""
    path = xlm_roberta if kind == "transformer" else static_model
    encoder = KoE5Encoder(path, on_truncation="ignore")
    expected = encoder.encode_queries(TEXTS)
    pickled = pickle.dumps(encoder)
    assert len(pickled) < 5000
    assert pickle.loads(pickled).truncation == Truncation(0, 0)
    (tmp_path / "encoder.pkl").write_bytes(pickled)
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    code = """
import json, pickle, sys
from pathlib import Path
import numpy as np
folder = Path(sys.argv[1])
encoder = pickle.loads((folder / "encoder.pkl").read_bytes())
texts = json.loads((folder / "texts.json").read_text())
np.save(folder / "vectors.npy", encoder.encode_queries(texts))
print(encoder.fingerprint)
"""
    assert run_python(code, str(tmp_path)).strip() == str(encoder.fingerprint)
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_forked_child_loads_its_own(static_model: Path, tmp_path: Path) -> None:
    """A child forked while the parent's worker is busy encodes, and so does the parent after."""
    encoder = KoE5Encoder(static_model)
    expected = encoder.encode_queries(TEXTS)
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            encoder.encode_passages(TEXTS * 20)

    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(keep_busy) for _ in range(2)]
        for i in range(5):
            pid = os.fork()
            if pid == 0:
                signal.alarm(WAIT)  # rather than wait for ever
                try:
                    np.save(tmp_path / f"{i}.npy", encoder.encode_queries(TEXTS))
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(pid, 0)[1] == 0
            np.testing.assert_allclose(np.load(tmp_path / f"{i}.npy"), expected, atol=1e-6)
        stop.set()
        for future in busy:
            future.result(WAIT)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), expected, atol=1e-6)


def test_a_process_ends_while_work_is_waiting(static_model: Path) -> None:
    """A script that leaves minutes of work behind ends cleanly after the pass that is running."""
    code = f"""
import threading, time
from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.static import StaticBackend

running, forward = threading.Event(), StaticBackend.forward

def slow(self, batch):
    running.set()
    time.sleep(0.1)
    return forward(self, batch)

StaticBackend.forward = slow
encoder = KoE5Encoder({str(static_model)!r}, batch_size=1)
work = lambda: encoder.encode_passages(["헌법"] * 3000)
threading.Thread(target=work, daemon=True).start()
assert running.wait(20)
print("done")
"""
    assert run_python(code, timeout=30).strip() == "done"


def test_weights_written_over_in_place_are_used(tmp_path: Path) -> None:
    """A new encoder on a folder whose weights were replaced uses the new ones."""
    path = make_static(tmp_path / "model")
    old = KoE5Encoder(path)
    before, digest = old.encode_queries(TEXTS), str(old.fingerprint)
    table = load_file(path / "model.safetensors")["embedding.weight"]
    save_file({"embedding.weight": table[::-1].copy()}, path / "model.safetensors")
    os.utime(path / "model.safetensors", ns=(1, 1))  # as if a coarse clock had ticked
    new = KoE5Encoder(path)
    assert str(new.fingerprint) != digest
    assert not np.allclose(new.encode_queries(TEXTS), before)
    # The old encoder stays what its fingerprint says.
    assert str(old.fingerprint) == digest
    np.testing.assert_array_equal(old.encode_queries(TEXTS), before)


# Concurrency


@pytest.fixture(params=["transformer", "static"])
def busy_encoder(request: pytest.FixtureRequest, xlm_roberta: Path, static_model: Path) -> Any:
    path = xlm_roberta if request.param == "transformer" else static_model
    return KoE5Encoder(path, on_truncation="ignore", batch_tokens=256)


def numbered(n: int) -> list[str]:
    return [f"{i} 번째 {TEXTS[i % 3]}" for i in range(n)]


def test_threads_get_their_own_vectors(busy_encoder: KoE5Encoder) -> None:
    """Eight threads that encode fifty times each all get what they asked for."""
    texts = numbered(40)
    expected = busy_encoder.encode_passages(texts)
    start = threading.Barrier(8)

    def work(seed: int) -> float:
        rng = np.random.default_rng(seed)
        start.wait(WAIT)
        worst = 0.0
        for _ in range(50):
            picks = rng.integers(0, len(texts), size=rng.integers(1, 6))
            vectors = busy_encoder.encode_passages([texts[i] for i in picks])
            worst = max(worst, float(np.abs(vectors - expected[picks]).max()))
        return worst

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(work, range(8))) < 1e-5


async def test_tasks_get_their_own_vectors_beside_a_bulk_job(busy_encoder: KoE5Encoder) -> None:
    """Sixty-four tasks and a bulk job at once all get what they asked for."""
    texts = numbered(400)
    passages = busy_encoder.encode_passages(texts)
    queries = busy_encoder.encode_queries(texts[:64])
    bulk, *single = await asyncio.gather(
        busy_encoder.aencode_passages(texts),
        *(busy_encoder.aencode_queries([text]) for text in texts[:64]),
    )
    np.testing.assert_allclose(bulk, passages, atol=1e-5)
    np.testing.assert_allclose(np.concatenate(single), queries, atol=1e-5)


async def test_the_event_loop_keeps_ticking(
    fresh_models: None, static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a slow model loads and runs, for a second in all, other tasks get their turns."""
    slow_down(monkeypatch, 0.05)
    load = koe5_integrations.handle.load_backend

    def slow_load(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.5)
        return load(*args, **kwargs)

    monkeypatch.setattr(koe5_integrations.handle, "load_backend", slow_load)
    encoder = KoE5Encoder(static_model, batch_size=1)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticker = asyncio.create_task(tick())
    await encoder.aencode_passages(numbered(10))
    ticker.cancel()
    assert ticks > 20  # on the loop, loading and running would leave it no turn at all


async def test_cancelling_a_task_stops_its_work(
    static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled call stops at the next pass, and the encoder goes on with the next one."""
    encoder = KoE5Encoder(static_model, batch_size=1)
    expected = encoder.encode_queries(["헌법"])
    seen = slow_down(monkeypatch, 0.02)
    task = asyncio.create_task(encoder.aencode_passages(numbered(200)))
    while not seen:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    np.testing.assert_array_equal(await encoder.aencode_queries(["헌법"]), expected)
    assert len(seen) < 20


@pytest.mark.alone
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no such signal")
def test_an_interrupted_call_stops_its_work(
    static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C the rest of a long job is not embedded."""
    encoder = KoE5Encoder(static_model, batch_size=1)
    encoder.encode_queries(["헌법"])
    seen = slow_down(monkeypatch, 0.02)
    here = threading.get_ident()
    # What a shell starts in the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt = threading.Timer(0.1, signal.pthread_kill, [here, signal.SIGINT])
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        encoder.encode_passages(numbered(500))
    interrupt.join(WAIT)
    signal.signal(signal.SIGINT, before)
    encoder.encode_queries(["헌법"])
    assert len(seen) < 100


async def test_cancelling_while_the_model_loads_embeds_nothing(
    fresh_models: None, static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call cancelled before its work was queued never runs; the load is not wasted."""
    started, may_load = threading.Event(), threading.Event()
    load = koe5_integrations.handle.load_backend

    def held(*args: Any, **kwargs: Any) -> Any:
        started.set()
        assert may_load.wait(WAIT)
        return load(*args, **kwargs)

    monkeypatch.setattr(koe5_integrations.handle, "load_backend", held)
    seen = slow_down(monkeypatch, 0.02)
    encoder = KoE5Encoder(static_model, batch_size=1)
    task = asyncio.create_task(encoder.aencode_passages(numbered(200)))
    assert await asyncio.to_thread(started.wait, WAIT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == []
    may_load.set()
    for _ in range(3):
        assert (await encoder.aencode_queries(["헌법"])).shape == (1, 16)
        await asyncio.sleep(0.1)
    assert len(seen) <= 4  # the three questions, and a pass that may have begun


async def test_a_timeout_is_a_cancellation(
    static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio.timeout() ends a call in time."""
    encoder = KoE5Encoder(static_model, batch_size=1)
    encoder.encode_queries(["헌법"])
    seen = slow_down(monkeypatch, 0.02)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await encoder.aencode_passages(numbered(500))
    await encoder.aencode_queries(["헌법"])
    assert len(seen) < 100


def test_one_encoder_serves_several_event_loops(static_model: Path) -> None:
    """An encoder is bound to no event loop."""
    encoder = KoE5Encoder(static_model)
    first = asyncio.run(encoder.aencode_queries(TEXTS))
    with ThreadPoolExecutor(2) as pool:
        others = list(
            pool.map(lambda _: asyncio.run(encoder.aencode_queries(TEXTS)), range(2), timeout=WAIT)
        )
    for vectors in others:
        np.testing.assert_array_equal(vectors, first)


# Progress


@pytest.fixture
def stderr_only(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    def read() -> str:
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return read


def test_progress_is_drawn_on_stderr_if_asked(
    static_model: Path, stderr_only: Callable[[], str]
) -> None:
    """A progress bar counts texts up to the last one, and is silent by default."""
    encoder = KoE5Encoder(static_model, batch_size=1)
    encoder.encode_passages(numbered(4))
    assert stderr_only() == ""
    encoder.encode_passages(numbered(4), show_progress=True)
    drawn = stderr_only()
    assert "embedding passage" in drawn
    assert "4/4" in drawn
    assert drawn.endswith("\n")
    asyncio.run(encoder.aencode_queries(numbered(3), show_progress=True))
    assert "3/3" in stderr_only()
    encoder.encode_passages(numbered(3) * 2, show_progress=True)
    assert "6/6" in stderr_only()


def test_models_released_in_between_are_loaded_again(loads: list[str], static_model: Path) -> None:
    """release_models() frees the model; the encoder itself stays usable."""
    encoder = KoE5Encoder(static_model)
    before = encoder.encode_queries(TEXTS)
    release_models()
    np.testing.assert_array_equal(encoder.encode_queries(TEXTS), before)
    assert loads == [str(static_model), str(static_model)]
