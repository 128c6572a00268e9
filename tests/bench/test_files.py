"""The files of a benchmark."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from koe5_integrations.bench import BenchResult, Configuration, Failed, run_bench, write_bench
from koe5_integrations.bench.files import check_output, render_markdown
from koe5_integrations.bench.tables import tables
from koe5_integrations.errors import ConfigError


@pytest.fixture(scope="module")
def result(static_model: Path) -> BenchResult:
    found = run_bench(
        static_model, lengths=(16, 32), callers=(1, 2), seconds=0.01, rounds=2, quick=True
    )
    # As a second configuration, so that there is something to compare.
    other = replace(found.measured[0], configuration=Configuration("onnx", "int8"))
    failed = Failed(Configuration("openvino"), "no export | at hand")
    return replace(found, measured=(*found.measured, other), failed=(failed,), notes=("a note",))


def test_all_files_are_written(result: BenchResult, tmp_path: Path) -> None:
    """Three files, and what else lies in the folder stays."""
    (tmp_path / "mine.txt").write_text("kept")
    paths = write_bench(result, tmp_path)
    assert sorted(path.name for path in paths) == ["bench.json", "bench.md", "bench.svg"]
    assert len(list(tmp_path.iterdir())) == 4


def test_the_plot_is_an_image_that_names_what_it_shows(result: BenchResult, tmp_path: Path) -> None:
    """The SVG is well-formed, the same for the same figures, and has a label for each part."""
    named = replace(result, model={**result.model, "model": "내 모델"})
    write_bench(named, tmp_path)
    drawn = (tmp_path / "bench.svg").read_bytes()
    root = ET.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"static", "onnx int8", "Bulk", "Concurrent callers", "tokens in a passage"} < texts
    assert any(text and text.startswith("내 모델 (dim 16) on") for text in texts)
    write_bench(named, tmp_path)
    assert (tmp_path / "bench.svg").read_bytes() == drawn


def kinds(value: Any) -> Any:
    """Return the shape of a JSON value: types, and keys of objects; a list's first item."""
    if isinstance(value, dict):
        return {key: kinds(each) for key, each in value.items()}
    if isinstance(value, list):
        return [kinds(value[0])] if value else []
    return type(value).__name__


def test_json_has_a_fixed_shape(result: BenchResult, tmp_path: Path) -> None:
    """What a program may rely on: raw figures of every round beside what is drawn from them."""
    write_bench(result, tmp_path)
    stored = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert stored["format"] == 1
    assert set(stored) == {
        "format",
        "model",
        "machine",
        "versions",
        "settings",
        "measured",
        "failed",
        "recommendation",
        "notes",
        "created",
    }
    waits = {"rounds": [["float"]], "calls": "int", "p50": "float", "p95": "float", "p99": "float"}
    assert kinds(stored["measured"][0]) == {
        "configuration": {"backend": "str", "precision": "str"},
        "device": "str",
        "batch_tokens": "int",
        "load_seconds": "float",
        "first_query_seconds": "float",
        "memory": {"resident": "int", "peak": "int", "device_peak": "NoneType"},
        "throughput": [
            {
                "length": "int",
                "batch_tokens": "NoneType",
                "tokens": "float",
                "texts": "int",
                "rounds": ["float"],
                "texts_per_second": "float",
                "tokens_per_second": "float",
            }
        ],
        "query": waits,
        "query_during_bulk": waits,
        "callers": [
            {
                "callers": "int",
                "rounds": ["float"],
                "p50_rounds": ["float"],
                "p95_rounds": ["float"],
                "queries_per_second": "float",
                "p50": "float",
                "p95": "float",
            }
        ],
        "fidelity": {"mean": "float", "min": "float", "texts": "int", "reference": "str"},
    }
    assert {"cpu", "flags", "cores", "memory", "system", "architecture"} <= set(stored["machine"])
    assert stored["recommendation"]["bulk"]["code"].startswith("KoE5Encoder(")
    assert stored["failed"][0]["reason"] == "no export | at hand"


def test_markdown_can_be_pasted(result: BenchResult) -> None:
    """Every table has as many cells in each row, and failures and notes are said."""
    page = render_markdown(result)
    blocks = [block for block in page.split("\n\n") if block.startswith("| configuration")]
    assert len(blocks) == len(tables(result)) == 4
    for block in blocks:
        assert len({line.count(" | ") for line in block.splitlines()}) == 1
        assert block.count("\n") == 3
    assert "failed: openvino fp32: no export | at hand" in page
    assert "note: a note" in page
    assert result.recommendation.text in page


def test_nothing_measured_is_written_without_a_plot(result: BenchResult, tmp_path: Path) -> None:
    """A run in which all failed still says why, in both files."""
    write_bench(replace(result, measured=()), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "bench.md"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """A place that can't be written is refused before anything is measured."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="output="):
        check_output(tmp_path / "file")
    check_output(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()
