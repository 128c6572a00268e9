"""Splitting: every chunk fits, all chunks together cover the text, and what fits stays whole."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import (
    ConfigError,
    EmptyTextError,
    InvalidUnicodeError,
    PrefixedTextError,
    TextTypeError,
    TruncationError,
)
from koe5_integrations.splitting import Chunk, TokenSplitter
from koe5_integrations.text import check_texts
from koe5_integrations.types import Role

FAST = settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PIECES = [
    "파이썬 문자열은 불변입니다. ",
    "왜 그럴까요? ",
    "그는 “가자. 늦었다.”라고 말했다.\n",
    "값은 3.14이다 ",
    "2024. 3. 1. ",
    "# 제목\n\n",
    "---\n파이썬: 문자열\n---\n",
    "## 작은 제목 ##\n",
    "제목\n===\n",
    "---\n",
    "- 항목\n",
    "1. 하나\n",
    "```python\nx = 1\n\ny = 2\n```\n",
    "~~~~",
    "\n\n",
    "\r\n",
    "\t\u3000\xa0 ",
    "\u200b\u200d\ufeff",
    "\u3164",
    "\u0301\u0308",
    "가" * 90,
    "ab" * 70,
    " " * 80,
    "\u200b" * 90,
    "👨‍👩‍👧‍👦",
    "🇰🇷🇺🇸",
    "👍🏽",
    "ﷺ",
    "query: ",
    " " * 70 + "query: ",
    "passage: ",
    "https://example.com/a.b?c=d. ",
    "「인용. 문」 ",
    unicodedata.normalize("NFD", "한글을 풀어 썼다. "),
    "…",
    "。",
    "ᄀᄀᄀ각ᆨᆨ",
]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TEXTS = st.lists(st.sampled_from(PIECES) | ANY_TEXT, max_size=14).map("".join)


def is_visible(text: str) -> bool:
    try:
        check_texts([text])
    except EmptyTextError:
        return False
    return True


def with_extra(text: str, extra: str) -> str:
    return f"{extra}\n\n{text}" if extra else text


def check_chunks(
    text: str, chunks: list[Chunk], encoder: KoE5Encoder, limit: int, extra: str = ""
) -> None:
    """Hold chunks against all that is promised of them."""
    assert bool(chunks) == is_visible(text)
    if not chunks:
        return
    embedded = [with_extra(chunk.text, extra) for chunk in chunks]
    assert [chunk.tokens for chunk in chunks] == encoder.count_tokens(embedded, "passage")
    assert max(chunk.tokens for chunk in chunks) <= limit
    for chunk in chunks:
        assert chunk.text.endswith(text[chunk.start : chunk.end])
    covered = 0
    for before, chunk in pairwise(chunks):
        assert before.start < chunk.start
        assert before.end < chunk.end
    for chunk in chunks:
        assert not is_visible(text[covered : chunk.start])
        covered = max(covered, chunk.end)
    assert not is_visible(text[covered:])
    encoder.encode_passages(embedded)


@pytest.fixture(scope="module")
def tiny(static_model: Path) -> KoE5Encoder:
    encoder = KoE5Encoder(
        static_model, max_seq_length=64, on_truncation="error", on_prefixed="keep"
    )
    encoder.load()
    return encoder


@pytest.fixture(scope="module")
def mini() -> KoE5Encoder:
    encoder = KoE5Encoder("koe5-mini", max_seq_length=48, on_truncation="error", on_prefixed="keep")
    encoder.load()
    return encoder


class Counting(KoE5Encoder):
    """Knows how much it was given to count."""

    counted = 0

    def count_tokens(self, texts: Iterable[str], role: Role) -> list[int]:
        listed = list(texts)
        self.counted += sum(map(len, listed))
        return super().count_tokens(listed, role)


@given(
    text=TEXTS,
    limit=st.integers(40, 64),
    overlap=st.integers(0, 20),
    extra=st.sampled_from(["", "file: a.md", "저자: 홍길동\n쪽: 3"]),
    markdown=st.booleans(),
    repeat_headings=st.booleans(),
)
@example(
    text="파이썬 문자열은 불변입니다. 파이썬 문자열은 불변입니다. # 제목\n\n"
    "파이썬 문자열은 불변입니다. https://example.com/a.b?c=d. ",
    limit=40,
    overlap=18,
    extra="저자: 홍길동\n쪽: 3",
    markdown=False,
    repeat_headings=False,
)
@FAST
def test_chunks_fit_and_cover(
    tiny: KoE5Encoder,
    text: str,
    limit: int,
    overlap: int,
    extra: str,
    markdown: bool,
    repeat_headings: bool,
) -> None:
    """No chunk of any text is cut by the encoder, and nothing visible is in none of them."""
    if text.lstrip().startswith("query: "):
        text = "x" + text
    splitter = TokenSplitter(
        tiny,
        chunk_tokens=limit,
        overlap_tokens=overlap,
        markdown=markdown,
        repeat_headings=repeat_headings,
    )
    chunks = splitter.split(text, extra=extra)
    check_chunks(text, chunks, tiny, limit, extra)
    assert splitter.split(text, extra=extra) == chunks
    if chunks and tiny.count_tokens([with_extra(text.strip(), extra)], "passage")[0] <= limit:
        assert [chunk.text for chunk in chunks] == [text.strip()]


@given(text=TEXTS)
@FAST
def test_chunks_fit_and_cover_with_the_bundled_model(mini: KoE5Encoder, text: str) -> None:
    """The same holds with a tokenizer of another kind."""
    if text.lstrip().startswith("query: "):
        text = "x" + text
    check_chunks(text, TokenSplitter(mini).split(text), mini, 48)


@pytest.mark.parametrize(
    "text",
    [
        "그리고 나는 학교에 갔고 " * 800,
        "가나다라마바사" * 800,
        "가\u200b" * 2000,
        "가" + " " * 5000 + "나",
        "가" + "\u0301" * 3000,
        "🇰🇷" * 1500,
        "a\n" * 2000,
        "“" * 2000,
        "```\n" * 1000 + "끝",
        "# a\n" * 1000,
        "# " + "긴 제목 " * 500 + "\n본문",
        "".join("#" * (i % 6 + 1) + " 제목\n본문입니다.\n" for i in range(500)),
        "passage: query: " * 500,
        ("x" + " " * 100 + "query: ") * 50,
    ],
    ids=lambda text: repr(text[:6]),
)
def test_work_grows_with_the_text_and_no_faster(text: str, static_model: Path) -> None:
    """Texts made to be slow, too, fit and are counted a few times over, however long they are."""
    encoder = Counting(static_model, max_seq_length=64, on_truncation="error", on_prefixed="keep")
    encoder.load()
    check_chunks(text, TokenSplitter(encoder).split(text), encoder, 64)
    once = Counting(static_model, max_seq_length=64, on_prefixed="keep")
    once.load()
    TokenSplitter(once).split(text)
    assert once.counted < 8 * len(text)


def test_short_texts_are_counted_once(static_model: Path) -> None:
    """What fits costs one count, for all texts in one call."""
    encoder = Counting(static_model, max_seq_length=64)
    texts = [f"{number}번 문장이다." for number in range(100)]
    chunks = TokenSplitter(encoder).split_many(texts)
    assert [[chunk.text for chunk in of_text] for of_text in chunks] == [[text] for text in texts]
    assert encoder.counted == sum(map(len, texts))


def test_many_texts_are_split_as_one_would_be(mini: KoE5Encoder) -> None:
    """Texts are independent of each other, and blank ones have no chunks."""
    texts = ["첫째 문장이다. " * 20, "짧다.", " \u200b\n", "# 제목\n\n" + "본문이 길다. " * 30]
    splitter = TokenSplitter(mini, overlap_tokens=8)
    assert splitter.split_many(texts) == [splitter.split(text) for text in texts]
    assert [len(chunks) for chunks in splitter.split_many(texts)][1:3] == [1, 0]
    assert splitter.split_many([]) == []


def test_no_weights_are_loaded(static_model: Path) -> None:
    """Splitting needs the tokenizer alone."""
    encoder = KoE5Encoder(static_model, max_seq_length=64)
    assert len(TokenSplitter(encoder).split("파이썬 문자열은 불변이다. " * 30)) > 1
    assert encoder._handle._worker is None


def test_headings_go_with_each_piece_of_their_section(mini: KoE5Encoder) -> None:
    """A chunk says under which headings it stands, unless that is turned off or takes too much."""
    text = "# 안내\n\n## 설치\n\n" + "파이썬을 설치한다. 그리고 실행한다. " * 12
    chunks = TokenSplitter(mini).split(text)
    assert len(chunks) > 2
    assert all(chunk.text.startswith("# 안내\n\n## 설치\n\n") for chunk in chunks[:1])
    assert all(chunk.text.startswith("# 안내\n## 설치\n\n") for chunk in chunks[1:])
    assert chunks[1].text == "# 안내\n## 설치\n\n" + text[chunks[1].start : chunks[1].end]
    bare = TokenSplitter(mini, repeat_headings=False).split(text)
    assert not any(chunk.text.startswith("#") for chunk in bare[1:])
    plain = TokenSplitter(mini).split(text, markdown=False)
    assert [chunk.text for chunk in plain] == [text[c.start : c.end] for c in plain]
    long = "# " + "아주 긴 제목이 여기 있다 " * 4 + "\n\n## 절\n\n" + "문장이다. " * 40
    assert TokenSplitter(mini).split(long)[-1].text.startswith("## 절\n\n문장이다.")


def test_overlap_is_whole_sentences(mini: KoE5Encoder) -> None:
    """A chunk repeats the last sentences of the one before, within the bound, and no parts."""
    text = " ".join(f"{number}번째 문장을 여기에 적는다." for number in range(40))
    chunks = TokenSplitter(mini, overlap_tokens=16).split(text)
    for before, chunk in pairwise(chunks):
        repeated = text[chunk.start : before.end]
        assert repeated.endswith("적는다.")
        assert chunk.text.startswith(repeated.split()[0])
        assert repeated[0].isdigit()
        assert mini.count_tokens([repeated], "passage")[0] <= 16 + 1
    assert TokenSplitter(mini).split(text)[1].start >= TokenSplitter(mini).split(text)[0].end


def test_code_that_fits_is_not_torn(mini: KoE5Encoder) -> None:
    """A fenced block goes into one chunk as it is."""
    code = "```python\nfor x in xs:\n\n    print(x)\n```"
    text = "앞 문장이 여기에 있다. " * 6 + f"\n\n{code}\n\n" + "뒤 문장이 여기에 있다. " * 6
    chunks = TokenSplitter(mini).split(text)
    assert len(chunks) > 1
    assert sum(code in chunk.text for chunk in chunks) == 1


def test_a_chunk_never_looks_prefixed_by_chance(static_model: Path) -> None:
    """A strict encoder takes every chunk of a text that has prefixes somewhere within."""
    encoder = KoE5Encoder(static_model, max_seq_length=64, on_prefixed="error")
    text = "\n\n".join(["질문 목록"] + ["query: 왜 문자열은 불변인가?\npassage: 답이다."] * 20)
    chunks = TokenSplitter(encoder).split(text)
    assert len(chunks) > 5
    encoder.encode_passages([chunk.text for chunk in chunks])
    with pytest.raises(PrefixedTextError, match=r"texts\[1\]"):
        TokenSplitter(encoder).split_many(["하나", text.removeprefix("질문 목록\n\n")])


def test_settings_say_what_is_meant(mini: KoE5Encoder) -> None:
    """Settings are JSON, hold no None, and differ wherever chunks may."""
    settings = TokenSplitter(KoE5Encoder("koe5-mini")).settings
    assert settings == {
        "version": 1,
        "chunk_tokens": 256,
        "overlap_tokens": 0,
        "sentences": "rule",
        "markdown": True,
        "repeat_headings": True,
    }
    assert TokenSplitter(mini).settings["chunk_tokens"] == 48
    reads_more = KoE5Encoder("koe5-mini", max_seq_length=8192)
    assert TokenSplitter(reads_more).settings["chunk_tokens"] == 512
    pytest.importorskip("kiwipiepy")
    assert TokenSplitter(mini, sentences="kiwi").settings["sentences"].startswith("kiwi 0.")


def test_kiwi_splits_at_its_sentences(mini: KoE5Encoder) -> None:
    """Asked for, Kiwi decides where chunks of unpunctuated text end."""
    pytest.importorskip("kiwipiepy")
    text = "저는 어제 학교에 갔습니다 그리고 친구를 만나서 밥을 먹었습니다 " * 8
    chunks = TokenSplitter(mini, sentences="kiwi").split(text)
    check_chunks(text, chunks, mini, 48)
    assert all(chunk.text.endswith("습니다") for chunk in chunks)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"chunk_tokens": 0}, "chunk_tokens=0 must be an integer of at least 1"),
        ({"chunk_tokens": True}, "chunk_tokens=True"),
        ({"chunk_tokens": "512"}, "chunk_tokens='512'"),
        ({"overlap_tokens": -1}, "overlap_tokens=-1 must be an integer of at least 0"),
        ({"chunk_tokens": 100, "overlap_tokens": 51}, "at most half of the 100"),
        ({"sentences": "nltk"}, "sentences='nltk'"),
        ({"markdown": None}, "markdown=None must be True or False"),
    ],
)
def test_impossible_settings_are_refused_at_once(options: dict[str, Any], problem: str) -> None:
    """A wrong argument is named with its value before anything is read."""
    with pytest.raises(ConfigError, match=re.escape(problem)):
        TokenSplitter(KoE5Encoder(), **options)


def test_limits_are_checked_against_the_model(mini: KoE5Encoder) -> None:
    """More than the model reads, and more overlap than half a chunk, are refused before work."""
    with pytest.raises(ConfigError, match="chunk_tokens=49 is more than the 48 tokens koe5-mini"):
        TokenSplitter(mini, chunk_tokens=49).split("가")
    with pytest.raises(ConfigError, match="overlap_tokens=25"):
        TokenSplitter(mini, overlap_tokens=25).split("가")
    with pytest.raises(ConfigError, match="must be a KoE5Encoder"):
        TokenSplitter("koe5-mini")  # type: ignore[arg-type]  # what a caller may do


def test_faulty_texts_are_named_by_their_position(mini: KoE5Encoder) -> None:
    """An error says which of the texts is at fault, also where only a part of it was looked at."""
    splitter = TokenSplitter(mini)
    long = "문장이 하나 있다. " * 400
    with pytest.raises(InvalidUnicodeError, match=r"texts\[1\]"):
        splitter.split_many(["하나", long + "\ud800"])
    with pytest.raises(TextTypeError, match=r"texts\[1\]"):
        splitter.split_many(["하나", None])  # type: ignore[list-item]  # what a caller may do
    with pytest.raises(TextTypeError, match="single one"):
        splitter.split_many("하나")
    with pytest.raises(TruncationError, match=r"texts\[1\] has so much embedded with each chunk"):
        splitter.split_many(["하나", long], frames=[str, lambda chunk: "메타데이터 " * 60 + chunk])
