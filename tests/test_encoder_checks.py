"""Tests of what an encoder sees to before any work: bad, prefixed, cut and equal texts."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoder_samples import TEXTS

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends import Tokens
from koe5_integrations.backends.static import StaticBackend
from koe5_integrations.errors import (
    EmptyTextError,
    EncodingError,
    PrefixedTextError,
    PrefixedTextWarning,
    TextTypeError,
    TruncationError,
    TruncationWarning,
)
from koe5_integrations.truncation import Truncation
from koe5_integrations.types import Vectors


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
    assert caught.value.position == len(TEXTS)
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
