"""What metadata becomes before any vector store sees it."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from koe5_integrations.ingestion.documents import clean_metadata


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("한글", "한글"),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        (["가", 1], '["가", 1]'),
        (("가",), '["가"]'),
        ({"b": 1, "a": {"c": None}}, '{"a": {"c": null}, "b": 1}'),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (date(2026, 3, 1), "2026-03-01"),
        ([date(2026, 3, 1)], '["2026-03-01"]'),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
    ],
)
def test_values_become_what_stores_can_keep(value: Any, kept: Any) -> None:
    """Scalars stay, structures become JSON, the rest its text."""
    cleaned = clean_metadata({"key": value})
    assert cleaned == {"key": kept}
    assert type(cleaned["key"]) is type(kept)


def test_none_is_left_out() -> None:
    """No store can tell None from a key that is not there."""
    assert clean_metadata({"a": None, "b": ""}) == {"b": ""}


@pytest.mark.parametrize("key", ["", 3, None])
def test_a_key_must_be_a_string(key: Any) -> None:
    """A key that is no string, or empty, is refused by name."""
    with pytest.raises(ValueError, match="metadata key"):
        clean_metadata({key: 1})
