"""README and docs are run: Python blocks in order, their printed output, and shell commands."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from chromadb.api.shared_system_client import SharedSystemClient
from sybil import Document, Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What no machine without a network can run.
NOT_RUN = ("pip install", "nlpai-lab/KoE5")

# Chroma's and LangChain's own deprecations, which a page's reader doesn't see either.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def run_python(example: Example) -> None:
    """Run a block in the page's namespace and keep what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        PythonEvaluator()(example)
    example.namespace["_printed"] = printed.getvalue()


def compare_output(example: Example) -> None:
    """Hold a ``text`` block against what the block above it printed."""
    assert example.namespace.pop("_printed").strip() == example.parsed.strip()


def run_shell(example: Example) -> None:
    """Run a block of commands, with this environment's programs first on the path."""
    if any(part in example.parsed for part in NOT_RUN):
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example.parsed],
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    example.namespace["_printed"] = done.stdout


def parse(page: Path) -> Document:
    """Split a page into its runnable blocks."""
    parsers = [
        CodeBlockParser("python", run_python),
        CodeBlockParser("text", compare_output),
        CodeBlockParser("bash", run_shell),
    ]
    return Sybil(parsers=parsers, path=str(ROOT)).parse(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block of README and docs runs as printed, in a folder with nothing but the examples."""
    # Chroma keeps one client per path as written, and pages use the same relative ones.
    SharedSystemClient.clear_system_cache()
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for example in parse(page).examples():
        example.evaluate()


def test_pages_have_blocks_to_run() -> None:
    """The pages above are not vacuously fine."""
    assert sum(len(list(parse(page).examples())) for page in PAGES) > 20


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link of README and docs names a file that exists."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
