"""Any sequence of ingestions, changes, losses and kills, held against a plain dict.

``KOE5_LONG_TESTS=1 pytest tests/ingestion/test_states.py`` runs 100 sequences of 50 steps.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from crashing import Crashing
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ingested import SENTENCES, check_stored, committed_texts
from tiny_models import make_static

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import FingerprintMismatchError, SourceError
from koe5_integrations.ingestion import Summary, ingest, rebuild

LONG = bool(os.environ.get("KOE5_LONG_TESTS"))
IDS = st.sampled_from(["a", "b", "c", "a#0", "한글 이름", "d", "e"])
# Sentences, and texts of several passages.
TEXTS = st.integers(0, 11).map(lambda i: "\n\n".join(SENTENCES[i : i + (i % 3) * 4 + 1]))
KILLS = st.sampled_from(
    [
        ("embed", "after"),
        ("write", "after"),
        ("rename", "before"),
        ("rename", "after"),
        ("mid-upsert", "before"),
        ("mid-upsert", "within"),
        ("mid-upsert", "after"),
        ("mark", "before"),
        ("delete", "before"),
        ("delete", "after"),
    ]
)
OPTIONS: dict[str, Any] = {"shard_size": 3, "chunk_tokens": 64}


class Ingestions(RuleBasedStateMachine):
    """Two sources, one collection."""

    model: Path
    other: Path
    crashing: Crashing

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp())
        # What each source holds now, and what was stored of it by the last run.
        self.sources: dict[str, dict[str, dict[str, Any]]] = {"x": {}, "y": {}}
        self.stored: dict[str, dict[str, dict[str, Any]]] = {"x": {}, "y": {}}

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(source=st.sampled_from("xy"), id=IDS, text=TEXTS, key=st.sampled_from(["k", "한"]))
    def put(self, source: str, id: str, text: str, key: str) -> None:
        """A document is added to a source, or changes in it."""
        self.sources[source][f"{source} {id}"] = {"text": text, key: len(text)}

    @rule(source=st.sampled_from("xy"), keep=st.integers(0, 3))
    def shrink(self, source: str, keep: int) -> None:
        """Some documents leave a source."""
        documents = self.sources[source]
        for id in sorted(documents)[keep:]:
            del documents[id]

    @rule(source=st.sampled_from("xy"), sync=st.booleans())
    def run(self, source: str, sync: bool) -> None:
        """A source is ingested."""
        if sync and not self.sources[source] and self.stored[source]:
            with pytest.raises(SourceError):
                self._ingest(source, sync)
        else:
            self._after(source, sync, self._ingest(source, sync).embedded)
        self.check()

    @precondition(lambda self: any(self.sources.values()))
    @rule(
        source=st.sampled_from("xy"),
        sync=st.booleans(),
        kill=KILLS,
        nth=st.integers(1, 3),
        delay=st.floats(0, 0.03),
    )
    def run_killed(
        self, source: str, sync: bool, kill: tuple[str, str], nth: int, delay: float
    ) -> None:
        """A source is ingested, killed on the way, and ingested again."""
        if not self.sources[source]:
            return
        point, moment = kill
        documents = self._documents(source)
        options = {**OPTIONS, "source": source, "sync": sync}
        self.crashing.run(
            self.folder,
            self.model,
            documents,
            point=point,
            moment=moment,
            nth=nth,
            delay=delay,
            **options,
        )
        self._after(source, sync, self._ingest(source, sync).embedded)
        self.check()

    @rule()
    def lose_store(self) -> None:
        """Somebody deletes the database."""
        shutil.rmtree(self.folder / "chroma", ignore_errors=True)

    @rule()
    def lose_index(self) -> None:
        """Somebody deletes the index of the shards."""
        for file in self.folder.glob("chroma.shards/notes/index.sqlite*"):
            file.unlink()

    @precondition(lambda self: any(self.stored.values()))
    @rule()
    def rebuild(self) -> None:
        """The collection is made anew."""
        encoder = KoE5Encoder(self.model)
        rebuild(encoder=encoder, persist_dir=self.folder / "chroma", collection="notes")
        assert encoder.computed == 0
        self.check()

    @precondition(lambda self: any(self.stored.values()))
    @rule(source=st.sampled_from("xy"))
    def change_model(self, source: str) -> None:
        """Somebody tries another model, which is refused and changes nothing."""
        with pytest.raises(FingerprintMismatchError):
            self._ingest(source, False, model=self.other)

    def check(self) -> None:
        """The store holds what it must, each document once, in the version last ingested."""
        stored = {**self.stored["x"], **self.stored["y"]}
        check_stored(self.folder, [{"id": id, **document} for id, document in stored.items()])

    def _documents(self, source: str) -> list[dict[str, Any]]:
        return [{"id": id, **document} for id, document in self.sources[source].items()]

    def _ingest(self, source: str, sync: bool, model: Path | None = None) -> Summary:
        self.committed = committed_texts(self.folder / "chroma.shards" / "notes")
        return ingest(
            documents=self._documents(source),
            encoder=str(model or self.model),
            persist_dir=self.folder / "chroma",
            collection="notes",
            source=source,
            sync=sync,
            **OPTIONS,
        )

    def _after(self, source: str, sync: bool, embedded: int) -> None:
        texts = committed_texts(self.folder / "chroma.shards" / "notes")
        assert embedded == len(texts - self.committed)
        kept = {} if sync else self.stored[source]
        self.stored[source] = {**kept, **{id: dict(d) for id, d in self.sources[source].items()}}


def test_any_sequence_ends_as_it_should(tmp_path: Path) -> None:
    """Whatever happens in whatever order, the store is what the sources were when last read."""
    Ingestions.model = make_static(tmp_path / "model")
    Ingestions.other = make_static(tmp_path / "other", seed=7)
    with Crashing() as Ingestions.crashing:
        run_state_machine_as_test(
            Ingestions,
            settings=settings(
                max_examples=100 if LONG else 20,
                stateful_step_count=50 if LONG else 20,
                deadline=None,
                derandomize=not LONG,
                suppress_health_check=list(HealthCheck),
            ),
        )
