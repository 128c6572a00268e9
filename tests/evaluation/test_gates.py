"""Tests of koe5_integrations.evaluation.gates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluated import QRELS, result_of, system_result

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.gates import (
    Baseline,
    Threshold,
    check_regression,
    check_thresholds,
)
from koe5_integrations.evaluation.results import EvalResult, IndexStats, Measured, SystemResult

IDS = [f"q{i}" for i in range(40)]


def evaluated(values: dict[str, list[float]], sha256: str = "ab" * 32) -> EvalResult:
    """A result of forty queries, from each system's nDCG@10 by query."""
    systems = {
        spec: SystemResult(
            spec,
            {"ndcg@10": Measured(float(np.mean(each)), (0.0, 1.0), len(each))},
            {"ndcg@10": dict(zip(IDS, each, strict=False))},
            {},
            IndexStats(0.0, None),
        )
        for spec, each in values.items()
    }
    return EvalResult("set", systems, [], {}, {"data": {"name": "set", "sha256": sha256}})


def baseline(path: Path, values: dict[str, list[float]]) -> Baseline:
    """Write what an evaluation writes, and read it back."""
    from koe5_integrations.evaluation.files import BASELINE, baseline_of, to_json

    (path / BASELINE).write_text(to_json(baseline_of(evaluated(values))), encoding="utf-8")
    return Baseline.read(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ndcg@10=0.80", Threshold("ndcg@10", 0.8)),
        (" recall@5 = 1 ", Threshold("recall@5", 1.0)),
        ("bm25:bigram:ndcg@10=0.5", Threshold("ndcg@10", 0.5, "bm25:bigram")),
        ("dense:/a=b/c:mrr@3=0", Threshold("mrr@3", 0.0, "dense:/a=b/c")),
    ],
)
def test_a_threshold_is_read(text: str, expected: Threshold) -> None:
    """The measure stands before the last =, and after the system's last colon."""
    assert Threshold.parse(text) == expected


@pytest.mark.parametrize("text", ["", "ndcg@10", "=0.8", "ndcg@10=", "ndcg@10=80", "ndcg@10=nan"])
def test_a_bad_threshold_is_an_error(text: str) -> None:
    """What is no threshold is refused with a value that is one."""
    with pytest.raises(ConfigError, match=r"ndcg@10=0\.80|0\.80 for 80"):
        Threshold.parse(text)


def test_an_unknown_measure_is_an_error() -> None:
    """A mistyped measure is refused before anything runs."""
    with pytest.raises(ConfigError, match="ndgc"):
        Threshold.parse("ndgc@10=0.8")


def test_thresholds_hold_for_the_first_system_or_the_one_named() -> None:
    """Without a name the first system is judged, and a mean equal to the threshold passes."""
    result = result_of(
        system_result("a", {"ndcg@10": [0.1, 0.2, 0.6]}),
        system_result("b", {"ndcg@10": [0.0, 0.0, 0.3]}),
    )
    found = check_thresholds(
        result, map(Threshold.parse, ["ndcg@10=0.3", "b:ndcg@10=0.2", "ndcg@10=0.31"])
    )
    assert [verdict.passed for verdict in found] == [True, False, False]
    assert found[1].reason == "b: ndcg@10 0.1000 < 0.2"


@pytest.mark.parametrize("text", ["c:ndcg@10=0.1", "recall@7=0.1"])
def test_a_threshold_of_what_was_not_measured_is_an_error(text: str) -> None:
    """A gate that checks nothing is no gate."""
    result = result_of(system_result("a", {"ndcg@10": [0.1, 0.2, 0.6]}))
    with pytest.raises(ConfigError, match=r"there is a|measured were ndcg@10"):
        check_thresholds(result, [Threshold.parse(text)])


def test_a_clear_drop_is_a_regression_and_noise_is_not(tmp_path: Path) -> None:
    """Fifteen queries lost fail the gate; one lost passes; better passes."""
    before = baseline(tmp_path, {"a": [1.0] * 40, "b": [1.0] * 40, "c": [0.5] * 40})
    now = evaluated({"a": [0.0] * 15 + [1.0] * 25, "b": [0.0] + [1.0] * 39, "c": [0.9] * 40})
    verdicts = check_regression(now, before, ["ndcg@10"])
    assert [verdict.passed for verdict in verdicts] == [False, True, True]
    assert verdicts[0].reason.startswith("a: ndcg@10 1.0000 before, 0.6250 now, p=0.0")


def test_only_what_both_runs_have_is_compared(tmp_path: Path) -> None:
    """A system that is new has nothing to regress from."""
    before = baseline(tmp_path, {"a": [1.0] * 40})
    (verdict,) = check_regression(
        evaluated({"a": [1.0] * 40, "new": [0.0] * 40}), before, ["ndcg@10", "recall@10"]
    )
    assert verdict.passed


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    """A gate with no system to compare says so instead of passing."""
    before = baseline(tmp_path, {"a": [1.0] * 40})
    with pytest.raises(ConfigError, match="no system and measure in common"):
        check_regression(evaluated({"b": [1.0] * 40}), before, ["ndcg@10"])


def test_other_queries_are_an_error(tmp_path: Path) -> None:
    """A paired test needs the same queries, and those that differ are named."""
    before = baseline(tmp_path, {"a": [1.0] * 40})
    with pytest.raises(ConfigError, match=r"1 only there \('q39'"):
        check_regression(evaluated({"a": [1.0] * 39}), before, ["ndcg@10"])


def test_other_data_is_said(tmp_path: Path) -> None:
    """Equal query ids over changed documents are compared, with a note."""
    before = baseline(tmp_path, {"a": [1.0] * 40})
    now = evaluated({"a": [1.0] * 40}, sha256="cd" * 32)
    (verdict,) = check_regression(now, before, ["ndcg@10"])
    assert "documents, questions or judgements are not the baseline's" in verdict.reason


def test_a_baseline_is_found_by_its_folder_or_a_neighbour(tmp_path: Path) -> None:
    """The folder, baseline.json and metrics.json lead to the same values."""
    expected = baseline(tmp_path, {"a": [1.0] * 40})
    assert Baseline.read(tmp_path / "baseline.json") == expected
    assert Baseline.read(tmp_path / "metrics.json") == expected


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"data": {"sha256": "x"}, "per_query": {"a": {"ndcg@10": {"q": 2}}}}'],
)
def test_a_broken_baseline_is_one_error(tmp_path: Path, content: str) -> None:
    """A file that is no baseline is refused with its path."""
    (tmp_path / "baseline.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"baseline\.json is not a baseline\.json"):
        Baseline.read(tmp_path / "baseline.json")


def test_a_missing_baseline_is_an_error(tmp_path: Path) -> None:
    """A path that leads nowhere says what to give."""
    with pytest.raises(ConfigError, match="there is no file"):
        Baseline.read(tmp_path / "nowhere")


def test_a_baseline_holds_every_query(tmp_path: Path) -> None:
    """What is written is the value of each query by id, and nothing that changes by itself."""
    from koe5_integrations.evaluation.files import baseline_of

    result = result_of(system_result("a", {"ndcg@10": [0.1, 0.2, 0.6]}))
    assert json.loads(json.dumps(baseline_of(result))) == {
        "data": {"name": "작은 모음", "sha256": "ab" * 32},
        "per_query": {"a": {"ndcg@10": dict(zip(QRELS, [0.1, 0.2, 0.6], strict=True))}},
    }
