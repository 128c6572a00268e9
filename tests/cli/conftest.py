"""Ways to run the command ``koe5``, and something for it to work on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import KOREAN
from typer.testing import CliRunner, Result

from koe5_integrations.cli import app

RUNNER = CliRunner()


@pytest.fixture
def invoke() -> Callable[..., Result]:
    """Run ``koe5`` in this process."""

    def run(*args: str | Path, stdin: str | bytes | None = None) -> Result:
        result = RUNNER.invoke(app, [str(arg) for arg in args], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def embed(invoke: Callable[..., Result], static_model: Path) -> Callable[..., Result]:
    """Run ``koe5 embed`` with the tiny model, as passages unless told otherwise."""

    def run(*args: str | Path, role: str = "passage", stdin: str | bytes | None = None) -> Result:
        return invoke("embed", "--model", static_model, "--role", role, *args, stdin=stdin)

    return run


@pytest.fixture
def koe5() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``koe5`` in a process of its own, where the modules ``without`` can't be imported."""

    def run(
        *args: str | Path, stdin: str = "", without: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        code = f"import sys; sys.modules.update(dict.fromkeys({without!r}))\n"
        code += "from koe5_integrations.cli import main; main()"
        start = ["-c", code] if without else ["-m", "koe5_integrations"]
        return subprocess.run(
            [sys.executable, *start, *map(str, args)],
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
        )

    return run


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """The Korean sentences, one per line."""
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(KOREAN[:5]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write lines to ``in.jsonl``: objects as JSON, strings as they are."""

    def write(*lines: Any) -> Path:
        path = tmp_path / "in.jsonl"
        written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("\n".join(written) + "\n", encoding="utf-8")
        return path

    return write
