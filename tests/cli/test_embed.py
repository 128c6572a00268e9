"""``koe5 embed``: what it reads, what it writes, and what it leaves behind when it can't."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_models import KOREAN
from typer.testing import Result

from koe5_integrations import KoE5Encoder
from koe5_integrations.types import Vectors

Invoke = Callable[..., Result]
Koe5 = Callable[..., "subprocess.CompletedProcess[str]"]
Jsonl = Callable[..., Path]


@pytest.fixture
def encoder(static_model: Path) -> KoE5Encoder:
    return KoE5Encoder(static_model)


@pytest.fixture
def embed(invoke: Invoke, static_model: Path) -> Invoke:
    """Run ``koe5 embed`` with the tiny model, as passages unless told otherwise."""

    def run(*args: str | Path, role: str = "passage", stdin: str | bytes | None = None) -> Result:
        return invoke("embed", "--model", static_model, "--role", role, *args, stdin=stdin)

    return run


def _rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def _vectors(text: str) -> Vectors:
    return np.array([row["embedding"] for row in _rows(text)], dtype=np.float32)


# What it writes


@pytest.mark.parametrize("role", ["query", "passage"])
def test_stdout_has_one_json_object_per_text(
    embed: Invoke, texts: Path, encoder: KoE5Encoder, role: str
) -> None:
    """Each line holds id, text, role and exactly the encoder's vector of that role."""
    result = embed(texts, role=role)
    assert result.exit_code == 0
    rows = _rows(result.stdout)
    assert [list(row) for row in rows] == [["id", "text", "role", "embedding"]] * 5
    assert [row["text"] for row in rows] == KOREAN[:5]
    assert [row["id"] for row in rows] == [f"{texts}:{n}" for n in range(1, 6)]
    assert {row["role"] for row in rows} == {role}
    encode = encoder.encode_queries if role == "query" else encoder.encode_passages
    assert np.array_equal(_vectors(result.stdout), encode(KOREAN[:5]))
    assert f"5 texts embedded as {role} with " in result.stderr


@pytest.mark.parametrize("name", ["out.jsonl", "out.npy", "out.parquet", "OUT.NPY"])
def test_every_format_holds_the_same_vectors(
    embed: Invoke, texts: Path, encoder: KoE5Encoder, tmp_path: Path, name: str
) -> None:
    """The file's name picks the format, and no format loses a bit."""
    out = tmp_path / name
    result = embed(texts, "--out", out)
    assert (result.exit_code, result.stdout) == (0, "")
    if name.lower().endswith("npy"):
        vectors = np.load(out)
        assert vectors.dtype == np.float32
    elif name.endswith("jsonl"):
        vectors = _vectors(out.read_text(encoding="utf-8"))
    else:
        import pyarrow.parquet as pq

        table = pq.read_table(out)
        assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[16]"
        assert table.column("text").to_pylist() == KOREAN[:5]
        assert table.column("id").to_pylist() == [f"{texts}:{n}" for n in range(1, 6)]
        stored = table.schema.metadata
        assert stored[b"koe5:role"] == b"passage"
        assert stored[b"koe5:fingerprint"].decode() == encoder.fingerprint.digest
        vectors = np.stack(table.column("embedding").to_numpy())
    assert np.array_equal(vectors, encoder.encode_passages(KOREAN[:5]))


def test_format_overrides_the_name(embed: Invoke, texts: Path, tmp_path: Path) -> None:
    """``--format`` wins over the extension."""
    out = tmp_path / "vectors.bin"
    assert embed(texts, "--out", out, "--format", "npy").exit_code == 0
    assert np.load(out).shape == (5, 16)


@pytest.mark.parametrize("name", ["out.jsonl", "out.npy", "out.parquet"])
def test_many_slices_are_one_output(
    embed: Invoke, tmp_path: Path, encoder: KoE5Encoder, name: str
) -> None:
    """More texts than are embedded at once come out complete and in order."""
    texts = [f"서울의 겨울 {i}" for i in range(5000)]
    source = tmp_path / "many.txt"
    source.write_text("\n".join(texts), encoding="utf-8")
    out = tmp_path / name
    assert embed(source, "--out", out).exit_code == 0
    if name == "out.npy":
        vectors = np.load(out)
    elif name == "out.jsonl":
        vectors = _vectors(out.read_text(encoding="utf-8"))
    else:
        import pyarrow.parquet as pq

        table = pq.read_table(out)
        assert table.column("text").to_pylist() == texts
        vectors = np.stack(table.column("embedding").to_numpy())
    assert vectors.shape == (5000, 16)
    some = [0, 2047, 2048, 4095, 4096, 4999]
    assert np.array_equal(vectors[some], encoder.encode_passages([texts[i] for i in some]))


@pytest.mark.parametrize("name", ["out.jsonl", "out.npy", "out.parquet"])
def test_no_texts_give_an_empty_file(embed: Invoke, tmp_path: Path, name: str) -> None:
    """Nothing in is nothing out, in a file that can be read."""
    out = tmp_path / name
    result = embed("--out", out, stdin="\n  \n")
    assert result.exit_code == 0
    assert "0 texts embedded" in result.stderr
    assert "2 empty lines skipped" in result.stderr
    if name == "out.npy":
        assert np.load(out).shape == (0, 16)
    elif name == "out.jsonl":
        assert out.read_bytes() == b""
    else:
        import pyarrow.parquet as pq

        assert pq.read_table(out).num_rows == 0


def test_quiet_says_nothing(embed: Invoke, texts: Path) -> None:
    """``--quiet`` leaves stderr to warnings and errors."""
    result = embed(texts, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")


# What it reads


@pytest.mark.parametrize("dash", [[], ["-"]], ids=["nothing", "dash"])
def test_stdin_is_text(embed: Invoke, dash: list[str]) -> None:
    """Without files, or with -, one text per line is read from stdin."""
    rows = _rows(embed(*dash, stdin="빵\n\n물\r\n").stdout)
    assert [(row["id"], row["text"]) for row in rows] == [("stdin:1", "빵"), ("stdin:3", "물")]


def test_files_are_read_in_order(embed: Invoke, texts: Path, jsonl: Jsonl) -> None:
    """Several files of different formats make one output."""
    result = embed(jsonl({"id": 7, "text": "밀가루"}, {"id": None, "text": "소금"}), texts)
    rows = _rows(result.stdout)
    assert [row["text"] for row in rows] == ["밀가루", "소금", *KOREAN[:5]]
    assert rows[0]["id"] == "7"
    assert str(rows[1]["id"]).endswith("in.jsonl:2")


def test_fields_are_chosen_by_name(embed: Invoke, jsonl: Jsonl) -> None:
    """``--field`` and ``--id-field`` read data sets that name them otherwise."""
    path = jsonl({"_id": "q1", "질문": "왜?", "text": "아니다"})
    (row,) = _rows(embed(path, "--field", "질문", "--id-field", "_id").stdout)
    assert (row["id"], row["text"]) == ("q1", "왜?")


def test_input_format_overrides_the_name(embed: Invoke) -> None:
    """``--input-format`` reads JSON from stdin."""
    result = embed("--input-format", "jsonl", stdin='{"text": "물"}\n')
    assert _rows(result.stdout)[0]["text"] == "물"


def test_a_byte_order_mark_is_no_text(embed: Invoke, tmp_path: Path) -> None:
    """What Windows editors put at the start of a file is not embedded."""
    path = tmp_path / "bom.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "빵\n".encode())
    assert _rows(embed(path).stdout)[0]["text"] == "빵"


def test_options_reach_the_encoder(embed: Invoke, texts: Path, static_model: Path) -> None:
    """Prompts, length and the like are the encoder's options."""
    result = embed(
        *(texts, "--passage-prompt", "문서: ", "--max-seq-length", "8", "--batch-size", "2"),
        *("--on-truncation", "ignore", "--profile", "koe5-mini", "--backend", "static"),
    )
    encoder = KoE5Encoder(
        static_model, passage_prompt="문서: ", max_seq_length=8, on_truncation="ignore"
    )
    assert np.array_equal(_vectors(result.stdout), encoder.encode_passages(KOREAN[:5]))


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


def test_an_existing_file_is_kept_unless_forced(embed: Invoke, texts: Path, tmp_path: Path) -> None:
    """``--out`` replaces nothing without ``--force``, and then only by something complete."""
    out = tmp_path / "out.jsonl"
    out.write_text("dear\n", encoding="utf-8")
    assert "exists: choose another" in embed(texts, "--out", out).stderr
    assert embed("--out", out, "--force", stdin="빵\n\u3164\n").exit_code == 2
    assert out.read_text(encoding="utf-8") == "dear\n"
    assert embed(texts, "--out", out, "--force").exit_code == 0
    assert len(_rows(out.read_text(encoding="utf-8"))) == 5


def test_a_link_is_followed(embed: Invoke, texts: Path, tmp_path: Path) -> None:
    """Replacing a linked file replaces what it links to, not the link."""
    (tmp_path / "real.npy").touch()
    link = tmp_path / "link.npy"
    link.symlink_to("real.npy")
    assert embed(texts, "--out", link, "--force").exit_code == 0
    assert link.is_symlink()
    assert np.load(tmp_path / "real.npy").shape == (5, 16)


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


# As a process


def test_the_bundled_model_needs_no_torch(koe5: Koe5) -> None:
    """The base install embeds offline; results are on stdout and the rest on stderr."""
    args = ("embed", "--model", "koe5-mini", "--role", "query")
    done = koe5(*args, stdin="왜 문자열은 불변인가요?\n", without=("torch", "transformers"))
    assert done.returncode == 0, done.stderr
    vectors = _vectors(done.stdout)
    assert np.allclose((vectors**2).sum(axis=1), 1, atol=1e-5)
    assert done.stderr == (f"1 text embedded as query with koe5-mini (dim {vectors.shape[1]})\n")


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


def _start(*args: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "koe5_integrations", *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")
def test_a_closed_pipe_is_quiet(static_model: Path) -> None:
    """``koe5 embed | head`` ends without a word, having streamed while input was still open."""
    process = _start("embed", "--model", static_model, "--role", "query", "--quiet")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        process.stdin.write("겨울\n".encode() * 5000)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == "stdin:1"
        process.stdout.close()
        process.stdin.write("겨울\n".encode() * 5000)
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")
@pytest.mark.parametrize("format", ["jsonl", "npy", "parquet"])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_leaves_nothing(
    static_model: Path, tmp_path: Path, format: str, signum: signal.Signals, code: int
) -> None:
    """Ctrl-C and SIGTERM end it with their exit codes, and no file remains."""
    folder = tmp_path / "out"
    folder.mkdir()
    args = ("--role", "passage", "--out", folder / f"vectors.{format}")
    process = _start("embed", "--model", static_model, *args)
    assert process.stdin is not None
    assert process.stderr is not None
    with process:
        process.stdin.write("겨울\n".encode() * 5000)
        process.stdin.flush()
        # The first slice is in the file.
        deadline = time.monotonic() + 30
        while not any(folder.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [path.suffix for path in folder.iterdir()] == [".tmp"]
        process.send_signal(signum)
        process.wait(timeout=30)
        said = process.stderr.read().decode()
    assert process.returncode == code
    assert said == ("interrupted\n" if signum == signal.SIGINT else "")
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_progress_is_for_terminals(static_model: Path, texts: Path) -> None:
    """A terminal on stderr sees a progress bar; stdout stays clean."""
    import pty

    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "koe5_integrations", "embed", "--role", "query"]
    with subprocess.Popen(
        [*command, "--model", str(static_model), str(texts)], stdout=subprocess.PIPE, stderr=end
    ) as process:
        os.close(end)
        shown = b""
        # Reading after the other end is closed is an error on Linux and the end of file elsewhere.
        try:
            while part := os.read(terminal, 4096):
                shown += part
        except OSError:
            pass
        finally:
            os.close(terminal)
        assert process.stdout is not None
        assert len(_rows(process.stdout.read().decode())) == 5
    assert process.returncode == 0
    assert "100%" in shown.decode()
    assert "5 texts" in shown.decode()
