"""What a text is made of, where it is cut, and which parts make a chunk."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koe5_integrations.splitting.blocks import Boundary, Unit, units_of
from koe5_integrations.splitting.cutting import cut, is_character_start
from koe5_integrations.splitting.packing import pack
from koe5_integrations.splitting.sentences import find_sentences

RULE = find_sentences("rule")[0]


def parts(text: str, *, markdown: bool = True) -> list[tuple[str, str]]:
    """Return what begins with each unit, and its text."""
    units = units_of(text, RULE, ("query: ",), markdown)
    return [(unit.boundary.name, text[unit.start : unit.end].strip()) for unit in units]


def headings(text: str) -> list[list[str]]:
    """Return the headings above each unit."""
    return [[h.line for h in unit.path] for unit in units_of(text, RULE, (), True)]


def test_markdown_is_taken_apart() -> None:
    """Headings, paragraphs, items, lines and sentences are each known for what they are."""
    text = "# 제목 #\n\n첫째다. 둘째다.\n줄이\n이어진다.\n\n- 하나\n- 둘\n\n절\n---\n끝"
    assert parts(text) == [
        ("SECTION", "# 제목 #"),
        ("AFTER_HEADING", "첫째다."),
        ("SENTENCE", "둘째다."),
        ("SENTENCE", "줄이"),
        ("LINE", "이어진다."),
        ("PARAGRAPH", "- 하나"),
        ("ITEM", "- 둘"),
        ("SECTION", "절\n---"),
        ("AFTER_HEADING", "끝"),
    ]
    assert headings(text)[1] == ["# 제목"]
    assert headings(text)[-1] == ["# 제목", "## 절"]


def test_headings_stand_under_higher_ones_only() -> None:
    """A section ends where one of its own or of a higher level begins."""
    text = "# 가\n## 나\n### 다\n## 라\n본문"
    assert headings(text) == [[], ["# 가"], ["# 가", "## 나"], ["# 가"], ["# 가", "## 라"]]
    # A heading right below another does not leave it alone.
    assert [name for name, _ in parts(text)][:3] == ["SECTION", "AFTER_HEADING", "AFTER_HEADING"]


def test_fenced_code_is_one_unit() -> None:
    """Headings, sentences and blank lines in code are code; a fence left open lasts to the end."""
    code = "```python\n# 주석입니다. 네.\n\nx = 1\n```"
    assert parts(f"앞\n{code}\n뒤") == [
        ("PARAGRAPH", "앞"),
        ("PARAGRAPH", code),
        ("PARAGRAPH", "뒤"),
    ]
    assert parts("~~~~\n```\n~~~\n# a") == [("PARAGRAPH", "~~~~\n```\n~~~\n# a")]


def test_front_matter_is_no_heading() -> None:
    """The lines of YAML on top of a file stay together."""
    for text in ("---\ntitle: 제목\n---\n# 시작", "---\r\ntitle: 제목\r\n---\r\n# 시작"):
        assert parts(text)[-1] == ("SECTION", "# 시작")
        assert [h for path in headings(text) for h in path] == []
    assert parts("---\na: b\n---") == [("PARAGRAPH", "---\na: b\n---")]


def test_a_paragraph_above_a_rule_is_no_heading() -> None:
    """What is underlined is a heading only if it is short."""
    text = "문장이 이어진다. " * 12 + "\n---\n끝"
    assert "SECTION" not in {name for name, _ in parts(text)}


def test_plain_text_has_no_headings() -> None:
    """Without markdown a line that begins with # is a line."""
    assert parts("# 하나\n둘", markdown=False) == [("PARAGRAPH", "# 하나"), ("LINE", "둘")]


@pytest.mark.parametrize("marker", ["-", "*", "•", "1.", "2)", "(3)", "①", "가.", "제3조", "A."])
def test_list_items_begin_units(marker: str) -> None:
    """Items are known by the marks Korean documents use."""
    assert parts(f"앞\n  {marker} 뒤")[1] == ("ITEM", f"{marker} 뒤")


def test_no_unit_but_the_first_begins_with_a_prefix() -> None:
    """A chunk must not look as if its caller had put a prefix in front of it."""
    text = "query: 하나\n\nquery: 둘\n\nquery: 셋"
    assert parts(text) == [("PARAGRAPH", text)]
    (unit,) = units_of(text, RULE, ("query: ",), False)
    pieces = cut(text, unit, 9, ("query: ",))
    assert not any(text.startswith("query: ", piece.start) for piece in pieces[1:])
    assert len(pieces) > 2


def test_long_units_are_cut_at_the_best_place_near() -> None:
    """Lines come before words, and words before characters."""
    text = "가나다 라마바\n사아자 차카타파하가나다라마바사"
    pieces = cut(text, Unit(0, len(text), Boundary.SENTENCE), 9, ())
    assert [(text[p.start : p.end].strip(), p.boundary.name) for p in pieces] == [
        ("가나다 라마바", "SENTENCE"),
        ("사아자", "LINE"),
        ("차카타파하가나다라", "WORD"),
        ("마바사", "CHARACTER"),
    ]


@pytest.mark.parametrize(
    "character",
    [
        unicodedata.normalize("NFD", "값"),
        "ᄀᄀ" + "ᅡ" + "ᆨ",
        "e\u0301\u0323",
        "👨‍👩‍👧‍👦",
        "👍🏽",
        "❤️‍🔥",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "🇰🇷",
        "가\u302e",
    ],
)
def test_what_reads_as_one_character_stays_whole(character: str) -> None:
    """No cut falls within decomposed Hangul, letters with marks, or emoji of several parts."""
    text = character * 3
    starts = [i for i in range(len(text)) if is_character_start(text, i)]
    assert starts == [0, len(character), 2 * len(character)]
    pieces = cut(text + "끝", Unit(0, len(text) + 1, Boundary.SENTENCE), 1, ())
    assert [text[p.start : p.end] for p in pieces[:3]] == [character] * 3
    assert not is_character_start("가\r\n나", 2)


def test_a_character_alone_is_cut_when_nothing_else_is_left() -> None:
    """A letter with thousands of marks can't be one chunk, and what can't be seen is left out."""
    text = "a" + "\u0301" * 10 + "\u200b" * 10
    (piece,) = cut(text, Unit(0, len(text), Boundary.SENTENCE), 4, ())
    assert text[: piece.end] == "a" + "\u0301" * 10
    assert [part.end - part.start for part in cut(text, piece, 4, ())] == [4, 4, 3]


BOUNDARIES = st.sampled_from(list(Boundary))


@given(
    units=st.lists(st.tuples(st.integers(1, 30), BOUNDARIES), min_size=1, max_size=40),
    overlap=st.integers(0, 15),
)
@settings(deadline=None)
def test_packing_keeps_to_the_room_and_loses_nothing(
    units: list[tuple[int, Boundary]], overlap: int
) -> None:
    """Every unit is fresh in one piece, none is too long, and what is repeated is within bounds."""
    tokens, boundaries = [t for t, _ in units], [b for _, b in units]
    heads = [0] * len(units)
    packed = pack(tokens, boundaries, heads, room=30, overlap=overlap)
    assert [i for piece in packed for i in range(piece.fresh, piece.end)] == list(range(len(units)))
    for piece in packed:
        assert sum(tokens[piece.first : piece.end]) <= 30
        assert sum(tokens[piece.first : piece.fresh]) <= overlap
        assert Boundary.FORCED not in boundaries[piece.first + 1 : piece.end]


def ends(units: list[tuple[int, Boundary]], room: int) -> list[int]:
    tokens, boundaries = [t for t, _ in units], [b for _, b in units]
    packed = pack(tokens, boundaries, [0] * len(units), room=room, overlap=0)
    return [piece.end for piece in packed]


def test_packing_prefers_sections_to_paragraphs_to_sentences() -> None:
    """A piece ends early rather than within a section or a paragraph, if not too early."""
    sentence, paragraph = (10, Boundary.SENTENCE), (10, Boundary.PARAGRAPH)
    section = (10, Boundary.SECTION)
    assert ends([sentence] * 9 + [paragraph] + [sentence] * 40, 100)[0] == 9
    assert ends([sentence] * 6 + [section] + [sentence] * 40, 100)[0] == 6
    assert ends([sentence] * 3 + [paragraph] + [sentence] * 40, 100)[0] == 10
    assert (
        ends(
            [sentence] * 8 + [section, (10, Boundary.AFTER_HEADING), (90, Boundary.CHARACTER)], 100
        )[0]
        == 8
    )


def test_packing_leaves_no_scrap() -> None:
    """What two pieces hold is divided evenly rather than into a full one and a scrap."""
    assert ends([(10, Boundary.SENTENCE)] * 12, 100) == [6, 12]
