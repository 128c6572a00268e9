"""Tests of ``koe5 embed-shard``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import KOREAN

from koe5_integrations import KoE5Encoder
from koe5_integrations.ingestion.documents import Document
from koe5_integrations.ingestion.passages import document_hash, passages_of
from koe5_integrations.ingestion.pending import write_pending
from koe5_integrations.ingestion.shards import read_shard

Run = Callable[..., Any]


@pytest.fixture
def pending(tmp_path: Path, static_model: Path) -> Path:
    """Five files of two documents; one of those can't be embedded."""
    folder = tmp_path / "pending"
    folder.mkdir()
    for file in range(5):
        passages = []
        for number, text in enumerate([KOREAN[file], "\u200b" if file == 3 else KOREAN[5 - file]]):
            document = Document(f"d{file}-{number}", text, source="notes")
            passages += passages_of(document, [text], document_hash(document, {}))
        write_pending(
            folder / f"{file}.parquet",
            passages,
            fingerprint=KoE5Encoder(static_model).fingerprint,
        )
    return folder


def test_embeds_a_folder_and_again_does_nothing(
    invoke: Run, pending: Path, static_model: Path, tmp_path: Path
) -> None:
    """Every file becomes a shard of its name; what is complete is left alone the next time."""
    arguments = ("embed-shard", pending, "--output", tmp_path / "out", "--model", static_model)
    first = invoke(*arguments)
    assert first.exit_code == 0, first.stderr
    assert "9 passages in 5 shards, 5 of them made now; 1 documents left out" in first.stderr
    assert {p.name for p in (tmp_path / "out").glob("*.parquet")} == {
        p.name for p in pending.iterdir()
    }
    assert len(read_shard(tmp_path / "out" / "3.parquet").passages) == 1
    again = invoke(*arguments)
    assert "9 passages in 5 shards, 0 of them made now" in again.stderr


def test_shares_are_all_the_files_each_once(
    invoke: Run, pending: Path, static_model: Path, tmp_path: Path
) -> None:
    """The processes of an array make every shard between them, and none twice."""
    for part in range(3):
        result = invoke(
            "embed-shard", pending, "-o", tmp_path / "out", "-m", static_model,
            "--share", f"{part}/3",
        )  # fmt: skip
        assert result.exit_code == 0
        assert f"{2 - part // 2} of them made now" in result.stderr
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 5


def test_more_processes_than_files_is_no_error(
    invoke: Run, pending: Path, static_model: Path, tmp_path: Path
) -> None:
    """A process whose share is empty ends well."""
    share = ("--share", "6/7", "--output", tmp_path / "out", "--model", static_model)
    result = invoke("embed-shard", pending, *share)
    assert result.exit_code == 0
    assert "0 passages in 0 shards" in result.stderr


@pytest.mark.parametrize("share", ["3/3", "1", "a/b", "-1/2", "1/0"])
def test_an_impossible_share_is_refused(
    invoke: Run, pending: Path, tmp_path: Path, share: str
) -> None:
    """Parts are counted from 0; anything else is said before a model is loaded."""
    result = invoke("embed-shard", pending, "--output", tmp_path / "out", f"--share={share}")
    assert result.exit_code == 2
    assert "must be PART/PARTS" in result.stderr


def test_files_that_would_become_one_shard_are_refused(
    invoke: Run, pending: Path, tmp_path: Path
) -> None:
    """Two folders may not hold files of the same name."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.parquet").write_bytes((pending / "0.parquet").read_bytes())
    result = invoke("embed-shard", pending, other, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "would become the same shard" in result.stderr


def test_nothing_to_embed_is_an_error(invoke: Run, tmp_path: Path) -> None:
    """A folder without files, and a path that is not there, are named."""
    for path in (tmp_path, tmp_path / "none"):
        result = invoke("embed-shard", path, "--output", tmp_path / "out")
        assert result.exit_code == 2
        assert path.name in result.stderr


def test_another_model_is_refused(
    invoke: Run, pending: Path, static_model: Path, tmp_path: Path
) -> None:
    """The files say what they are to be embedded with."""
    result = invoke(
        "embed-shard", pending, "-o", tmp_path / "out", "-m", static_model,
        "--passage-prompt", "문서: ",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "passage_prompt" in result.stderr
