"""The file of what could not be ingested."""

from __future__ import annotations

import json
from pathlib import Path

from koe5_integrations.ingestion.documents import Rejected
from koe5_integrations.ingestion.quarantine import Quarantine

BAD = Rejected("faq.jsonl:3", "no field 'text'", "faq.jsonl", "q3")


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_nothing_rejected_leaves_no_file(tmp_path: Path) -> None:
    """Its existence says that something is in it."""
    path = tmp_path / "quarantine.jsonl"
    Quarantine(path, ["faq.jsonl"]).add([])
    assert not path.exists()


def test_what_was_rejected_is_written_with_its_reason(tmp_path: Path) -> None:
    """A line has all that its reader needs to find and mend it."""
    quarantine = Quarantine(tmp_path / "quarantine.jsonl", ["faq.jsonl"])
    quarantine.add([BAD])
    quarantine.add([Rejected("notes/a.pdf", "암호가 걸려 있습니다", "notes")])
    assert quarantine.count == 2
    assert lines(quarantine.path) == [
        {
            "place": "faq.jsonl:3",
            "id": "q3",
            "source": "faq.jsonl",
            "reason": "no field 'text'",
        },
        {"place": "notes/a.pdf", "id": None, "source": "notes", "reason": "암호가 걸려 있습니다"},
    ]


def test_a_new_run_forgets_what_was_said_of_its_own_sources_alone(tmp_path: Path) -> None:
    """Mended documents disappear; those of other sources stay until they are read again."""
    path = tmp_path / "quarantine.jsonl"
    Quarantine(path, []).add([BAD, Rejected("notes/a.pdf", "encrypted", "notes")])
    with path.open("a") as file:
        file.write('{"place": "cut by a cra')
    Quarantine(path, ["faq.jsonl"])
    assert [line["source"] for line in lines(path)] == ["notes"]
    Quarantine(path, ["notes"])
    assert not path.exists()


def test_an_id_that_is_no_unicode_can_be_written(tmp_path: Path) -> None:
    """What is wrong with a document must not stop the report of it."""
    quarantine = Quarantine(tmp_path / "quarantine.jsonl", [])
    quarantine.add([Rejected("a:1", "a lone surrogate", "a", "\ud800")])
    assert len(lines(quarantine.path)) == 1
