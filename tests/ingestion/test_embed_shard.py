"""Tests of embedding shards one by one: whole, once, and without what can't be embedded."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import KOREAN

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import (
    FingerprintMismatchError,
    ModelLoadError,
    ShardError,
    SourceError,
)
from koe5_integrations.ingestion.documents import Document
from koe5_integrations.ingestion.embed_shard import embed_shard
from koe5_integrations.ingestion.passages import Passage, document_hash, passages_of
from koe5_integrations.ingestion.pending import read_pending, write_pending
from koe5_integrations.ingestion.pending_folder import PendingFolder
from koe5_integrations.ingestion.shards import ShardFolder, read_shard
from koe5_integrations.types import Vectors

POISON = " \u200b "


def document(id: str, *texts: str) -> list[Passage]:
    """A document of these passages."""
    whole = Document(id, "\n".join(texts), {"title": f"제목 {id}"}, source="notes")
    return passages_of(whole, texts, document_hash(whole, {}))


def some(n: int) -> list[Passage]:
    """Passages of n documents, one or two each, all different."""
    return [
        passage
        for i in range(n)
        for passage in document(f"d{i}", *(f"{KOREAN[i % 5]} {i}-{j}" for j in range(1 + i % 2)))
    ]


@pytest.fixture
def encoder(static_model: Path) -> KoE5Encoder:
    """Of the small static model; counts from 0."""
    return KoE5Encoder(static_model)


@pytest.fixture
def pending(tmp_path: Path, encoder: KoE5Encoder) -> Callable[..., Path]:
    """Write passages to be embedded."""

    def write(passages: Sequence[Passage], **known: Vectors) -> Path:
        path = tmp_path / "pending.parquet"
        write_pending(path, passages, fingerprint=encoder.fingerprint, known=known)
        return path

    return write


def test_pending_passages_come_back_as_they_were(
    pending: Callable[..., Path], encoder: KoE5Encoder
) -> None:
    """Passages, fingerprint and the vectors that were known survive the file."""
    passages = some(5)
    vector = np.arange(16, dtype=np.float32)
    found = read_pending(pending(passages, **{passages[2].text_hash: vector}))
    assert found.passages == passages
    assert found.fingerprint == encoder.fingerprint
    assert list(found.known) == [2]
    assert found.known[2].dtype == np.float32
    assert np.array_equal(found.known[2], vector)


def test_a_shard_holds_the_passages_with_the_encoders_vectors(
    pending: Callable[..., Path], encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """The finished file is a shard like any other, of more passages than are embedded at once."""
    passages = some(1500)
    report = embed_shard(pending(passages), tmp_path / "out.parquet", encoder=encoder)
    assert report.output is not None
    shard = read_shard(report.output)
    assert shard.passages == passages
    assert shard.fingerprint == encoder.fingerprint
    assert np.allclose(
        shard.vectors, encoder.encode_passages([p.text for p in passages]), atol=1e-6
    )
    assert (report.documents, report.passages, report.rejected) == (1500, len(passages), ())
    assert report.embedded == len(passages)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "pending.parquet"]


def test_a_complete_shard_is_left_alone(
    pending: Callable[..., Path], encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """Run again, nothing is embedded, the file stays the same, and the report tells the same."""
    source, output = pending([*some(3), *document("bad", POISON)]), tmp_path / "out.parquet"
    first = embed_shard(source, output, encoder=encoder)
    before, computed = output.stat(), encoder.computed
    again = embed_shard(source, output, encoder=encoder)
    assert again.was_complete
    assert (again.passages, again.rejected) == (first.passages, first.rejected)
    assert encoder.computed == computed
    assert (output.stat().st_ino, output.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_shard_of_other_passages_is_replaced(
    pending: Callable[..., Path], encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """A finished file of an earlier version of the documents does not count as complete."""
    output = tmp_path / "out.parquet"
    embed_shard(pending(document("a", KOREAN[0])), output, encoder=encoder)
    report = embed_shard(pending(document("a", KOREAN[1])), output, encoder=encoder)
    assert not report.was_complete
    assert [passage.text for passage in read_shard(output).passages] == [KOREAN[1]]


def test_a_document_that_cant_be_embedded_is_left_out_whole(
    pending: Callable[..., Path], encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """Of a document with one bad passage nothing is in the shard; the file beside it says why."""
    passages = [*some(4), *document("bad", KOREAN[0], POISON, KOREAN[1]), *document("z", KOREAN[2])]
    output = tmp_path / "out.parquet"
    report = embed_shard(pending(passages), output, encoder=encoder)
    assert read_shard(output).passages == [p for p in passages if p.document_id != "bad"]
    (rejected,) = report.rejected
    assert (rejected.id, rejected.source) == ("bad", "notes")
    assert "'bad#1'" in rejected.reason
    assert "nothing to embed" in rejected.reason
    written = (tmp_path / "out.parquet.quarantine.jsonl").read_text(encoding="utf-8")
    (line,) = map(json.loads, written.splitlines())
    assert (line["id"], line["source"], line["reason"]) == ("bad", "notes", rejected.reason)


def test_nothing_but_bad_documents_make_no_shard(
    pending: Callable[..., Path], encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """Then only the file with the reasons is written, and it counts as complete."""
    source, output = pending(document("bad", POISON)), tmp_path / "out.parquet"
    first = embed_shard(source, output, encoder=encoder)
    again = embed_shard(source, output, encoder=encoder)
    assert (first.output, first.passages, first.was_complete) == (None, 0, False)
    assert not output.exists()
    assert again.was_complete
    assert again.rejected == first.rejected


def test_a_mended_document_leaves_the_quarantine(
    pending: Callable[..., Path], encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """The reasons are those of the documents as they are now."""
    output = tmp_path / "out.parquet"
    embed_shard(pending([*some(2), *document("bad", POISON)]), output, encoder=encoder)
    report = embed_shard(pending([*some(2), *document("bad", "이제 됨")]), output, encoder=encoder)
    assert (report.documents, report.rejected) == (3, ())
    assert not (tmp_path / "out.parquet.quarantine.jsonl").exists()


def test_known_vectors_are_kept_and_not_made_again(
    pending: Callable[..., Path], encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """What has a vector already does not go through the model."""
    passages = some(4)
    known = {passages[0].text_hash: np.full(16, 0.25, dtype=np.float32)}
    report = embed_shard(pending(passages, **known), tmp_path / "out.parquet", encoder=encoder)
    assert report.embedded == len(passages) - 1
    assert np.array_equal(read_shard(tmp_path / "out.parquet").vectors[0], np.full(16, 0.25))


def test_another_encoder_is_refused_before_anything_is_embedded(
    pending: Callable[..., Path], static_model: Path, tmp_path: Path
) -> None:
    """The error names the setting in which they differ, with both sides."""
    other = KoE5Encoder(static_model, passage_prompt="문서: ")
    with pytest.raises(FingerprintMismatchError, match=r"passage_prompt: 'passage: ' there, '문서"):
        embed_shard(pending(some(2)), tmp_path / "out.parquet", encoder=other)
    assert other.computed == 0
    assert not (tmp_path / "out.parquet").exists()


def test_a_model_that_fails_stops_it(
    pending: Callable[..., Path], static_model: Path, tmp_path: Path, fresh_models: None
) -> None:
    """What is no document's fault is raised, and quarantines nothing."""
    source = pending(some(2))
    model = shutil.copytree(static_model, tmp_path / "model")
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="model"):
        embed_shard(source, tmp_path / "out.parquet", encoder=KoE5Encoder(model))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "pending.parquet"]


def test_a_missing_file_is_named_with_the_machine(encoder: KoE5Encoder, tmp_path: Path) -> None:
    """On a cluster the question is which machine does not see it."""
    with pytest.raises(SourceError, match=f"no such file on {os.uname().nodename}"):
        embed_shard(tmp_path / "none.parquet", tmp_path / "out.parquet", encoder=encoder)


@pytest.mark.parametrize("content", [b"", b"PAR1 but not really", "other columns"])
def test_what_is_no_pending_shard_is_refused(
    content: bytes | str, encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """A damaged file, or one with something else, is an error that names it."""
    path = tmp_path / "other.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(pa.table({"text": [content]}), path)
    with pytest.raises(ShardError, match=r"other\.parquet"):
        embed_shard(path, tmp_path / "out.parquet", encoder=encoder)


def test_documents_lie_whole_in_one_file(encoder: KoE5Encoder, tmp_path: Path) -> None:
    """A file that lacks one of a document's passages is not written."""
    with pytest.raises(ShardError, match="passage 1 of 2 is missing"):
        write_pending(
            tmp_path / "p.parquet",
            document("a", *KOREAN[:2])[:1],
            fingerprint=encoder.fingerprint,
        )
    assert not list(tmp_path.iterdir())


def test_finished_shards_are_adopted(
    pending: Callable[..., Path], encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """A folder of shards takes the file in, as if it had written it itself."""
    passages = some(6)
    report = embed_shard(pending(passages), tmp_path / "out.parquet", encoder=encoder)
    assert report.output is not None
    with ShardFolder(
        tmp_path / "shards", fingerprint=encoder.fingerprint, dim=encoder.dim
    ) as shards:
        sequence = shards.adopt(report.output)
        assert shards.count() == (6, len(passages))
        assert sorted(p.id for p in shards.change(sequence).passages) == sorted(
            p.id for p in passages
        )
        assert shards.hashes(["d0"]) == {"d0": passages[0].document_hash}
    assert not report.output.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from koe5_integrations import KoE5Encoder
from koe5_integrations.ingestion.embed_shard import embed_shard
model, pending, output = map(Path, sys.argv[1:])
Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
embed_shard(pending, output, encoder=KoE5Encoder(model))
"""


def test_a_kill_leaves_no_half_shard(
    pending: Callable[..., Path], encoder: KoE5Encoder, static_model: Path, tmp_path: Path
) -> None:
    """After kill -9 before the rename there is no output, and the next run makes it."""
    source, output = pending(some(10)), tmp_path / "out.parquet"
    killed = subprocess.run([sys.executable, "-c", KILLED, static_model, source, output])
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    assert not embed_shard(source, output, encoder=encoder).was_complete
    assert len(read_shard(output).passages) == 15


@pytest.fixture
def shards(encoder: KoE5Encoder, tmp_path: Path) -> Iterator[ShardFolder]:
    """A new folder of shards."""
    path = tmp_path / "shards"
    with ShardFolder(path, fingerprint=encoder.fingerprint, dim=encoder.dim) as folder:
        yield folder


def test_what_is_handed_out_comes_back_as_shards(encoder: KoE5Encoder, shards: ShardFolder) -> None:
    """Finished files are adopted and leave nothing behind; unfinished ones wait."""
    folder = PendingFolder(shards)
    bad = document("bad", POISON)
    paths = [folder.hand_out(part) for part in (some(3), bad, document("z", KOREAN[2]))]
    for path in paths[:2]:
        embed_shard(path, folder.finished / path.name, encoder=encoder)
    reports = list(folder.reports())
    assert [rejected.id for report in reports for rejected in report.rejected] == ["bad"]
    sequences = [folder.take_back(report) for report in reports]
    assert sequences[0] is not None
    assert sequences[1] is None
    assert shards.count() == (3, 4)
    assert list(folder.pending.iterdir()) == paths[2:]
    assert not list(folder.finished.iterdir())


def test_a_text_that_any_shard_has_is_handed_out_with_its_vector(
    encoder: KoE5Encoder, shards: ShardFolder
) -> None:
    """A changed document is embedded elsewhere only where it changed."""
    folder = PendingFolder(shards)
    for texts in (KOREAN[:2], [KOREAN[0], "새 문장"]):
        path = folder.hand_out(document("a", *texts))
        report = embed_shard(path, folder.finished / path.name, encoder=encoder)
        folder.take_back(report)
    assert report.embedded == 1
    assert shards.count() == (1, 2)


def test_a_kill_between_adopting_and_removing_costs_nothing(
    encoder: KoE5Encoder, shards: ShardFolder
) -> None:
    """The file that was left is known to be stored, is not embedded again, and goes away."""
    folder = PendingFolder(shards)
    path = folder.hand_out([*some(3), *document("bad", POISON)])
    report = embed_shard(path, folder.finished / path.name, encoder=encoder)
    assert report.output is not None
    shards.adopt(report.output)
    (again,) = PendingFolder(shards).reports()
    assert (again.output, [rejected.id for rejected in again.rejected]) == (None, ["bad"])
    folder.take_back(again)
    assert not list(folder.pending.iterdir())
    assert shards.count() == (3, 4)


def test_what_is_left_can_be_taken_away(encoder: KoE5Encoder, shards: ShardFolder) -> None:
    """A run that splits the documents anew begins with empty folders, and numbers go on."""
    folder = PendingFolder(shards)
    folder.hand_out(some(2))
    assert PendingFolder(shards).hand_out(document("z", KOREAN[0])).name == "00000002.parquet"
    folder.clear()
    assert not list(folder.pending.iterdir())
