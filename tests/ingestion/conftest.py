"""An encoder, a place for a Chroma database, and a collection there to migrate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from koe5_integrations import KoE5Encoder


@pytest.fixture
def encoder(static_model: Path) -> KoE5Encoder:
    """Of the small static model; counts from 0."""
    return KoE5Encoder(static_model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a Chroma database can be made."""
    return tmp_path / "db"


@pytest.fixture
def make(folder: Path, static_model: Path) -> Callable[..., None]:
    """Make the collection ``notes`` there, without prefixes, in l2, with all kinds of metadata."""
    from migrated import make_notes

    return partial(make_notes, folder, static_model)
