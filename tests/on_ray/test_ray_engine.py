"""Tests of embedding on Ray: the same shards, each made once, whoever is killed.

Ray takes half a minute to start, and the extra is 600 MB: ``.ci/ray`` installs it and runs these.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_models import KOREAN

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import (
    ConfigError,
    FingerprintMismatchError,
    ModelLoadError,
    SourceError,
)
from koe5_integrations.ingestion.documents import Document
from koe5_integrations.ingestion.passages import Passage, document_hash, passages_of
from koe5_integrations.ingestion.pending import write_pending
from koe5_integrations.ingestion.shards import ShardFolder, read_shard

if os.environ.get("KOE5_TEST_RAY") != "1":
    pytest.skip("Ray takes long to start: .ci/ray runs these tests", allow_module_level=True)

import ray

from koe5_integrations.ingestion.ray_engine import embed_with_ray

# Ray's own, and a process of Ray's that is left to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FILES, DOCUMENTS = 24, 40
POISON = 5, 7  # file and document
ACTORS = 2


@pytest.fixture(scope="module", autouse=True)
def own_ray() -> Iterator[None]:
    """End the Ray that the first test starts."""
    yield
    ray.shutdown()


@pytest.fixture
def encoder() -> KoE5Encoder:
    """Of the bundled model."""
    return KoE5Encoder("koe5-mini")


def passages_in(file: int) -> list[Passage]:
    """What a file holds: documents of one or two passages, all different; one can't be embedded."""
    found = []
    for number in range(DOCUMENTS):
        texts = [f"{KOREAN[number % 5]} {file}-{number}-{i}" for i in range(1 + number % 2)]
        if (file, number) == POISON:
            texts[-1] = "\u200b"
        document = Document(f"d{file}-{number}", "\n".join(texts), {"file": file}, source="notes")
        found += passages_of(document, texts, document_hash(document, {}))
    return found


@pytest.fixture
def pending(tmp_path: Path, encoder: KoE5Encoder) -> Path:
    """A folder of files to be embedded."""
    folder = tmp_path / "pending"
    folder.mkdir()
    for file in range(FILES):
        write_pending(
            folder / f"{file:05}.parquet", passages_in(file), fingerprint=encoder.fingerprint
        )
    return folder


def test_makes_the_shards_that_this_machine_alone_would_make(
    pending: Path, tmp_path: Path, encoder: KoE5Encoder
) -> None:
    """Same passages, same vectors, one document quarantined, and a folder of shards takes them."""
    reports = list(embed_with_ray(pending, tmp_path / "out", encoder=encoder, actors=ACTORS))
    assert sorted(report.pending for report in reports) == sorted(pending.iterdir())
    bad = f"d{POISON[0]}-{POISON[1]}"
    assert [r.id for report in reports for r in report.rejected] == [bad]
    assert [p.name for p in (tmp_path / "out").glob("*.jsonl")] == [
        f"{POISON[0]:05}.parquet.quarantine.jsonl"
    ]
    with ShardFolder(tmp_path / "s", fingerprint=encoder.fingerprint, dim=encoder.dim) as shards:
        for report in reports:
            assert report.output is not None
            file = int(report.output.stem)
            expected = [p for p in passages_in(file) if p.document_id != bad]
            shard = read_shard(report.output)
            assert shard.passages == expected
            alone = encoder.encode_passages([passage.text for passage in expected])
            assert np.abs(shard.vectors - alone).max() <= 1e-6
            assert report.embedded >= len(expected)
            shards.adopt(report.output)
        documents, passages = shards.count()
    assert documents == FILES * DOCUMENTS - 1
    assert passages == sum(report.passages for report in reports)


def test_a_killed_driver_resumes_with_nothing_embedded_twice(
    pending: Path, tmp_path: Path, encoder: KoE5Encoder
) -> None:
    """After kill -9 of the driver, what is finished stays as it is, and only the rest is made."""
    out = tmp_path / "out"
    driver = f"""
import os, signal
from koe5_integrations import KoE5Encoder
from koe5_integrations.ingestion.ray_engine import embed_with_ray
reports = embed_with_ray({str(pending)!r}, {str(out)!r}, encoder=KoE5Encoder("koe5-mini"),
                         actors={ACTORS})
for _ in range(3):
    next(reports)
os.kill(os.getpid(), signal.SIGKILL)
"""
    # Whoever outlives the driver must not hold its output open.
    with (tmp_path / "log").open("w") as log:
        killed = subprocess.run([sys.executable, "-c", driver], stdout=log, stderr=log, timeout=300)
    assert killed.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
    finished = {path: path.stat() for path in out.glob("*.parquet")}
    assert 3 <= len(finished) < FILES
    reports = list(embed_with_ray(pending, out, encoder=encoder, actors=ACTORS))
    assert len(reports) == FILES
    left_alone = {report.output for report in reports if report.was_complete}
    assert left_alone >= finished.keys()
    for path, before in finished.items():
        assert path.stat().st_ino == before.st_ino
    assert all((report.embedded == 0) == report.was_complete for report in reports)
    made_now = sum(r.embedded for r in reports)
    made_before = sum(r.passages for r in reports if r.was_complete)
    assert made_now + made_before == sum(len(passages_in(file)) for file in range(FILES)) - (
        2 if f"{POISON[0]:05}.parquet" in {path.name for path in left_alone if path} else 1
    )


def test_a_killed_actor_costs_the_file_it_was_at(
    pending: Path, tmp_path: Path, encoder: KoE5Encoder
) -> None:
    """An actor that dies is replaced, and no file is missing in the end."""
    reports = embed_with_ray(pending, tmp_path / "out", encoder=encoder, actors=ACTORS)
    found = [next(reports)]
    pids = [
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and _is_actor(process)
    ]
    assert pids
    os.kill(pids[0], signal.SIGKILL)
    found += reports
    assert {report.pending for report in found} == set(pending.iterdir())
    assert all(report.output is not None and report.output.exists() for report in found)


def _is_actor(process: Path) -> bool:
    try:
        return b"_ShardEmbedder" in (process / "cmdline").read_bytes()
    except OSError:
        return False


def test_a_model_that_cant_be_had_is_an_error_of_its_own_type(
    pending: Path, tmp_path: Path, encoder: KoE5Encoder
) -> None:
    """The job stops with the actor's error; no document is quarantined for it."""
    lost = KoE5Encoder("nlpai-lab/KoE5", cache_folder=tmp_path / "empty", local_files_only=True)
    with pytest.raises(ModelLoadError, match="nlpai-lab/KoE5"):
        list(embed_with_ray(pending, tmp_path / "out", encoder=lost, actors=ACTORS))
    assert not list((tmp_path / "out").iterdir())


def test_another_model_is_refused(pending: Path, tmp_path: Path) -> None:
    """Files written for one encoder are not embedded by another."""
    other = KoE5Encoder("koe5-mini", passage_prompt="문서: ")
    with pytest.raises(FingerprintMismatchError, match="passage_prompt"):
        list(embed_with_ray(pending, tmp_path / "out", encoder=other))


def test_impossible_arguments_are_refused_before_ray_does_anything(
    tmp_path: Path, encoder: KoE5Encoder
) -> None:
    """A folder that is not there, and no actors, are errors at the call."""
    with pytest.raises(SourceError, match="no such folder"):
        embed_with_ray(tmp_path / "none", tmp_path / "out", encoder=encoder)
    with pytest.raises(ConfigError, match="actors=0"):
        embed_with_ray(tmp_path, tmp_path / "out", encoder=encoder, actors=0)


def test_nothing_to_do_is_no_error(tmp_path: Path, encoder: KoE5Encoder) -> None:
    """An empty folder gives no reports."""
    assert list(embed_with_ray(tmp_path, tmp_path / "out", encoder=encoder)) == []
