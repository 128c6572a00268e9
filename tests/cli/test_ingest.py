"""``koe5 ingest`` as it is typed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from ingested import SENTENCES, check_sound, check_stored
from typer.testing import Result

from koe5_integrations.cli.ingest_output import progress
from koe5_integrations.ingestion import Summary

DOCUMENTS = [{"id": f"d{i}", "text": text, "n": i} for i, text in enumerate(SENTENCES[:12])]
Invoke = Callable[..., Result]


@pytest.fixture
def here(tmp_path: Path, static_model: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    """The options every call has; the folder of the test is the current one."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "faq.jsonl", DOCUMENTS)
    return ["--persist-dir", "chroma", "--collection", "notes", "--model", static_model]


def write(path: Path, documents: list[dict[str, Any]]) -> None:
    lines = [json.dumps(document, ensure_ascii=False) for document in documents]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_documents_are_found_afterwards(
    here: list[str | Path], invoke: Invoke, tmp_path: Path
) -> None:
    """Ingested by one command, found by another, in the model's own words."""
    done = invoke("ingest", "faq.jsonl", *here)
    assert done.exit_code == 0, done.output
    assert "12 new" in done.stdout
    found = invoke("search", *here[:4], "--json", "--top-k", "1", str(DOCUMENTS[3]["text"]))
    (result,) = json.loads(found.stdout)["results"]
    assert result["id"] == "d3"
    assert result["metadata"]["n"] == 3
    check_sound(tmp_path, DOCUMENTS)


def test_the_summary_as_json(here: list[str | Path], invoke: Invoke) -> None:
    """For scripts: counts by name, on stdout alone."""
    summary = json.loads(invoke("ingest", "faq.jsonl", *here, "--json").stdout)
    assert (summary["new"], summary["embedded"], summary["quarantine"]) == (12, 12, None)
    summary = json.loads(invoke("ingest", "faq.jsonl", *here, "--json").stdout)
    assert (summary["unchanged"], summary["embedded"], summary["loaded"]) == (12, 0, 0)


@pytest.mark.parametrize(
    ("to_load", "loaded", "share"), [(400, 100, 0.25), (400, 400, 1), (0, 0, 1), (100, 300, 1)]
)
def test_the_bar_shows_what_is_loaded(to_load: int, loaded: int, share: float) -> None:
    """A store that is slower than the model holds it back; what an earlier run left doesn't."""
    with progress("ingesting", 1000, shown=True) as told:
        told.update(Summary(bytes_read=800, to_load=to_load, loaded=loaded))
        assert told.completed == 800 * share


def test_sync_follows_the_file(here: list[str | Path], invoke: Invoke, tmp_path: Path) -> None:
    """What is deleted from a file is deleted from the collection, when asked to."""
    invoke("ingest", "faq.jsonl", *here)
    write(tmp_path / "faq.jsonl", DOCUMENTS[:10])
    assert "removed" not in invoke("ingest", "faq.jsonl", *here).stdout
    assert "2 removed" in invoke("ingest", "faq.jsonl", *here, "--sync").stdout
    check_stored(tmp_path, DOCUMENTS[:10])


def test_a_bad_line_is_quarantined(here: list[str | Path], invoke: Invoke, tmp_path: Path) -> None:
    """The rest is stored; a warning names the file of reasons, and --strict the exit code."""
    with (tmp_path / "faq.jsonl").open("a") as file:
        file.write("not json\n")
    done = invoke("ingest", "faq.jsonl", *here)
    assert done.exit_code == 0
    assert "1 could not be ingested" in done.stderr
    (line,) = (tmp_path / "chroma.shards" / "notes" / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["place"] == "faq.jsonl:13"
    assert invoke("ingest", "faq.jsonl", *here, "--strict").exit_code == 3
    check_stored(tmp_path, DOCUMENTS)


def test_a_dry_run_writes_nothing(here: list[str | Path], invoke: Invoke, tmp_path: Path) -> None:
    """It counts, measures the model on a sample, and says how long it would take."""
    done = invoke("ingest", "faq.jsonl", *here, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "12 passages" in done.stdout
    assert "measured on a sample" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faq.jsonl"]
    invoke("ingest", "faq.jsonl", *here)
    found = json.loads(invoke("ingest", "faq.jsonl", *here, "--dry-run", "--json").stdout)
    assert (found["unchanged"], found["passages"], found["seconds"]) == (12, 0, 0.0)


def test_rebuild(here: list[str | Path], invoke: Invoke, tmp_path: Path) -> None:
    """The collection is made anew from the shards, without sources, by the model they record."""
    invoke("ingest", "faq.jsonl", *here)
    (tmp_path / "faq.jsonl").unlink()
    done = invoke("ingest", *here[:4], "--rebuild", "--json")
    assert json.loads(done.stdout)["loaded"] == 12
    check_stored(tmp_path, DOCUMENTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the files"),
        (["missing.jsonl"], "missing.jsonl"),
        (["faq.jsonl", "--rebuild"], "--rebuild takes no sources"),
        (["faq.jsonl", "--sync", "--dry-run"], "--sync"),
        (["faq.jsonl", "--text-field", "body"], "body"),
        (["faq.jsonl", "--url", "http://127.0.0.1:9"], "give one of --persist-dir"),
        (["faq.jsonl", "--overlap-tokens", "400"], "--overlap-tokens"),
    ],
)
def test_what_can_not_be_done(
    arguments: list[str], message: str, here: list[str | Path], invoke: Invoke, tmp_path: Path
) -> None:
    """Exit code 2, a line that says why in the command's own words, and nothing made."""
    done = invoke("ingest", *arguments, *here)
    assert done.exit_code == 2
    assert message in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faq.jsonl"]


def test_another_model_is_refused(here: list[str | Path], invoke: Invoke) -> None:
    """With both sides, before anything is embedded."""
    invoke("ingest", "faq.jsonl", *here)
    done = invoke("ingest", "faq.jsonl", *here[:4], "--model", "koe5-mini")
    assert done.exit_code == 2
    assert "koe5-mini" in done.stderr


def test_ctrl_c_keeps_what_is_done(here: list[str | Path], tmp_path: Path) -> None:
    """Interrupted in the middle, it says how to go on, and going on embeds only the rest."""
    many = [{"id": str(i), "text": f"{i}번째 문서입니다."} for i in range(30_000)]
    write(tmp_path / "many.jsonl", many)
    command = [sys.executable, "-m", "koe5_integrations", "ingest", "many.jsonl", *here]
    command += ["--shard-size", "250", "--json"]
    running = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    shards = tmp_path / "chroma.shards" / "notes" / "shards"
    while len(list(shards.glob("*.parquet"))) < 3 and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 130, said
    assert "run the same command again" in said
    committed = 250 * len(list(shards.glob("*.parquet")))
    assert 0 < committed < len(many)
    many = many[: committed + 100]
    write(tmp_path / "many.jsonl", many)
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    summary = json.loads(done.stdout)
    assert (summary["unchanged"], summary["embedded"]) == (committed, 100)
    assert summary["passages"] == committed + 100


def test_without_its_extra(
    here: list[str | Path], koe5: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    """The line to install is in the error."""
    done = koe5("ingest", tmp_path / "faq.jsonl", *here, without=("pyarrow",))
    assert done.returncode == 2
    assert 'pip install "koe5-integrations[ingest]"' in done.stderr
