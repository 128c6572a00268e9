"""Tests that docs/scaling.md says what its script computes."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import scaling

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"


@pytest.mark.parametrize("part", [scaling.facts, *scaling.TABLES], ids=lambda part: part.__name__)
def test_the_pages_figures_are_those_of_the_script(part: object) -> None:
    """Every table of the page is printed by the script from its stated inputs."""
    assert callable(part)
    assert part() in PAGE.read_text(encoding="utf-8")


def test_parameters_and_operations_are_those_of_the_model() -> None:
    """XLM-RoBERTa large has 559,890,432 parameters; a token multiplies with 302 million of them."""
    assert sum(scaling.parameters().values()) == 559_890_432
    per_token = scaling.operations(1)
    assert 2 * 301_989_888 < per_token < 2 * 302_309_376
