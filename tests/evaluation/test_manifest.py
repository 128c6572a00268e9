"""Tests of koe5_integrations.evaluation.manifest."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from evaluated import CORPUS, QRELS, QUERIES, small_dataset

from koe5_integrations import __version__
from koe5_integrations.evaluation.datasets import RetrievalDataset
from koe5_integrations.evaluation.manifest import make_manifest, system_key

SETTINGS = {"top_k": 10}


def test_a_manifest_says_what_reproduces_it() -> None:
    """Data, settings, versions, machine and command are in it, as JSON types."""
    dataset = small_dataset()
    manifest = make_manifest(dataset, SETTINGS, "koe5 evaluate …")
    assert json.loads(json.dumps(manifest)) == manifest
    assert manifest["data"] == {
        "name": "작은 모음",
        "sha256": dataset.sha256,
        "queries": 3,
        "judged_queries": 3,
        "documents": 4,
        "relevant_per_query": 1.0,
        "licence": dataset.licence,
        "source": dataset.source,
    }
    assert manifest["settings"] == SETTINGS
    assert manifest["versions"]["koe5-integrations"] == __version__
    assert {"python", "numpy"} <= manifest["versions"].keys()
    assert manifest["machine"]["cores"] >= 1
    assert manifest["command"] == "koe5 evaluate …"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", manifest["created"])


def key(changed: dict[str, Any] | None = None, **arguments: Any) -> str:
    manifest = make_manifest(small_dataset(), SETTINGS, None) | (changed or {})
    given: dict[str, Any] = {"spec": "s", "facts": {"a": 1, "b": 2}, "asked": [10]} | arguments
    return system_key(manifest, given["spec"], given["facts"], given["asked"])


def test_the_key_is_the_same_for_the_same_work() -> None:
    """Neither the date, the machine, the command nor the order of facts changes it."""
    other = {"created": "later", "machine": {}, "command": "another"}
    assert key() == key(other) == key(facts={"b": 2, "a": 1})
    assert re.fullmatch("[0-9a-f]{64}", key())


@pytest.mark.parametrize(
    "change",
    [
        {"spec": "t"},
        {"facts": {"a": 1, "b": 3}},
        {"asked": [100]},
        {"changed": {"data": {"sha256": "other"}}},
        {"changed": {"versions": {"bm25s": "9"}}},
    ],
    ids=["spec", "facts", "asked", "data", "versions"],
)
def test_the_key_changes_with_what_decides_a_run(change: dict[str, Any]) -> None:
    """A system is not taken for finished when anything that decides its answers is different."""
    assert key(**change) != key()


def test_unjudged_documents_are_not_counted_as_relevant() -> None:
    """Relevant per query counts judgements of 1 and more."""
    qrels = QRELS | {"q2": {"문서 1": 0, "문서 2": 2, "a/b|c": 1}}
    dataset = RetrievalDataset("x", CORPUS, QUERIES, qrels)
    assert make_manifest(dataset, {}, None)["data"]["relevant_per_query"] == 1.3333
