"""The rule of Korean sentences, and Kiwi's."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koe5_integrations.errors import ConfigError, MissingExtraError
from koe5_integrations.splitting.sentences import find_sentences, sentence_rule


def split(text: str, rule: str = "rule") -> list[str]:
    """Return a paragraph's sentences."""
    (starts,) = find_sentences(sentence_rule(rule))[0]([text])
    places = [0, *starts, len(text)]
    return [text[start:end].strip() for start, end in pairwise(places)]


@pytest.mark.parametrize(
    "sentences",
    [
        ["눈이 옵니다.", "춥네요!", "나갈까요?", "그러죠."],
        ["정말요?!", "네…", "그런데… 왜요?"],
        ["생각했다...", "그리고 잤다."],
        ["값은 3.14이다.", "버전은 2.0.1입니다."],
        ["회의는 2024. 3. 1. 열린다.", "장소는 서울이다."],
        ["기한은 2024. 12. 31.까지이다.", "연장은 없다."],
        ["그는 “집에 가자. 늦었다.”라고 말했다.", "그래서 갔다."],
        ['그는 "가자. 늦었다." 하고 말했다.', "끝."],
        ['"아니. 싫다."', "그가 답했다.", "그는 갔다.", '"왜? 어디로?"라고 물었다.'],
        ["「민법」 제3조(권리. 능력)를 본다.", "다음이다."],
        ["설명한다(자세한 것은 뒤에 적는다. 참조).", "끝이다."],
        ["그는 갔다.)", "남았다."],
        ["https://example.com/a.html?x=1. 여기를 본다.", "끝이다."],
        ["`a. b` 를 친다.", "된다."],
        ["Dr. Kim과 J. K. Rowling을 만났다.", "좋았다."],
        ["사과, 배, 감 등등.", "그림 3. 구조를 본다.", "끝이다."],
        ["e.g. 사과, cf. 배가 있다.", "끝이다."],
        ["가. 정의 나. 범위를 정한다.", "끝이다."],
        ["그는 갔다。", "왔다！", "네"],
        ["It ends here.", "It begins."],
    ],
)
def test_rule_splits_where_a_reader_would(sentences: list[str]) -> None:
    """Endings end a sentence; numbers, dates, initials, quotations, brackets and URLs don't."""
    assert split(" ".join(sentences)) == sentences


def test_rule_needs_no_space_after_a_korean_ending() -> None:
    """Web text often leaves out the space; a quotation that goes on is still kept."""
    assert split("눈이 온다.춥다.나갈까요?네") == ["눈이 온다.", "춥다.", "나갈까요?", "네"]
    assert split("간다.라고 말했다.") == ["간다.라고 말했다."]
    assert split("갔다。왔다！네") == ["갔다。", "왔다！", "네"]


@pytest.mark.parametrize("rule", ["rule", "kiwi"])
@given(text=st.text(max_size=60))
@settings(deadline=None, max_examples=50)
def test_sentences_begin_within_the_text_in_order(rule: str, text: str) -> None:
    """Whatever the text, the places are ascending, within it, and begin with no space."""
    if rule == "kiwi":
        pytest.importorskip("kiwipiepy")
    (starts,) = find_sentences(sentence_rule(rule))[0]([text])
    assert sorted(set(starts)) == starts
    assert all(0 < start < len(text) and not text[start].isspace() for start in starts)


def test_kiwi_finds_endings_without_marks() -> None:
    """Kiwi's analysis knows a final ending by its grammar."""
    pytest.importorskip("kiwipiepy")
    assert split("네 그렇습니다 그럼 시작하겠습니다", "kiwi")[-1] == "그럼 시작하겠습니다"
    assert find_sentences("kiwi")[1].startswith("kiwi 0.")


def test_kiwi_missing_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for Kiwi where it is not installed names the extra."""
    monkeypatch.setattr("koe5_integrations.splitting.sentences.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"koe5-integrations\[ko\]"):
        sentence_rule("kiwi")
    assert sentence_rule("auto") == "rule"


def test_unknown_rule_is_refused() -> None:
    """There are three names."""
    with pytest.raises(ConfigError, match="'auto', 'rule' or 'kiwi'"):
        sentence_rule("nltk")
