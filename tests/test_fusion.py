"""Reciprocal rank fusion."""

from __future__ import annotations

import pytest

from koe5_integrations.errors import ConfigError
from koe5_integrations.fusion import reciprocal_rank_fusion


def test_adds_reciprocal_ranks():
    """Each ranking adds 1 / (60 + rank), counted from 1."""
    fused = dict(reciprocal_rank_fusion([["a", "b"], ["b", "c"]]))
    assert fused == pytest.approx({"b": 1 / 62 + 1 / 61, "a": 1 / 61, "c": 1 / 62})
    assert list(fused) == ["b", "a", "c"]


def test_ties_go_to_the_better_rank_and_then_to_the_earlier_ranking():
    """Equal scores are ordered by best rank, then by ranking."""
    assert [key for key, _ in reciprocal_rank_fusion([["a", "b"], ["c", "d"]])] == list("acbd")


def test_a_repeated_id_counts_where_it_stands_first():
    """A repetition neither adds a second time nor takes a rank."""
    assert reciprocal_rank_fusion([["a", "a", "b"]]) == [("a", 1 / 61), ("b", 1 / 62)]


def test_weights():
    """A ranking of weight 0 only breaks ties."""
    fused = reciprocal_rank_fusion([["a"], ["b"]], weights=[0, 2], k=0)
    assert fused == [("b", 2.0), ("a", 0.0)]


@pytest.mark.parametrize("rankings", [[], [[]], [[], []]])
def test_nothing_to_fuse(rankings):
    """Empty rankings fuse to an empty one."""
    assert reciprocal_rank_fusion(rankings) == []


@pytest.mark.parametrize(
    "arguments", [{"k": -1}, {"weights": [1]}, {"weights": [1, -1]}, {"k": float("nan")}]
)
def test_impossible_arguments(arguments):
    """Negative numbers and a wrong number of weights are refused."""
    with pytest.raises(ConfigError):
        reciprocal_rank_fusion([["a"], ["b"]], **arguments)
