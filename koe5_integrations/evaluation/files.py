"""The files of an evaluation: complete or not there at all.

::

    OUT/
      metrics.json          {"systems": {SPEC: {"ndcg@10": {value, ci, n, hits}}}, "manifest": …}
      details.json          comparisons, smallest gaps, costs, facts and warnings
      baseline.json         what a later run is held against: every query's value
      per_query.jsonl       a line per query: the question, what is expected, what was found
      report.md, report.html
      runs/<system>/run.trec
      mteb/results/<system>/<revision>/<data set>.json
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.mteb_layout import mteb_files
from koe5_integrations.evaluation.names import slug
from koe5_integrations.evaluation.results import EvalResult, Measured
from koe5_integrations.evaluation.run_file import trec_lines
from koe5_integrations.evaluation.verdict import headlines

if TYPE_CHECKING:
    from koe5_integrations.evaluation.datasets import RetrievalDataset

__all__ = [
    "BASELINE",
    "METRICS",
    "UNFINISHED",
    "baseline_of",
    "check_folder",
    "to_json",
    "write_files",
    "write_whole",
]

METRICS = "metrics.json"
BASELINE = "baseline.json"
UNFINISHED = ".unfinished"
# Documents shown per query and system in per_query.jsonl; run.trec has all.
_SHOWN = 10


def check_folder(out: Path) -> None:
    """Raise ConfigError unless `out` is a folder results can be written into, or can become one."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out={str(out)!r} is not a folder; choose another for the results")
    parent = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not parent.is_dir():
        raise ConfigError(f"out={str(out)!r} can't be made: {parent} is not a folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"out={str(out)!r} can't be written: no permission in {parent}")
    if out.is_dir() and any(out.iterdir()) and not _is_ours(out):
        raise ConfigError(
            f"out={str(out)!r} holds files that are not an evaluation's; choose an empty folder or "
            "a new name"
        )


def write_files(result: EvalResult, dataset: RetrievalDataset, out: Path) -> list[Path]:
    """Write every output of an evaluation and return their paths.

    All are written under temporary names first and renamed when all are complete; metrics.json
    comes last. What an earlier run into the folder left of systems no longer there is removed.

    Raises:
        OSError: the disk is full, or the folder can't be written; no file is changed then.
    """
    from koe5_integrations.evaluation.report_html import render_html
    from koe5_integrations.evaluation.report_markdown import render_markdown

    contents: dict[str, Iterable[str]] = {
        "report.md": [render_markdown(result)],
        "report.html": [render_html(result, dataset)],
        "per_query.jsonl": _per_query(result, dataset),
        "details.json": [to_json(_details(result))],
        BASELINE: [to_json(baseline_of(result))],
    }
    for spec, system in result.systems.items():
        contents[f"runs/{slug(spec)}/run.trec"] = trec_lines(system)
        contents |= {path: [to_json(value)] for path, value in mteb_files(result, system)}
    contents[METRICS] = [to_json(_metrics(result))]
    stale = _stale(out, result)
    paths = write_whole(out, contents)
    for folder in stale:
        shutil.rmtree(folder, ignore_errors=True)
    return paths


def write_whole(folder: Path, contents: Mapping[str, Iterable[str]]) -> list[Path]:
    """Write files (pieces of text by relative path) under temporary names, then rename them.

    No file gets its name before all are complete; an error before that changes nothing.
    """
    temporary: dict[Path, Path] = {}
    with _made(folder):
        try:
            for name, pieces in contents.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary[path] = path.with_name(f".{path.name}.{os.getpid()}.tmp")
                # A lone surrogate of a user's text becomes its JSON escape.
                with temporary[path].open(
                    "w", encoding="utf-8", errors="backslashreplace", newline="\n"
                ) as file:
                    file.writelines(pieces)
                    file.flush()
                    os.fsync(file.fileno())
            for path, written in temporary.items():
                written.replace(path)
        finally:
            for written in temporary.values():
                written.unlink(missing_ok=True)
    return list(temporary)


def to_json(value: Any) -> str:
    """Write JSON for people and diffs: two spaces, Hangul as it is, a newline at the end."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n"


def _metrics(result: EvalResult) -> dict[str, Any]:
    return {
        "systems": {
            spec: {name: _measured(value) for name, value in system.measures.items()}
            for spec, system in result.systems.items()
        },
        "manifest": dict(result.manifest),
    }


def _measured(measured: Measured) -> dict[str, Any]:
    return asdict(measured) | {"ci": list(measured.ci)}


def _details(result: EvalResult) -> dict[str, Any]:
    return {
        "comparisons": [
            asdict(found) | {"significant": found.significant} for found in result.comparisons
        ],
        "smallest_gap": dict(result.smallest_gap),
        "systems": {
            spec: {
                "index": asdict(system.index),
                "latency_seconds": list(system.latencies),
                "queries_per_second": system.queries_per_second,
                "facts": dict(system.facts),
                "warnings": list(system.warnings),
            }
            for spec, system in result.systems.items()
        },
    }


def baseline_of(result: EvalResult) -> dict[str, Any]:
    """Return what baseline.json holds: each query's headline measures, and which data they are of.

    Small, and without date, machine or command, so that it can be kept in version control.
    """
    return {
        "data": {key: result.manifest["data"][key] for key in ("name", "sha256")},
        "per_query": {
            spec: {name: dict(system.per_query[name]) for name in headlines(list(system.per_query))}
            for spec, system in result.systems.items()
        },
    }


def _per_query(result: EvalResult, dataset: RetrievalDataset) -> Iterator[str]:
    for query_id, judged in dataset.qrels.items():
        line = {
            "query_id": query_id,
            "query": dataset.queries.get(query_id),
            "expected": dict(judged),
            "systems": {
                spec: {
                    "measures": {
                        name: values[query_id] for name, values in system.per_query.items()
                    },
                    "retrieved": [hit.doc_id for hit in system.run.get(query_id, ())[:_SHOWN]],
                }
                for spec, system in result.systems.items()
            },
        }
        yield json.dumps(line, ensure_ascii=False) + "\n"


def _is_ours(out: Path) -> bool:
    """Whether a folder holds an evaluation, an unfinished one, or one in a folder per data set."""
    names = {path.name for path in out.iterdir()}
    return (
        not names.isdisjoint({METRICS, UNFINISHED, "replay.md", "seed_table.md"})
        or any(name.startswith("sts_") for name in names)
        or any((out / name / own).exists() for name in names for own in (METRICS, UNFINISHED))
    )


def _stale(out: Path, result: EvalResult) -> list[Path]:
    """Return the folders of systems that an earlier run into `out` had and this one has not."""
    try:
        earlier = json.loads((out / METRICS).read_text(encoding="utf-8"))["systems"]
    except (OSError, ValueError, KeyError):
        return []
    gone = {slug(spec) for spec in earlier} - {slug(spec) for spec in result.systems}
    return [
        folder
        for name in sorted(gone)
        for folder in (out / "runs" / name, out / "mteb/results" / f"koe5-integrations__{name}")
    ]


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder, and take it away again if an error leaves nothing in it."""
    before = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if not before:
            with suppress(OSError):
                for path in sorted(folder.rglob("*"), reverse=True):
                    path.rmdir()
                folder.rmdir()
        raise
