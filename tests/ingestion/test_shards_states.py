"""A folder of shards against a dict, through anything that may happen to it, in any order.

``KOE5_LONG_TESTS=1 pytest tests/ingestion -k shards`` goes on for longer.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from shard_samples import (
    FINGERPRINT,
    LONG,
    Disk,
    Projection,
    after_kill,
    contents,
    document,
    opened,
    put,
    steps,
    vectors_of,
)

from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.ingestion.shards import ShardFolder, write_shard

IDS = ["가", "a b", "줄\n바꿈", "#", "a\0b", "긴" * 200]
Documents = dict[str, list[Passage]]

versions = st.dictionaries(
    st.sampled_from(IDS), st.tuples(st.integers(0, 9), st.integers(1, 3)), max_size=4
)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Documents, list[str]]:
    """Documents to write and to remove, at least one of either."""
    written = {
        id: document(id, version, chunks, n=version)
        for id, (version, chunks) in draw(versions).items()
    }
    others = [id for id in [*IDS, "없음"] if id not in written]
    least = 0 if written else 1
    return written, draw(st.lists(st.sampled_from(others), min_size=least, max_size=3))


class Shards(RuleBasedStateMachine):
    """What ``self.documents`` says is what the folder must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.places = 0
        self.documents: Documents = {}
        self.stores: list[Projection] = []
        self.disk_root = self.root / "0"
        self.disk_root.mkdir()
        self.disk = Disk(self.disk_root)
        self.folder = self._open()

    def teardown(self) -> None:
        self.folder.close()
        shutil.rmtree(self.root)

    @initialize()
    def two_stores(self) -> None:
        self.stores = [Projection("one"), Projection("two")]

    @rule(batch=batches())
    def write(self, batch: tuple[Documents, list[str]]) -> None:
        written, removed = batch
        with self.disk.watched():
            put(self.folder, *written.values(), removed=removed)
        self.documents = after(self.documents, *batch)

    @rule(batch=batches())
    def adopt(self, batch: tuple[Documents, list[str]]) -> None:
        written, removed = batch
        passages = [p for d in written.values() for p in d]
        part = self.root / "part.parquet"
        with self.disk.watched():
            write_shard(
                part, passages, vectors_of(passages), fingerprint=FINGERPRINT, removed=removed
            )
            self.folder.adopt(part)
        self.documents = after(self.documents, *batch)

    @rule(store=st.integers(0, 1))
    def load(self, store: int) -> None:
        self.stores[store].load(self.folder)
        assert self.stores[store].passages == flat(self.documents)

    @rule()
    def reopen(self) -> None:
        with self.disk.watched():
            self.folder.close()
        self.folder = self._open()
        assert self.folder.clean

    @rule(damage=st.sampled_from([Path.unlink, lambda index: index.write_bytes(b"?" * 5000)]))
    def lose_the_index(self, damage: Callable[[Path], Any]) -> None:
        with self.disk.watched():
            self.folder.close()
        damage(self.folder.path / "index.sqlite")
        self.folder = self._open()

    @rule(batch=batches(), at=st.integers(0, 55))
    def killed_while_writing(self, batch: tuple[Documents, list[str]], at: int) -> None:
        self._crash(batch, at, after_kill)

    @rule(batch=batches(), at=st.integers(0, 55))
    def power_fails_while_writing(self, batch: tuple[Documents, list[str]], at: int) -> None:
        self._crash(batch, at, None)

    @invariant()
    def it_holds_what_the_dict_holds(self) -> None:
        assert contents(self.folder) == flat(self.documents)
        passages = list(flat(self.documents).values())
        assert set(self.folder.vectors([p.text_hash for p in passages])) == {
            p.text_hash for p in passages
        }

    def _open(self) -> ShardFolder:
        connect = sqlite3.connect

        def remembering(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            self.connection = connect(*args, **kwargs)
            return self.connection

        with self.disk.watched(), mock.patch.object(sqlite3, "connect", remembering):
            return opened(self.disk_root / "shards")

    def _crash(
        self,
        batch: tuple[Documents, list[str]],
        at: int,
        image_of: Callable[[Path, Path], None] | None,
    ) -> None:
        """Write, and go on with what was on the disk at one of the steps; the last is the end."""
        self.places += 1
        image = self.root / str(self.places)
        passed = 0

        def step() -> None:
            nonlocal passed
            if passed == at:
                take()
            passed += 1

        def take() -> None:
            if image_of is None:
                self.disk.after_power_failure(image)
            else:
                image_of(self.disk_root, image)

        with self.disk.watched(), steps(step, connections=[self.connection]):
            put(self.folder, *batch[0].values(), removed=batch[1])
        acknowledged = passed <= at
        if acknowledged:
            take()
        self.folder.close()
        self.disk_root = image
        self.disk = Disk(image)
        self.folder = self._open()
        assert not self.folder.clean
        written = after(self.documents, *batch)
        if acknowledged or contents(self.folder) != flat(self.documents):
            self.documents = written


def after(documents: Documents, written: Documents, removed: list[str]) -> Documents:
    """What documents become."""
    return {id: d for id, d in {**documents, **written}.items() if id not in removed}


def flat(documents: Documents) -> dict[str, Passage]:
    return {p.id: p for d in documents.values() for p in d}


Shards.TestCase.settings = settings(
    max_examples=100 if LONG else 10,
    stateful_step_count=50 if LONG else 12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=not LONG,
)
TestShards = Shards.TestCase
TestShards.__doc__ = "The folder holds what a dict holds, whatever happens to it."
