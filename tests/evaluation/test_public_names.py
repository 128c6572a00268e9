"""Tests of koe5_integrations.evaluation's front door."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from koe5_integrations import evaluation


@pytest.mark.parametrize("name", evaluation.__all__)
def test_every_public_name_resolves(name: str) -> None:
    """Each name of ``__all__`` is there, is no module, and is listed by ``dir``."""
    assert not isinstance(getattr(evaluation, name), type(sys))
    assert name in dir(evaluation)


def test_other_names_are_attribute_errors() -> None:
    """An unknown name is refused as of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'evaluete'"):
        evaluation.evaluete  # noqa: B018  # the access is the test


def test_importing_is_light() -> None:
    """The package is imported without numpy, and `evaluate` without a model or a framework."""
    code = """
import json, sys
import koe5_integrations.evaluation as evaluation
first = sorted(sys.modules)
evaluation.evaluate, evaluation.score
print(json.dumps([first, sorted(sys.modules)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    first, then = ({name.partition(".")[0] for name in names} for names in json.loads(done.stdout))
    assert "numpy" not in first
    heavy = {"torch", "transformers", "langchain_core", "llama_index", "chromadb", "bm25s", "mteb"}
    assert not then & heavy
