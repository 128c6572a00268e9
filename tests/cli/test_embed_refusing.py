"""``koe5 embed``: what it refuses, and what it warns of."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from koe5_integrations.types import Vectors

Invoke = Callable[..., Result]
Koe5 = Callable[..., "subprocess.CompletedProcess[str]"]
Jsonl = Callable[..., Path]

# What it refuses


@pytest.mark.parametrize(
    ("line", "problem", "remedy"),
    [
        ('{"text": "빵"', "is not JSON", "one object per line"),
        ("[" * 100_000, "is not JSON", "one object per line"),
        ('["빵"]', "must be a JSON object", "['빵']"),
        ('{"body": "빵"}', "has no field 'text' (it has: 'body')", "--field"),
        ('{"text": 5}', "field 'text' must be a string, not 5", "drop the line"),
        ('{"text": "빵", "id": true}', "must be a string or an integer, not True", "--id-field"),
        (r'{"text": "빵", "id": "\ud800"}', "'id' is not valid Unicode", "surrogate"),
        ('{"text": " "}', "has nothing to embed", "drop it"),
        (r'{"text": "\ud800"}', "holds a lone surrogate", "drop it"),
    ],
)
def test_a_bad_line_is_named(
    embed: Invoke, jsonl: Jsonl, tmp_path: Path, line: str, problem: str, remedy: str
) -> None:
    """A line that can't be embedded stops the command, with its file, number and a remedy."""
    path = jsonl({"text": "물"}, "", line, {"text": "불"})
    out = tmp_path / "out.jsonl"
    result = embed(path, "--out", out)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {path}:3")
    assert problem in result.stderr
    assert remedy in result.stderr
    assert sorted(tmp_path.iterdir()) == [path]


def test_bytes_that_are_no_utf8_are_named(embed: Invoke, tmp_path: Path) -> None:
    """A CP949 file is recognised for what it probably is."""
    path = tmp_path / "old.txt"
    path.write_bytes("물\n".encode() + "빵".encode("cp949") + b"\n")
    result = embed(path)
    assert result.exit_code == 2
    assert f"{path}:2 is not UTF-8 (byte 0xbb in column 1)" in result.stderr
    assert "iconv -f cp949" in result.stderr


def test_positions_count_over_files_and_slices(embed: Invoke, tmp_path: Path, texts: Path) -> None:
    """The place named is the file's own line, however many texts came before."""
    path = tmp_path / "late.txt"
    path.write_text("물\n\n" * 2500 + "query: 빵\n", encoding="utf-8")
    result = embed(texts, path, "--on-prefixed", "error")
    assert result.exit_code == 2
    assert f"error: {path}:5001 already starts with a prefix" in result.stderr
    assert "--on-prefixed 'keep'" in result.stderr


def test_an_encoding_error_names_the_line(
    embed: Invoke, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what goes wrong inside the model is told by file and line."""

    def zero(self: object, batch: list[object]) -> Vectors:
        vectors = np.ones((len(batch), 16), dtype=np.float32)
        vectors[0] = 0
        return vectors

    monkeypatch.setattr("koe5_integrations.backends.static.StaticBackend.forward", zero)
    result = embed(texts, "--batch-size", "5")
    assert result.exit_code == 2
    assert f"zero vector for {texts}:" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--out", "out.csv"], "*.jsonl, *.npy, *.parquet"),
        (["--out", "no/such/out.npy"], "there is no folder"),
        (["--out", "folder.npy"], "is not a file"),
        (["--format", "npy"], "--out FILE.npy"),
        (["--model", "no/such-model"], "--query-prompt and --passage-prompt"),
        (["--truncate-dim", "99"], "--truncate-dim 99 is more than"),
        (["--batch-size", "0"], "--batch-size"),
        (["--backend", "onyx"], "--backend"),
        (["missing.txt"], "missing.txt: there is no such file"),
        (["folder.npy"], "is a folder"),
        (["table.csv"], "--input-format"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_refused(
    embed: Invoke,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    message: str,
) -> None:
    """A mistake in the options ends with 2 and a message that names the way out."""
    monkeypatch.chdir(tmp_path)
    Path("folder.npy").mkdir()
    Path("table.csv").write_text("a,b\n", encoding="utf-8")
    result = embed(*args, stdin="빵\n")
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_role_is_never_guessed(invoke: Invoke, static_model: Path) -> None:
    """Without ``--role`` nothing is embedded."""
    result = invoke("embed", "--model", static_model, stdin="빵\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--role" in result.stderr


def test_parquet_without_its_extra(
    koe5: Koe5, static_model: Path, texts: Path, tmp_path: Path
) -> None:
    """Without pyarrow, the message is the line that installs it."""
    out = tmp_path / "out.parquet"
    args = ("embed", "--model", static_model, "--role", "query", texts, "--out", out)
    done = koe5(*args, without=("pyarrow",))
    assert done.returncode == 2
    assert 'pip install "koe5-integrations[parquet]"' in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists()


# What it warns of


def test_prefixed_texts_are_counted(embed: Invoke, tmp_path: Path) -> None:
    """A prefix in the data is told at once with its place, and counted at the end."""
    path = tmp_path / "prefixed.txt"
    path.write_text("물\npassage: 빵\nquery: 불\n", encoding="utf-8")
    result = embed(path)
    assert result.exit_code == 0
    warnings, summary = result.stderr.strip().rsplit("\n", 1)
    assert warnings.startswith(f"warning: {path}:2 already starts with a prefix, and 'passage: '")
    assert "\n" not in warnings
    assert summary.endswith("2 texts had a prefix already")


def test_truncated_texts_are_counted(embed: Invoke, texts: Path) -> None:
    """What was cut off is told once and counted at the end."""
    result = embed(texts, "--max-seq-length", "6")
    warnings, summary = result.stderr.strip().rsplit("\n", 1)
    assert warnings.startswith("warning: 5 of the texts from ")
    assert "--on-truncation error" in warnings
    assert "\n" not in warnings
    assert "5 texts cut at 6 tokens (" in summary


def test_ignored_truncation_is_only_counted(embed: Invoke, texts: Path) -> None:
    """``--on-truncation ignore`` leaves the count and drops the warning."""
    stderr = embed(texts, "--max-seq-length", "6", "--on-truncation", "ignore").stderr
    assert "warning" not in stderr
    assert "5 texts cut" in stderr


def test_truncation_can_be_an_error(embed: Invoke, texts: Path) -> None:
    """``--on-truncation error`` names the first text that would be cut."""
    result = embed(texts, "--max-seq-length", "6", "--on-truncation", "error")
    assert result.exit_code == 2
    assert f"error: {texts}:1 has " in result.stderr
    assert "--on-truncation 'warn'" in result.stderr
