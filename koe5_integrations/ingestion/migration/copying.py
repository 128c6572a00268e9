"""Rows of one collection into shards, and from there into another collection."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import PrefixedTextWarning, TruncationWarning
from koe5_integrations.ingestion.diagnosis.sampling import has_text, pages
from koe5_integrations.ingestion.documents import Document, Rejected
from koe5_integrations.ingestion.each import embed_each
from koe5_integrations.ingestion.loading import Loader
from koe5_integrations.ingestion.migration.result import Migration
from koe5_integrations.ingestion.passages import Passage, document_hash
from koe5_integrations.ingestion.quarantine import Quarantine
from koe5_integrations.ingestion.shards import ShardFolder
from koe5_integrations.text import prefixed_positions
from koe5_integrations.types import Vectors

if TYPE_CHECKING:
    from chromadb.api.models.Collection import Collection

__all__ = ["Copying", "list_unfit"]

# Rows in a shard: what a crash can cost is the work on one.
_FEWEST, _MOST = 64, 4096
_SECONDS_PER_SHARD = 20.0


def list_unfit(source: Collection, quarantine: Quarantine, name: str) -> int:
    """Write down the rows that have nothing to embed, and return how many there are."""
    found = 0
    for page in pages(source, texts=True):
        unfit = [
            Rejected(
                place=f"{name}: {id}",
                reason="has a vector, but no text to embed: ingest it from its source"
                if text is None
                else "has nothing to embed (empty, blank or invisible characters only)",
                source=name,
                id=id,
            )
            for id, text in zip(page["ids"], page["documents"], strict=True)
            if not has_text(text)
        ]
        quarantine.add(unfit)
        found += len(unfit)
    return found


class Copying:
    """Embeds a collection's rows into shards, those that no shard has yet.

    Args:
        shards: where to.
        encoder: makes the vectors.
        loader: told of each shard.
        quarantine: where the reasons go of what can't be embedded.
        result: what to count in.
        told: called after each step.
    """

    def __init__(
        self,
        shards: ShardFolder,
        encoder: KoE5Encoder,
        loader: Loader,
        quarantine: Quarantine,
        result: Migration,
        told: Callable[[], None],
    ) -> None:
        self._shards = shards
        self._encoder = encoder
        self._loader = loader
        self._quarantine = quarantine
        self._result = result
        self._told = told
        self._size = _FEWEST

    def run(self, source: Collection, name: str) -> None:
        """Copy all rows, and remove from the shards those that are no more.

        Args:
            source: the old collection.
            name: what its rows are called as a source.

        Raises:
            KoE5Error: what is no single row's fault; what was written stays.
        """
        self._shards.start_run()
        rows = _rows(source)
        while batch := list(islice(rows, self._size)):
            self._take(batch, name)
            self._told()
        for gone in self._shards.unseen([name]):
            nothing = np.empty((0, self._shards.dim), dtype=np.float32)
            self._loader.add(self._shards.write([], nothing, removed=gone))

    def _take(self, rows: Sequence[tuple[str, str, Mapping[str, Any]]], name: str) -> None:
        passages = []
        for id, text, metadata in rows:
            document = Document(id=id, text=text, metadata=metadata, source=name)
            try:
                version = document_hash(document, {"split": False})
            except TypeError:
                self._reject(id, name, "has metadata that can't be written as JSON")
                continue
            passages.append(Passage(id, id, version, name, text, metadata, 0, 1))
        stored = self._shards.hashes([p.id for p in passages])
        fresh = [p for p in passages if stored.get(p.id) != p.document_hash]
        self._result.unchanged += len(passages) - len(fresh)
        vectors, faults = self._vectors(fresh)
        for passage in fresh:
            if passage.text_hash in faults:
                self._reject(passage.id, name, faults[passage.text_hash])
        sound = [p for p in fresh if p.text_hash not in faults]
        bad = {p.id for p in fresh} - {p.id for p in sound}
        # What is not seen is removed from the shards.
        self._shards.mark_seen([p.id for p in passages if p.id not in bad])
        if sound:
            embedded = np.stack([vectors[p.text_hash] for p in sound])
            self._loader.add(self._shards.write(sound, embedded))

    def _vectors(self, passages: Sequence[Passage]) -> tuple[dict[str, Vectors], dict[str, str]]:
        """Return the vector of each text, or the reason why it has none, by the text's hash."""
        encoder, result = self._encoder, self._result
        texts = {passage.text_hash: passage.text for passage in passages}
        vectors = self._shards.vectors(list(texts))
        missing = [key for key in texts if key not in vectors]
        result.reused += len(passages) - len(missing)
        if not missing:
            return vectors, {}
        bare = [texts[key] for key in missing]
        prompts = (encoder.profile.query_prompt, encoder.profile.passage_prompt)
        result.prefixed += len(prefixed_positions(bare, prompts))
        computed, cut, started = encoder.computed, encoder.truncation, time.perf_counter()
        with warnings.catch_warnings():
            # Of each batch; the result says it of all.
            warnings.simplefilter("ignore", PrefixedTextWarning)
            warnings.simplefilter("ignore", TruncationWarning)
            embedded, faults = embed_each(encoder, bare)
        result.embedded += encoder.computed - computed
        result.cut += encoder.truncation.texts - cut.texts
        result.cut_tokens += encoder.truncation.tokens - cut.tokens
        rate = len(missing) / (time.perf_counter() - started)
        self._size = int(min(max(rate * _SECONDS_PER_SHARD, _FEWEST), _MOST))
        vectors.update({key: embedded[i] for i, key in enumerate(missing) if i not in faults})
        return vectors, {missing[i]: reason for i, reason in faults.items()}

    def _reject(self, id: str, name: str, reason: str) -> None:
        self._quarantine.add([Rejected(f"{name}: {id}", reason, name, id)])
        self._result.left_out += 1


def _rows(source: Collection) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield id, text and metadata of each row that has something to embed."""
    for page in pages(source, texts=True, metadata=True):
        for id, text, metadata in zip(
            page["ids"], page["documents"], page["metadatas"], strict=True
        ):
            if has_text(text):
                yield id, text, metadata or {}
