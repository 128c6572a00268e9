"""``koe5 embed``: what it reads, and what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


def test_quiet_says_nothing(embed: Invoke, texts: Path) -> None:
    """``--quiet`` leaves stderr to warnings and errors."""
    result = embed(texts, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")


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


# With what


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


def test_the_bundled_model_needs_no_torch(koe5: Koe5) -> None:
    """The base install embeds offline; results are on stdout and the rest on stderr."""
    args = ("embed", "--model", "koe5-mini", "--role", "query")
    done = koe5(*args, stdin="왜 문자열은 불변인가요?\n", without=("torch", "transformers"))
    assert done.returncode == 0, done.stderr
    vectors = _vectors(done.stdout)
    assert np.allclose((vectors**2).sum(axis=1), 1, atol=1e-5)
    assert done.stderr == (f"1 text embedded as query with koe5-mini (dim {vectors.shape[1]})\n")
