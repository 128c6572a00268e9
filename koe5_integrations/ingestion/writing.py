"""Documents into shards: only what is new, split, embedded and written."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import NamedTuple

import numpy as np

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import shorten
from koe5_integrations.ingestion.documents import Document, Rejected
from koe5_integrations.ingestion.each import embed_each, split_each
from koe5_integrations.ingestion.passages import Passage, document_hash, passages_of
from koe5_integrations.ingestion.quarantine import Quarantine
from koe5_integrations.ingestion.shards import ShardFolder
from koe5_integrations.ingestion.summary import Summary
from koe5_integrations.splitting import TokenSplitter
from koe5_integrations.types import Vectors

__all__ = ["ShardWriter", "slices"]

# Documents looked at together: enough to ask the index about many at once, few enough for memory.
_MOST_DOCUMENTS = 1024
_MOST_CHARACTERS = 4_000_000

# Passages in a shard, where the model's speed decides: what a crash can cost is the work on one.
# Chroma takes 5,461 at once, and writes its whole index to disk after each such call.
_FEWEST, _MOST = 64, 5461
_SECONDS_PER_SHARD = 20.0


def slices(items: Iterable[Document | Rejected]) -> Iterator[list[Document | Rejected]]:
    """Cut what is read into lists that fit into memory."""
    part: list[Document | Rejected] = []
    characters = 0
    for item in items:
        part.append(item)
        characters += len(item.text) if isinstance(item, Document) else 0
        if len(part) >= _MOST_DOCUMENTS or characters >= _MOST_CHARACTERS:
            yield part
            part, characters = [], 0
    if part:
        yield part


class _Fresh(NamedTuple):
    """A document no shard has, in passages."""

    document: Document
    passages: list[Passage]
    is_new: bool


class _Embedded(NamedTuple):
    """What became of the texts that the model was given."""

    vectors: Vectors
    faults: dict[int, str]
    computed: int
    seconds: float


class _UnderWay(NamedTuple):
    """Documents that are being embedded, with the vectors there were of their texts."""

    documents: Sequence[_Fresh]
    vectors: dict[str, Vectors]
    missing: list[str]
    embedded: Future[_Embedded]


class ShardWriter:
    """Takes documents in any number; what is new among them becomes shards.

    Args:
        shards: where to.
        encoder: makes the vectors.
        splitter: makes the passages.
        quarantine: where the reasons go.
        summary: what to count in.
        shard_size: passages in a shard; None takes as many as are embedded in some 20 seconds.
        written: told the sequence number of each shard, and its passages and vectors.
        hand_out: given what is new of whole documents, to be embedded elsewhere; None embeds here.
    """

    def __init__(
        self,
        shards: ShardFolder,
        encoder: KoE5Encoder,
        splitter: TokenSplitter,
        quarantine: Quarantine,
        summary: Summary,
        *,
        shard_size: int | None,
        written: Callable[[int, tuple[Sequence[Passage], Vectors]], None],
        hand_out: Callable[[Sequence[Passage]], object] | None = None,
    ) -> None:
        self._shards = shards
        self._encoder = encoder
        self._splitter = splitter
        self._settings = splitter.settings
        self._quarantine = quarantine
        self._summary = summary
        self._fixed_size = shard_size
        self._size = shard_size or (_MOST if hand_out else _FEWEST)
        self._written = written
        self._hand_out = hand_out
        # Split, but not embedded yet.
        self._waiting: list[_Fresh] = []
        self._n_waiting = 0
        self._under_way: _UnderWay | None = None
        # The versions of both, for documents that come twice.
        self._versions: dict[str, str] = {}
        self.unreadable: set[str] = set()
        """Sources with something in them of which nobody can say which document it is."""

    def take(self, items: Sequence[Document | Rejected]) -> None:
        """Take a slice of what was read.

        Raises:
            KoE5Error: what is no single document's fault; what was written stays.
        """
        rejected = [item for item in items if isinstance(item, Rejected)]
        self._shards.mark_seen([item.id for item in rejected if item.id is not None])
        self.unreadable |= {item.source for item in rejected if item.id is None}
        self._reject(rejected)
        documents = [item for item in items if isinstance(item, Document)]
        ids = list(dict.fromkeys(document.id for document in documents))
        stored = self._shards.hashes(ids)
        again = self._shards.mark_seen(ids)
        fresh: dict[str, tuple[Document, str]] = {}
        for document in documents:
            version = document_hash(document, self._settings)
            if document.id in fresh:
                self._repeated(document, same=version == fresh[document.id][1])
            elif document.id in again:
                known = self._versions.get(document.id) or stored.get(document.id)
                self._repeated(document, same=version == known)
            elif stored.get(document.id) == version:
                self._summary.unchanged += 1
                again.add(document.id)  # of which later ones of this slice are repetitions
            else:
                fresh[document.id] = document, version
        self._split(list(fresh.values()), stored)

    def _repeated(self, document: Document, *, same: bool) -> None:
        """Skip a document that came before in this run, and complain if it was another."""
        if same:
            self._summary.duplicates += 1
            return
        self._reject_document(
            document,
            f"an earlier document of this run has the same id {shorten(document.id)} and is not "
            "the same: give each an id of its own",
        )

    def _split(self, fresh: Sequence[tuple[Document, str]], stored: Collection[str]) -> None:
        """Split documents into passages, and write shards as they fill."""
        texts = [document.text for document, _ in fresh]
        split = split_each(self._splitter.passages_of, texts)
        for (document, version), pieces in zip(fresh, split, strict=True):
            if isinstance(pieces, str):
                self._reject_document(document, pieces)
                continue
            passages = passages_of(document, pieces, version)
            self._waiting.append(_Fresh(document, passages, document.id not in stored))
            self._versions[document.id] = version
            self._n_waiting += len(passages)
            if self._hand_out is None:
                self._summary.to_load += len(passages)
            if self._n_waiting >= self._size:
                self._flush()

    def _flush(self) -> None:
        """Hand what waits to the model, and write what it was given before as a shard.

        Raises:
            KoE5Error: as :meth:`take`.
        """
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        if self._hand_out is None:
            # In this order: of the texts that wait, those that are written by then have vectors.
            self.settle()
            if waiting:
                self._begin(waiting)
            if self._size == _FEWEST:
                self.settle()  # it tells how many to take next; a slow model gains nothing else
        elif waiting:
            # No shard can be asked yet for the versions of these: they are kept until the end.
            self._hand_out([passage for fresh in waiting for passage in fresh.passages])
            self._count(waiting)

    def finish(self) -> None:
        """Write everything.

        Raises:
            KoE5Error: as :meth:`take`.
        """
        self._flush()
        self.settle()

    def _begin(self, documents: Sequence[_Fresh]) -> None:
        """Have the texts embedded that no shard has, while the next documents are read and split.

        A daemon's work, so that nothing waits for it where the ingestion is interrupted.
        """
        texts = {p.text_hash: p.text for fresh in documents for p in fresh.passages}
        vectors = self._shards.vectors(list(texts))
        self._summary.reused += sum(
            p.text_hash in vectors for fresh in documents for p in fresh.passages
        )
        missing = [key for key in texts if key not in vectors]
        embedded: Future[_Embedded] = Future()

        def embed() -> None:
            computed, started = self._encoder.computed, time.perf_counter()
            try:
                made = embed_each(self._encoder, [texts[key] for key in missing])
            except BaseException as error:
                embedded.set_exception(error)
                return
            seconds = time.perf_counter() - started
            embedded.set_result(_Embedded(*made, self._encoder.computed - computed, seconds))

        Thread(target=embed, name="koe5-ingest", daemon=True).start()
        self._under_way = _UnderWay(documents, vectors, missing, embedded)

    def settle(self) -> None:
        """Write what is being embedded, once that is done; errors as :meth:`take`."""
        if self._under_way is None:
            return
        (documents, vectors, missing, future), self._under_way = self._under_way, None
        embedded = future.result()
        self._summary.embedded += embedded.computed
        if missing and self._fixed_size is None:
            rate = len(missing) / embedded.seconds
            self._size = int(min(max(rate * _SECONDS_PER_SHARD, _FEWEST), _MOST))
        vectors |= {key: embedded.vectors[i] for i, key in enumerate(missing)}
        faults = {missing[i]: reason for i, reason in embedded.faults.items()}
        sound: list[_Fresh] = []
        for fresh in documents:
            reasons = [faults[p.text_hash] for p in fresh.passages if p.text_hash in faults]
            if reasons:
                self._reject_document(fresh.document, reasons[0])
                self._summary.to_load -= len(fresh.passages)
            else:
                sound.append(fresh)
        passages = [passage for fresh in sound for passage in fresh.passages]
        if passages:
            matrix = np.stack([vectors[passage.text_hash] for passage in passages])
            sequence = self._shards.write(passages, matrix)
            self._count(sound)
            self._summary.shards += 1
            self._written(sequence, (passages, matrix))
        for fresh in documents:
            # From now on the shards know them.
            self._versions.pop(fresh.document.id, None)

    def _count(self, stored: Sequence[_Fresh]) -> None:
        n_new = sum(fresh.is_new for fresh in stored)
        self._summary.new += n_new
        self._summary.changed += len(stored) - n_new

    def _reject_document(self, document: Document, reason: str) -> None:
        self._reject([Rejected(document.place, reason, document.source, document.id)])

    def _reject(self, rejected: Sequence[Rejected]) -> None:
        self._quarantine.add(rejected)
        self._summary.quarantined += len(rejected)
