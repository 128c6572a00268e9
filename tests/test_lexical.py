"""BM25 for Korean."""

from __future__ import annotations

import sys
import unicodedata

import numpy as np
import pytest

from koe5_integrations.errors import ConfigError, MissingExtraError
from koe5_integrations.lexical import TOKENIZERS, BM25Index

pytest.importorskip("bm25s")

TEXTS = [
    "문자열은 불변이다.",
    "리스트는 가변이다.",
    "사전은 키를 값에 잇는다.",
    "문자열은 불변이다.",
]


def test_bigrams_stay_within_words():
    """Pieces are pairs of neighbouring characters, or a word of one, without punctuation."""
    assert TOKENIZERS["bigram"]("문자열은 왜, Ｐy?") == ["문자", "자열", "열은", "왜", "py"]


def test_the_other_tokenizers():
    """Words are split at spaces, and characters leave the spaces out."""
    assert TOKENIZERS["whitespace"]("문자열은  왜?") == ["문자열은", "왜?"]
    assert TOKENIZERS["char"]("왜 안 돼?") == ["왜", "안", "돼", "?"]


def test_kiwi_keeps_content():
    """Kiwi drops particles and endings and keeps stems."""
    pytest.importorskip("kiwipiepy")
    assert TOKENIZERS["kiwi"]("문자열은 왜 못 바꾸나요?") == ["문자열", "바꾸"]


def test_stems_meet_where_words_do_not():
    """Another particle hides the word from whitespace, and not from bigrams."""
    assert BM25Index(TEXTS, "whitespace").search("문자열이", 5) == []
    assert [position for position, _ in BM25Index(TEXTS).search("문자열이", 5)] == [0, 3]


def test_equal_scores_keep_the_order_of_the_texts():
    """Texts of equal scores come in their order, also at the edge of the answer."""
    index = BM25Index(["가나 다라"] * 50 + ["가나"])
    assert [position for position, _ in index.search("가나", 4)] == [50, 0, 1, 2]


@pytest.mark.parametrize("query", ["", " ", "?!", "zzz", "쀍"])
def test_no_known_piece_is_an_empty_answer(query):
    """A query that shares no piece with any text finds nothing, and is no error."""
    assert BM25Index(TEXTS).search(query, 3) == []


@pytest.mark.parametrize("texts", [[], ["", " "], ["!?"]])
def test_texts_without_pieces(texts):
    """Texts with nothing to compare make an index that finds nothing."""
    index = BM25Index(texts)
    assert (len(index), index.nbytes, index.search("가나", 3)) == (len(texts), 0, [])


def test_decomposed_hangul_finds_the_same():
    """Queries in NFD give the answer of NFC."""
    index = BM25Index(TEXTS)
    assert index.search(unicodedata.normalize("NFD", "문자열"), 2) == index.search("문자열", 2)


def test_scores_are_those_of_the_formula():
    """Scores follow Lucene's BM25, worked out by hand."""
    index = BM25Index(["가나", "가나 다라 마바", "다라"], k1=1.2, b=0.5)
    rarity = np.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    average = 5 / 3
    expected = [rarity / (1 + 1.2 * (0.5 + 0.5 * n / average)) for n in (1, 3)]
    found = index.search("가나", 3)
    assert [position for position, _ in found] == [0, 1]
    np.testing.assert_allclose([score for _, score in found], expected, rtol=1e-5)


def test_own_tokenizer():
    """A function from text to pieces is taken as it is."""
    index = BM25Index(["a-b", "b-c"], lambda text: text.split("-"))
    assert [position for position, _ in index.search("c", 2)] == [1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"tokenizer": "trigram"}, "'trigram'.*'bigram', 'whitespace', 'char', 'kiwi'"),
        ({"tokenizer": 2}, "tokenizer=2"),
        ({"k1": -1}, "k1=-1"),
        ({"b": 1.5}, "b=1.5"),
    ],
)
def test_impossible_arguments(arguments, named):
    """Impossible arguments are refused by name and value."""
    with pytest.raises(ConfigError, match=named):
        BM25Index(TEXTS, **arguments)


def test_top_k_below_one():
    """A search for no documents is a mistake."""
    with pytest.raises(ConfigError, match="top_k=0"):
        BM25Index(TEXTS).search("문자열", 0)


@pytest.mark.parametrize(
    ("module", "tokenizer", "extra"), [("bm25s", "bigram", "eval"), ("kiwipiepy", "kiwi", "ko")]
)
def test_missing_library_names_the_extra(monkeypatch, module, tokenizer, extra):
    """Without its library the error says which extra brings it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"\[{extra}\]"):
        BM25Index(TEXTS, tokenizer)
