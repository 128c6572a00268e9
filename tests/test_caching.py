"""Tests of the encoder's caches: the same vectors as without, computed once."""

from __future__ import annotations

import asyncio
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import KOREAN, make_static, numbered

from koe5_integrations import KoE5Encoder
from koe5_integrations.caching import text_keys
from koe5_integrations.errors import (
    ConfigError,
    EmptyTextError,
    ModelLoadError,
    PrefixedTextError,
    PrefixedTextWarning,
    TruncationError,
    TruncationWarning,
)
from koe5_integrations.truncation import Truncation
from koe5_integrations.types import Role, Vectors

LONG = "서울의 겨울은 춥고 건조하며 여름은 덥고 습하다. " * 10
Cached = Callable[..., KoE5Encoder]

pytestmark = pytest.mark.usefixtures("nothing_in_memory")

# The same vectors


@pytest.mark.parametrize("kind", ["transformer", "static"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_what_was_embedded_is_found_again_bit_for_bit(
    cached: Cached, kind: str, asynchronous: bool, xlm_roberta: Path, static_model: Path
) -> None:
    """The first call equals one without a cache, the second the first, and only one computes."""
    path = xlm_roberta if kind == "transformer" else static_model
    encoder, plain = cached(path), KoE5Encoder(path)
    texts = [*KOREAN[:5], KOREAN[0]]

    def encode() -> Vectors:
        if asynchronous:
            return asyncio.run(encoder.aencode_passages(texts))
        return encoder.encode_passages(texts)

    first = encode()
    np.testing.assert_array_equal(first, plain.encode_passages(texts))
    assert encoder.computed == plain.computed == 5
    second = encode()
    np.testing.assert_array_equal(second, first)
    assert (second.dtype, second.flags.c_contiguous) == (np.float32, True)
    assert encoder.computed == 5
    np.testing.assert_array_equal(encoder.encode_passages(texts[::-1]), first[::-1])
    second[:] = 0
    np.testing.assert_array_equal(encode(), first)


def test_only_what_is_new_is_computed(cached: Cached, static_model: Path) -> None:
    """New texts among known ones are computed alone, and each vector is its text's own."""
    encoder, plain = cached(static_model), KoE5Encoder(static_model)
    texts = numbered(60)
    for part in (texts[::2], texts[10:30], texts):
        np.testing.assert_array_equal(encoder.encode_passages(part), plain.encode_passages(part))
    assert encoder.computed == 60


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[KoE5Encoder, KoE5Encoder]]:
    """Encoders that share their caches, each with one that has none.

    Of models of their own, because what is in memory lasts as long as they do.
    """
    place = tmp_path_factory.mktemp("family")
    one, other = make_static(place / "one", seed=1), make_static(place / "other", seed=2)
    options: list[dict[str, Any]] = [
        {"model": one},
        {"model": one, "on_prefixed": "keep"},
        {"model": one, "normalize_unicode": False},
        {"model": one, "query_prompt": "passage: "},
        {"model": one, "query_prompt": "", "passage_prompt": ""},
        {"model": one, "max_seq_length": 6},
        {"model": one, "truncate_dim": 8},
        {"model": other},
    ]
    with warnings.catch_warnings(action="ignore"):
        return [
            (
                KoE5Encoder(**each, embedding_cache=place / "cache", embedding_cache_size=20),
                KoE5Encoder(**each),
            )
            for each in options
        ]


TEXT = st.builds(
    lambda prefix, text, form: unicodedata.normalize(form, prefix + text),
    st.sampled_from(["", "", "query: ", "passage: ", "query: query: "]),
    st.sampled_from([*KOREAN[:3], "헌법", "0", "q", "\0헌법"]),
    st.sampled_from(["NFC", "NFD"]),
)
CALL = st.tuples(
    st.integers(0, 7), st.sampled_from(["query", "passage"]), st.lists(TEXT, max_size=5)
)


@pytest.mark.filterwarnings("ignore::koe5_integrations.errors.KoE5Warning")
@settings(derandomize=True, deadline=None, max_examples=60)
@given(calls=st.lists(CALL, min_size=1, max_size=8))
def test_no_vector_is_taken_for_anothers(
    family: list[tuple[KoE5Encoder, KoE5Encoder]], calls: list[tuple[int, Role, list[str]]]
) -> None:
    """Whatever was asked of whichever encoder before: the vectors, counts and errors are its own.

    Models, prefixes, lengths, dimensions, roles, prefixed and decomposed texts in any order.
    """
    for number, role, texts in calls:
        answers: list[Any] = []
        for encoder in family[number]:
            before = encoder.truncation
            encode = encoder.encode_queries if role == "query" else encoder.encode_passages
            try:
                vectors = encode(texts).tolist()
            except PrefixedTextError as error:
                answers.append((type(error), error.position))
                continue
            after = encoder.truncation
            cut = (after.texts - before.texts, after.tokens - before.tokens)
            answers.append((vectors, cut))
        assert answers[0] == answers[1]


@settings(derandomize=True, max_examples=300)
@given(
    a=st.tuples(st.sampled_from(["a" * 32, "b" * 32]), st.sampled_from(["query", "passage"]), TEXT),
    b=st.tuples(st.sampled_from(["a" * 32, "b" * 32]), st.sampled_from(["query", "passage"]), TEXT),
)
def test_keys_are_equal_only_for_the_same(
    a: tuple[str, Role, str], b: tuple[str, Role, str]
) -> None:
    """Two keys are one exactly if fingerprint, role and text are."""
    assert (text_keys(*a[:2], [a[2]]) == text_keys(*b[:2], [b[2]])) == (a == b)


# What is said and counted stays the same


def test_cut_texts_are_counted_though_cached(cached: Cached, static_model: Path) -> None:
    """A cached text that was cut is warned of and counted as if it were embedded again."""
    encoder = cached(static_model, max_seq_length=30)
    counts = []
    for texts in ([LONG], ["헌법", LONG], [LONG, LONG]):
        with pytest.warns(TruncationWarning, match=rf"positions {texts.index(LONG)}"):
            encoder.encode_passages(texts)
        counts.append(encoder.truncation)
    beyond = encoder.count_tokens([LONG], "passage")[0] - 30
    assert counts == [Truncation(n, n * beyond) for n in (1, 2, 4)]
    assert encoder.computed == 2


def test_cut_texts_are_refused_though_cached(cached: Cached, static_model: Path) -> None:
    """A text that another encoder was content to cut is refused all the same."""
    cached(static_model, max_seq_length=30, on_truncation="ignore").encode_passages(["헌법", LONG])
    strict = cached(static_model, max_seq_length=30, on_truncation="error")
    with pytest.raises(TruncationError, match="the model reads 30") as caught:
        strict.encode_passages(["헌법", LONG])
    assert caught.value.position == 1
    assert strict.computed == 0


def test_texts_are_checked_though_cached(cached: Cached, static_model: Path) -> None:
    """A bad text beside cached ones is an error at its place; a prefixed one is warned of again."""
    encoder = cached(static_model)
    for _ in range(2):
        with pytest.warns(PrefixedTextWarning, match="positions 1"):
            encoder.encode_queries(["헌법", "query: 헌법"])
    with pytest.raises(EmptyTextError) as caught:
        encoder.encode_queries(["헌법", " "])
    assert caught.value.position == 1


def test_the_progress_bar_counts_what_was_cached(
    cached: Cached, static_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends at the number of texts the caller gave."""
    encoder = cached(static_model)
    for texts in (numbered(4), numbered(6) * 2, numbered(6)):
        encoder.encode_passages(texts, show_progress=True)
        assert f"{len(texts)}/{len(texts)}" in capsys.readouterr().err


# Options


def test_another_cache_or_none(static_model: Path, tmp_path: Path) -> None:
    """with_cache() changes the caches alone, and counts anew."""
    plain = KoE5Encoder(static_model, on_prefixed="keep", max_seq_length=9)
    plain.encode_queries(["헌법"])
    cached = plain.with_cache(tmp_path / "cache", embedding_cache_size=3)
    assert cached.config() == plain.config() | {
        "embedding_cache": str(tmp_path / "cache"),
        "embedding_cache_size": 3,
    }
    assert cached == KoE5Encoder(**cached.config())
    assert cached.fingerprint == plain.fingerprint
    for _ in range(2):
        cached.encode_queries(["헌법"])
    assert (plain.computed, cached.computed) == (1, 1)
    without = cached.with_cache()
    assert without == plain
    without.encode_queries(["헌법"])
    assert without.computed == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"embedding_cache_size": 0}, "embedding_cache_size=0 must be at least 1"),
        ({"embedding_cache_size": True}, "embedding_cache_size=True"),
        ({"embedding_cache": 7}, "embedding_cache=7 must be"),
        ({"embedding_cache": __file__}, "test_caching.py' must be a folder"),
        ({"embedding_cache": ""}, "embedding_cache='' must be a folder"),
    ],
)
def test_impossible_values_are_refused_when_made(
    static_model: Path, options: dict[str, Any], expected: str
) -> None:
    """The value is named before anything is loaded, also by with_cache()."""
    with pytest.raises(ConfigError, match=expected):
        KoE5Encoder(static_model, **options)
    encoder = KoE5Encoder(static_model)
    with pytest.raises(ConfigError, match=expected):
        encoder.with_cache(**options)


def test_an_unusable_folder_is_found_before_the_model_is_loaded(
    loads: list[str], static_model: Path, tmp_path: Path
) -> None:
    """A folder that can't be made is an error of the cache, and nothing was loaded for it."""
    (tmp_path / "file").touch()
    encoder = KoE5Encoder(static_model, embedding_cache=tmp_path / "file" / "below")
    with pytest.raises(ConfigError, match="choose another folder"):
        encoder.encode_queries(["헌법"])
    assert loads == []


def test_a_missing_model_is_not_blamed_on_the_cache(tmp_path: Path) -> None:
    """An error of finding the model comes through as it is."""
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelLoadError):
        KoE5Encoder(tmp_path / "model", embedding_cache=tmp_path / "c").encode_queries(["글"])
