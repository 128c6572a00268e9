"""``koe5 models``: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

import pytest
from rich.cells import cell_len
from typer.testing import Result

from koe5_integrations.cli import models
from koe5_integrations.profiles import PROFILES

Invoke = Callable[..., Result]


def test_table_has_every_model_on_a_line(invoke: Invoke) -> None:
    """Away from a terminal nothing is wrapped: one line is one model, columns aligned."""
    result = invoke("models")
    head, *lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(PROFILES)
    assert {cell_len(line) for line in lines} == {cell_len(head)}
    facts = lines[0].split("  ")
    assert [fact.strip() for fact in facts if fact.strip()][1:6] == [
        "1024",
        "512",
        "mean",
        '"query: "',
        '"passage: "',
    ]


def test_prompts_show_their_ends(invoke: Invoke) -> None:
    """A space or line break in a prompt can be seen, and no prompt is called none."""
    lines = {line.split()[0]: line for line in invoke("models").stdout.splitlines()}
    assert r'the query\nQuery: "' in lines["intfloat/multilingual-e5-large-instruct"]
    assert lines["BAAI/bge-m3"].count("  none  ") == 2


def test_wide_characters_keep_the_columns(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hangul takes two cells, and the columns after it still line up."""
    korean = dict(PROFILES)
    first = next(iter(korean.values()))
    changed = {**asdict(first), "query_prompt": "질문: ", "note": "한국어 검색 [기본]"}
    korean[first.name] = type(first)(**changed)
    monkeypatch.setattr("koe5_integrations.profiles.PROFILES", korean)
    head, *lines = invoke("models").stdout.splitlines()
    assert '"질문: "' in lines[0]
    assert lines[0].rstrip().endswith("한국어 검색 [기본]")
    assert {cell_len(line) for line in lines} == {cell_len(head)}


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_terminal_never_breaks_a_name(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Where the table doesn't fit, each model is a paragraph instead."""
    monkeypatch.setattr(models, "terminal_width", lambda: width)
    shown = invoke("models").stdout
    assert [word for word in shown.split() if word in PROFILES] == list(PROFILES)
    if width >= 160:
        assert all(cell_len(line) <= width for line in shown.splitlines())


def test_json_has_all_that_is_known(invoke: Invoke) -> None:
    """``--json`` is the table of profiles, field by field."""
    listed = json.loads(invoke("models", "--json").stdout)
    known = json.loads(json.dumps([asdict(profile) for profile in PROFILES.values()]))
    assert listed == known
