"""Tests of koe5_integrations.evaluation.report_terminal."""

from __future__ import annotations

from io import StringIO

import pytest
from evaluated import result_of, system_result
from rich.console import Console

from koe5_integrations.evaluation.gates import Verdict
from koe5_integrations.evaluation.report_terminal import print_gates, print_result
from koe5_integrations.evaluation.results import Comparison, EvalResult

VALUES = {
    name: [0.9, 0.8, 0.7] for name in ("ndcg@10", "recall@10", "mrr@10", "success@1", "map@3")
}


@pytest.fixture
def result() -> EvalResult:
    return result_of(
        system_result("bm25:bigram", VALUES, warnings=["a [bold]warning[/bold]"]),
        system_result("dense:/home/누구/models/my-own-model", VALUES),
        comparisons=[
            Comparison("ndcg@10", "bm25:bigram", "dense:/home/누구/models/my-own-model", 0, 0, 0)
        ],
    )


def shown(result: EvalResult, width: int) -> str:
    console = Console(file=StringIO(), width=width)
    print_result(result, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_table_has_value_interval_and_n(result: EvalResult) -> None:
    """Each headline measure is shown with its interval, and the queries it is a mean of."""
    text = shown(result, 120)
    assert "작은 모음: 3 queries, 4 documents" in text
    for part in ("nDCG@10", "success@1", "0.800", "0.700–0.900", "> b", "n"):
        assert part in text
    assert "MAP@3" not in text


def test_names_are_no_markup(result: EvalResult) -> None:
    """Brackets in a warning or a name are shown, not obeyed."""
    assert "a [bold]warning[/bold]" in shown(result, 120)


@pytest.mark.parametrize("width", [80, 100, 200])
def test_it_fits_the_terminal(result: EvalResult, width: int) -> None:
    """No line is wider than the terminal, and no number is cut."""
    from rich.cells import cell_len

    text = shown(result, width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert text.count("0.700–0.900") == 8


def test_gates_say_passed_or_failed() -> None:
    """Each gate is a line with its reason."""
    console = Console(file=StringIO(), width=80)
    print_gates([Verdict(True, "a: fine"), Verdict(False, "b: worse")], console)
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue() == "passed: a: fine\nFAILED: b: worse\n"


def test_ablations_are_shown_apart() -> None:
    """A variant is no row of the main table, but of its own, with its change."""
    result = result_of(
        system_result("m", VALUES),
        system_result("m[prefix=none]", {name: [0.3, 0.2, 0.1] for name in VALUES}),
        comparisons=[Comparison("ndcg@10", "m", "m[prefix=none]", 0.6, 0.01, 0.02)],
    )
    text = shown(result, 120)
    (line,) = [line for line in text.splitlines() if "m[prefix=none]" in line]
    assert line.split() == ["m[prefix=none]", "0.200", "-0.600", "0.0200"]
    assert "> b" not in text  # no letter of a system that the main table does not show
