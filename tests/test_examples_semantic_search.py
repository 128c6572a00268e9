"""The small example, semantic_search.py, which needs the base install only."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from example_runs import EXAMPLES, Examples


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return Examples(tmp_path_factory.mktemp("examples"))


def test_semantic_search(run: Examples) -> None:
    """The nine sentences are ranked for each of the three queries, five of each shown."""
    ran = run(EXAMPLES / "semantic_search.py")
    assert (ran.code, ran.err) == (0, "")
    blocks = ran.out.split("\nQuery: ")[1:]
    tops = []
    for block in blocks:
        rows = re.findall(r"^ +(\d)  +(-?\d\.\d{4})  (.+)$", block, re.MULTILINE)
        assert [int(rank) for rank, _, _ in rows] == [1, 2, 3, 4, 5]
        scores = [float(score) for _, score, _ in rows]
        assert scores == sorted(scores, reverse=True)
        assert all(-1.0001 <= score <= 1.0001 for score in scores)
        tops.append(rows[0][2])
    assert tops[1:] == [
        "원숭이 한 마리가 드럼을 연주한다.",
        "치타 한 마리가 먹이 뒤에서 달리고 있다.",
    ]
    assert tops[0].endswith("먹는다.")


def test_semantic_search_takes_one_query(run: Examples, static_model: Path) -> None:
    """A query of one's own replaces the three, and --top-k says how many sentences are shown."""
    args = ["--query", "한 남자가 말을 탄다.", "--top-k", "1", "--model", str(static_model)]
    ran = run(EXAMPLES / "semantic_search.py", *args)
    assert re.search(r"^  1   1\.0000  한 남자가 말을 탄다\.\n\Z", ran.out, re.MULTILINE)


def test_semantic_search_refuses(run: Examples) -> None:
    """A model without a profile is one line of error."""
    ran = run(EXAMPLES / "semantic_search.py", "--model", "nobody/knows")
    ran.refused(2, "nobody/knows")


def test_semantic_search_ends_with_its_reader(static_model: Path) -> None:
    """A reader that goes away, as head does, is answered by no traceback."""
    script = EXAMPLES / "semantic_search.py"
    process = subprocess.Popen(
        [sys.executable, script, "--model", static_model],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, complaints = process.communicate(timeout=120)
    assert (process.returncode, complaints) == (1, b"")


def test_semantic_search_needs_the_base_install_only(run: Examples) -> None:
    """The small example runs where no framework is installed."""
    forbidden = "torch,chromadb,langchain_core,llama_index,sentence_transformers,transformers"
    assert run(EXAMPLES / "semantic_search.py", FORBIDDEN=forbidden).code == 0
