"""``koe5 export``: the table, the folder, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from exports import tiny_koe5
from typer.testing import Result

from koe5_integrations.exports import Export

for needed in ("torch", "onnxscript", "onnxruntime"):
    pytest.importorskip(needed)

Invoke = Callable[..., Result]


def test_a_model_is_exported(invoke: Invoke, tmp_path: Path) -> None:
    """The table is on stdout, the steps and the place on stderr, and the folder can be opened."""
    out = tmp_path / "내 모델"
    # No vector is nearer than 1: only --keep-anyway keeps it.
    floor = ("--min-cosine", "1.1", "--keep-anyway")
    done = invoke("export", tiny_koe5(), "--to", "onnx", "--int8", "-o", out, "--sample", 2, *floor)
    assert done.exit_code == 0, done.stderr
    for part in ("against fp32 on 8 Korean texts", "cosine, mean", "0.99", "nDCG@10", "+0.0000"):
        assert part in done.stdout
    assert "exporting to onnx in int8\n" in done.stderr
    assert f"written to {out} (" in done.stderr
    export = Export.read(out)
    assert export is not None
    assert (export.engine, export.precision) == ("onnx", "int8")
    assert export.fidelity["mean_cosine"] < 1


def test_mistakes_end_with_2(invoke: Invoke, tmp_path: Path) -> None:
    """What can't be done is one message, in the words of the command line."""
    done = invoke("export", "koe5-mini", "--to", "onnx")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "error: koe5-mini needs no export: it runs without torch as it is\n"
    (tmp_path / "mine").write_text("")
    done = invoke("export", tiny_koe5(), "--to", "onnx", "--output", tmp_path)
    assert done.exit_code == 2
    assert f"--output '{tmp_path}' is not empty" in done.stderr
    assert invoke("export", "koe5-mini", "--to", "tensorrt").exit_code == 2
    assert invoke("export", "koe5-mini").exit_code == 2
