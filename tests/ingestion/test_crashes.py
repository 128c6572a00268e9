"""kill -9 at every point of an ingestion: nothing is lost, doubled, mixed or embedded again.

The long version, kills at random moments, is ``python tests/benchmarks/reliability.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crashing import Crashing
from ingested import SENTENCES, check_sound, check_stored, committed_texts

FIRST = [{"id": f"d{i}", "text": text, "n": i} for i, text in enumerate(SENTENCES[:40])]
# Some changed, some gone, some new.
SECOND = [
    *({**document, "text": f"{document['text']} 고침."} for document in FIRST[:8]),
    *FIRST[8:30],
    *({"id": f"e{i}", "text": text} for i, text in enumerate(SENTENCES[40:60])),
]


@pytest.fixture(scope="module")
def crashing() -> Iterator[Crashing]:
    with Crashing() as server:
        yield server


KILLS: list[tuple[str, dict[str, Any]]] = [
    ("before the first embedding", {"point": "embed", "moment": "before", "nth": 1}),
    ("before a later embedding", {"point": "embed", "moment": "before", "nth": 3}),
    ("after an embedding", {"point": "embed", "moment": "after", "nth": 2}),
    ("before a shard is written", {"point": "write", "moment": "before", "nth": 2}),
    ("after a shard is written", {"point": "write", "moment": "after", "nth": 2}),
    ("before the first rename", {"point": "rename", "moment": "before", "nth": 1}),
    ("after the first rename", {"point": "rename", "moment": "after", "nth": 1}),
    ("before a shard's rename", {"point": "rename", "moment": "before", "nth": 3}),
    ("after a shard's rename", {"point": "rename", "moment": "after", "nth": 3}),
    ("before an fsync", {"point": "fsync", "moment": "before", "nth": 2}),
    ("after an fsync", {"point": "fsync", "moment": "after", "nth": 5}),
    ("before the store is given anything", {"point": "upsert", "moment": "before", "nth": 1}),
    ("before Chroma is called", {"point": "mid-upsert", "moment": "before", "nth": 2}),
    ("within Chroma's first upsert", {"point": "mid-upsert", "moment": "within", "nth": 1}),
    ("within a later upsert", {"point": "mid-upsert", "moment": "within", "nth": 2}),
    ("after Chroma has answered", {"point": "mid-upsert", "moment": "after", "nth": 2}),
    ("before a load is noted", {"point": "mark", "moment": "before", "nth": 1}),
    ("after a load is noted", {"point": "mark", "moment": "after", "nth": 2}),
    ("before stale passages go", {"point": "delete", "moment": "before", "nth": 1}),
    ("after stale passages went", {"point": "delete", "moment": "after", "nth": 1}),
]


@pytest.mark.parametrize("kill", [kill for _, kill in KILLS], ids=[name for name, _ in KILLS])
def test_a_killed_ingestion_goes_on_where_it_was(
    kill: dict[str, Any], crashing: Crashing, static_model: Path, tmp_path: Path
) -> None:
    """The next run finishes the work, embeds only what no shard holds, and nothing is lost."""
    options: dict[str, Any] = {"sync": True, "shard_size": 12}
    if kill["point"] == "delete":  # there is something stale in the second run alone
        assert crashing.run(tmp_path, static_model, FIRST, **options)
    killed = crashing.run(tmp_path, static_model, SECOND, **kill, **options)
    assert killed is None or kill["moment"] == "within"
    committed = committed_texts(tmp_path / "chroma.shards" / "notes")
    summary = crashing.run(tmp_path, static_model, SECOND, **options)
    assert summary is not None
    assert summary["embedded"] == len({d["text"] for d in SECOND} - committed)
    check_stored(tmp_path, SECOND)


def test_a_rebuild_that_was_killed_is_finished_by_the_next_run(
    crashing: Crashing, static_model: Path, tmp_path: Path
) -> None:
    """A store emptied and half filled again is filled, from the shards alone."""
    assert crashing.run(tmp_path, static_model, FIRST, shard_size=12)
    kill = {"point": "mid-upsert", "moment": "before", "nth": 2}
    assert crashing.run(tmp_path, static_model, [], job="rebuild", **kill) is None
    summary = crashing.run(tmp_path, static_model, FIRST, shard_size=12)
    assert summary is not None
    assert (summary["embedded"], summary["unchanged"]) == (0, len(FIRST))
    check_sound(tmp_path, FIRST)
