"""``koe5 ingest --engine ray``, from documents to a searchable collection."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ingested import SENTENCES, check_stored

from koe5_integrations.ingestion import ingest

if os.environ.get("KOE5_TEST_RAY") != "1":
    pytest.skip("Ray takes long to start: .ci/ray runs these tests", allow_module_level=True)

# Ray's own, and a process of Ray's that is left to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_documents_are_embedded_by_ray(tmp_path: Path) -> None:
    """All are stored, each embedded once, and a second run has nothing to do."""
    documents = [{"id": f"d{i}", "text": text} for i, text in enumerate(SENTENCES[:60])]
    place: dict[str, Any] = {
        "persist_dir": tmp_path / "chroma",
        "collection": "notes",
        "encoder": "koe5-mini",
    }
    summary = ingest(documents=documents, **place, engine="ray", actors=2, shard_size=16)
    assert (summary.new, summary.embedded, summary.handed_out) == (60, 60, 0)
    assert (summary.shards, summary.loaded) == (4, 60)
    check_stored(tmp_path, documents)
    summary = ingest(documents=documents, **place, engine="ray", actors=2)
    assert (summary.unchanged, summary.embedded) == (60, 0)
