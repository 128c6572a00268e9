"""Tests of koe5_integrations.text."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import (
    EmptyTextError,
    InputError,
    InvalidUnicodeError,
    TextTypeError,
)
from koe5_integrations.text import check_texts, describe_positions, prefixed_positions

GOOD = "좋은 글"
NFD = unicodedata.normalize("NFD", "한글 파일 이름")

NOT_A_LIST = {
    "str": "한 문장",
    "empty str": "",
    "bytes": b"bytes",
    "bytearray": bytearray(b"bytes"),
    "None": None,
    "int": 3,
    "float": 1.5,
    "dict": {"a": "b"},
    "set": {"a"},
    "frozenset": frozenset({"a"}),
    "object": object(),
}

NOT_A_STR = {
    "None": None,
    "int": 1,
    "bool": True,
    "float": 0.5,
    "NaN": float("nan"),
    "bytes": b"abc",
    "nested list": ["a"],
    "nested empty list": [],
    "dict": {"text": "a"},
    "tuple": ("a", "b"),
    "numpy float": np.float32(1),
    "numpy int": np.int64(1),
    "numpy array": np.array(["a"]),
    "path": Path("a"),
}

NOTHING_VISIBLE = {
    "empty": "",
    "space": " ",
    "newline": "\n",
    "tabs and returns": "\t\r\n\x0b\x0c",
    "no-break space": "\u00a0",
    "ideographic space": "\u3000\u3000",
    "em and hair spaces": "\u2003\u200a",
    "line separators": "\u2028\u2029",
    "next line": "\x85",
    "NUL": "\x00",
    "control characters": "\x01\x1b\x7f",
    "zero-width space": "\u200b",
    "zero-width joiners": "\u200c\u200d\u2060",
    "byte order mark": "\ufeff",
    "soft hyphen": "\xad",
    "direction marks": "\u200e\u202a\u202c\u2066",
    "Hangul filler": "\u3164",
    "Hangul choseong and jungseong fillers": "\u115f\u1160",
    "halfwidth Hangul filler": "\uffa0",
    "braille blank": "\u2800",
    "variation selectors": "\ufe0f\ufe00",
    "tag characters": "\U000e0041\U000e0042",
    "annotation marks": "\ufff9\ufffb",
    "a bit of each": " \u3164\u200b\x00\n",
}

LONE_SURROGATE = {
    "front": ("\ud800 한국어", 0),
    "middle": ("한국\udfff어", 2),
    "end": ("한국어\udc80", 3),
    "alone": ("\ud83d", 0),
    "pair in the wrong order": ("\ude00\ud83d", 0),
    "pair written as two": ("\ud83d\ude00", 0),
    "in ASCII": ("abc\udce9", 3),
}

FINE = {
    "ASCII": "plain",
    "one letter": "a",
    "one digit": "7",
    "punctuation": "?",
    "NUL inside": "앞\x00뒤",
    "zero-width inside": "앞\u200b뒤",
    "Hangul filler inside": "앞\u3164뒤",
    "emoji joined by ZWJ": "👨‍👩‍👧‍👦",
    "emoji with variation selector": "❤️",
    "flag of tag characters": "🏴\U000e0067\U000e0062\U000e007f",
    "compatibility jamo": "ㅋㅋㅋ",
    "halfwidth brackets": "｢법원조직 법｣",
    "Hanja": "憲法",
    "Arabic": "مرحبا",
    "old Hangul": "ᄒᆞᆫ글",
    "replacement character": "\ufffd",
    "private use": "\ue000",
    "newlines kept": "첫째 줄\r\n\n둘째 줄  ",
}


@pytest.mark.parametrize("texts", NOT_A_LIST.values(), ids=NOT_A_LIST)
def test_refuses_what_is_no_list_of_texts(texts: Any) -> None:
    """A bare string, a mapping, a set or no iterable at all is refused as a whole."""
    with pytest.raises(TextTypeError) as caught:
        check_texts(texts)
    assert caught.value.position is None
    assert caught.value.value is texts


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("bad", NOT_A_STR.values(), ids=NOT_A_STR)
def test_refuses_items_that_are_no_str(bad: Any, position: int) -> None:
    """An item that is not a string is named by its position and type."""
    texts: list[Any] = [GOOD, GOOD]
    texts.insert(position, bad)
    with pytest.raises(TextTypeError, match=type(bad).__name__) as caught:
        check_texts(texts)
    assert caught.value.position == position
    assert caught.value.value is bad


@pytest.mark.parametrize("position", [0, 2])
@pytest.mark.parametrize("bad", NOTHING_VISIBLE.values(), ids=NOTHING_VISIBLE)
def test_refuses_texts_with_nothing_visible(bad: str, position: int) -> None:
    """A text that shows a reader nothing is refused, whatever it is made of."""
    texts = [GOOD, GOOD]
    texts.insert(position, bad)
    with pytest.raises(EmptyTextError) as caught:
        check_texts(texts)
    assert (caught.value.position, caught.value.value) == (position, bad)


@pytest.mark.parametrize(("bad", "at"), LONE_SURROGATE.values(), ids=LONE_SURROGATE)
@pytest.mark.parametrize("normalize_unicode", [True, False])
def test_refuses_lone_surrogates(bad: str, at: int, normalize_unicode: bool) -> None:
    """A lone surrogate is named by the text's position and the character's."""
    with pytest.raises(InvalidUnicodeError, match=f"at character {at} ") as caught:
        check_texts([GOOD, bad], normalize_unicode=normalize_unicode)
    assert (caught.value.position, caught.value.value) == (1, bad)


def test_names_the_first_of_several_bad_texts() -> None:
    """Of several bad texts the first is reported."""
    with pytest.raises(EmptyTextError) as caught:
        check_texts([GOOD, "", None, "\ud800"])
    assert caught.value.position == 1


@pytest.mark.parametrize("text", FINE.values(), ids=FINE)
def test_leaves_text_as_it_is(text: str) -> None:
    """A text with anything visible in it passes; only its normalisation form may change."""
    assert check_texts([text]) == [unicodedata.normalize("NFC", text)]
    assert check_texts([text], normalize_unicode=False) == [text]


def test_composes_decomposed_hangul() -> None:
    """Decomposed Hangul becomes composed, unless that is turned off."""
    assert check_texts([NFD]) == ["한글 파일 이름"]
    assert check_texts([NFD], normalize_unicode=False) == [NFD]


def test_does_not_fold_compatibility_characters() -> None:
    """NFC, not NFKC: KoE5's own example holds halfwidth brackets that must stay."""
    assert check_texts(["｢법｣ ①"]) == ["｢법｣ ①"]


@pytest.mark.parametrize(
    "texts",
    [["가", "b"], ("가", "b"), iter(["가", "b"]), (t for t in "가b"), np.array(["가", "b"])],
    ids=["list", "tuple", "iterator", "generator", "numpy array"],
)
def test_takes_any_ordered_iterable(texts: Iterable[str]) -> None:
    """Lists, tuples, iterators, generators and arrays of strings give a list in order."""
    assert check_texts(texts) == ["가", "b"]


def test_takes_no_texts() -> None:
    """No texts are no mistake."""
    assert check_texts([]) == []


def test_takes_a_million_characters() -> None:
    """A very long text is checked as any other, blank up to its last character or not."""
    assert check_texts([" " * 999_999 + "끝"]) == [" " * 999_999 + "끝"]
    with pytest.raises(EmptyTextError):
        check_texts([" " * 1_000_000])


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(alphabet=st.characters()), st.integers(0, 3))
def test_raises_with_the_position_or_returns_nfc(text: str, before: int) -> None:
    """Any string either raises an error with its position or comes back as its NFC."""
    texts = [GOOD] * before + [text]
    try:
        result: list[str] | InputError = check_texts(texts)
    except InputError as error:
        result = error
    surrogate = any("\ud800" <= c <= "\udfff" for c in text)
    if isinstance(result, InputError):
        assert (result.position, result.value) == (before, text)
        assert isinstance(result, InvalidUnicodeError) == surrogate
    else:
        assert not surrogate
        assert result == [unicodedata.normalize("NFC", t) for t in texts]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.text(), st.characters(categories=["Lu", "Ll", "Nd", "Po", "Sc", "So"]), st.text(max_size=5)
)
def test_passes_every_text_with_something_to_see(before: str, seen: str, after: str) -> None:
    """A letter, digit, punctuation mark or symbol anywhere is enough."""
    if seen == "\u2800":  # the blank among the symbols
        return
    text = before + seen + after
    assert check_texts([text], normalize_unicode=False) == [text]


def test_every_generated_text_has_a_sound_vector(static_model: Path) -> None:
    """A thousand texts of random characters are embedded as finite unit vectors."""
    rng = random.Random(5)
    blocks = [(0x20, 0x7F), (0xAC00, 0xD7A4), (0x1100, 0x1200), (0x0, 0xD800), (0xE000, 0x110000)]
    texts = []
    while len(texts) < 1000:
        low, high = rng.choice(blocks)
        text = "".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 60)))
        try:
            check_texts([text])
        except EmptyTextError:
            continue
        texts.append(text)
    vectors = KoE5Encoder(static_model).encode_passages(texts)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_recognises_prefixes() -> None:
    """Only non-empty prompts at the very start of a text count."""
    texts = ["query: a", "passage: b", " query: c", "query:d", "Query: e"]
    assert prefixed_positions(texts, ("query: ", "passage: ")) == [0, 1]
    assert prefixed_positions(texts, ("", "passage: ")) == [1]
    assert prefixed_positions(texts, ("", "")) == []


def test_describes_positions() -> None:
    """A message lists five positions and counts the rest."""
    assert describe_positions([3]) == "3"
    assert describe_positions(range(5)) == "0, 1, 2, 3, 4"
    assert describe_positions(range(12)) == "0, 1, 2, 3, 4 and 7 more"
