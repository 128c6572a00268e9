"""Tests of koe5_integrations.training.texts: texts with their roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recipe_data import write_jsonl

from koe5_integrations.errors import DatasetError
from koe5_integrations.training.texts import read_texts

pytest.importorskip("datasets")

TRIPLETS = [
    {"query": "여권 비용은?", "positive": "오만 원이다.", "negative": "사흘 걸린다."},
    {"query": "여권 기간은?", "positive": "사흘 걸린다.", "negative": "오만 원이다."},
    {"query": "여권 비용은?", "positive": "구청에 낸다.", "negative": "사흘 걸린다."},
]


def test_triplets_give_each_text_once(tmp_path: Path) -> None:
    """Queries are one role; positives and negatives together the other, in the file's order."""
    found = read_texts(write_jsonl(tmp_path / "triplets.jsonl", TRIPLETS))
    assert found.queries == ["여권 비용은?", "여권 기간은?"]
    assert found.passages == ["오만 원이다.", "사흘 걸린다.", "구청에 낸다."]
    assert [file.rows for file in found.files] == [3]
    assert len(found) == 5


def test_single_texts_say_their_role(tmp_path: Path) -> None:
    """Without one they are passages; several files of both kinds are read as one."""
    rows = [
        {"text": "운전면허는?", "role": "query"},
        {"text": "시험을 본다.", "role": "passage"},
        {"text": "면허증을 받는다."},
    ]
    files = [
        write_jsonl(tmp_path / "texts.jsonl", rows),
        write_jsonl(tmp_path / "triplets.jsonl", TRIPLETS),
    ]
    found = read_texts(files)
    assert found.queries == ["운전면허는?", "여권 비용은?", "여권 기간은?"]
    assert found.passages[:2] == ["시험을 본다.", "면허증을 받는다."]
    assert [file.rows for file in found.files] == [3, 3]


def test_rows_of_a_test_set_are_left_out(tmp_path: Path) -> None:
    """A row is left out whole, judged by letters and digits, and counted."""
    texts = [{"text": "사흘  걸린다!"}, {"text": "면허증을 받는다."}]
    files = [
        write_jsonl(tmp_path / "texts.jsonl", texts),
        write_jsonl(tmp_path / "triplets.jsonl", [*TRIPLETS, {**TRIPLETS[0], "negative": "없다."}]),
    ]
    found = read_texts(files, protected=["사흘 걸린다."])
    assert found.passages == ["면허증을 받는다.", "오만 원이다.", "없다."]
    assert found.left_out == 4
    assert [file.rows for file in found.files] == [1, 1]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": " "}, r"texts\.jsonl:2: its 'text' must be a text that is not blank, not ' '"),
        ({"text": 3}, r"texts\.jsonl:2: its 'text' must be a text that is not blank, not 3"),
        ({"text": "글", "role": "doc"}, r"texts\.jsonl:2: its 'role' must be .* not 'doc'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    """The error says the file and the line."""
    with pytest.raises(DatasetError, match=said):
        read_texts(write_jsonl(tmp_path / "texts.jsonl", [{"text": "글"}, row]))


def test_drawing_keeps_roles_and_order(tmp_path: Path) -> None:
    """What is drawn and what is left are all there was, and the seed decides."""
    found = read_texts(write_jsonl(tmp_path / "triplets.jsonl", TRIPLETS))
    drawn, rest = found.draw(2, seed=1)
    assert (len(drawn), len(rest)) == (2, 3)
    assert sorted([*drawn.queries, *rest.queries]) == sorted(found.queries)
    assert sorted([*drawn.passages, *rest.passages]) == sorted(found.passages)
    assert found.draw(2, seed=1)[0] == drawn
    assert any(found.draw(2, seed=seed)[0] != drawn for seed in range(2, 6))
    assert rest.passages == [text for text in found.passages if text in rest.passages]
