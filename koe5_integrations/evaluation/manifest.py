"""What reproduces an evaluation: the data, the settings, the versions and the machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from koe5_integrations.evaluation.metrics import GroupedRelevance

if TYPE_CHECKING:
    from koe5_integrations.evaluation.datasets import RetrievalDataset

__all__ = ["make_manifest", "system_key"]

# Those that can change a ranking or a number; the ones not installed had no part in it.
_PACKAGES = (
    "koe5-integrations",
    "numpy",
    "tokenizers",
    "bm25s",
    "kiwipiepy",
    "pyarrow",
    "torch",
    "transformers",
    "sentence-transformers",
    "chromadb",
    "langchain-core",
    "llama-index-core",
)


def make_manifest(
    dataset: RetrievalDataset, settings: Mapping[str, Any], command: str | None
) -> dict[str, Any]:
    """Describe an evaluation of a data set.

    Args:
        dataset: what is asked and searched.
        settings: what else decides the numbers, as JSON types.
        command: the command line, or None in Python.

    Returns:
        JSON types under data, settings, versions, machine, command and created (UTC). Only data,
        settings and versions decide results, and only they are compared by :func:`system_key`.
    """
    return {
        "data": {
            "name": dataset.name,
            "sha256": dataset.sha256,
            "queries": len(dataset.queries),
            "judged_queries": len(dataset.qrels),
            "documents": len(dataset.corpus),
            "relevant_per_query": _relevant_per_query(dataset),
            "licence": dataset.licence,
            "source": dataset.source,
        },
        "settings": dict(settings),
        "versions": _versions(),
        "machine": {
            "cores": _cores(),
            "system": platform.system(),
            "architecture": platform.machine(),
        },
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def system_key(
    manifest: Mapping[str, Any], spec: str, facts: Mapping[str, Any], asked: Sequence[Any]
) -> str:
    """Hash what decides what a system retrieves, to know an interrupted run of it again.

    Args:
        manifest: of the evaluation.
        spec: the system's name.
        facts: what it says of itself before anything is indexed.
        asked: the arguments of the search that are not the data's.

    Returns:
        64 hexadecimal digits, the same in every process.
    """
    parts = [manifest["data"]["sha256"], manifest["versions"], spec, facts, list(asked)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _relevant_per_query(dataset: RetrievalDataset) -> float | None:
    relevant = [
        # Of documents that are alternatives to each other, one is to be found.
        len(judged.groups)
        if isinstance(judged, GroupedRelevance)
        else sum(value > 0 for value in judged.values())
        for judged in dataset.qrels.values()
    ]
    return round(sum(relevant) / len(relevant), 4) if relevant else None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cores() -> int | None:
    # What this process may use, where the system tells; a container often has fewer than exist.
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count()
