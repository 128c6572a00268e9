"""Documents into shards: only what is new, split, embedded and written."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
        # Their versions, for documents that come twice.
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
            if self._n_waiting >= self._size:
                self.flush()

    def flush(self) -> None:
        """Embed what waits, and write it as a shard.

        Raises:
            KoE5Error: as :meth:`take`.
        """
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        if not waiting:
            return
        if self._hand_out is not None:
            # No shard can be asked yet for the versions of these: they are kept until the end.
            self._hand_out([passage for fresh in waiting for passage in fresh.passages])
            self._count(waiting)
            return
        self._versions = {}
        vectors, faults = self._vectors([p for fresh in waiting for p in fresh.passages])
        sound: list[_Fresh] = []
        for fresh in waiting:
            reasons = [faults[p.text_hash] for p in fresh.passages if p.text_hash in faults]
            if reasons:
                self._reject_document(fresh.document, reasons[0])
            else:
                sound.append(fresh)
        passages = [passage for fresh in sound for passage in fresh.passages]
        if not passages:
            return
        matrix = np.stack([vectors[passage.text_hash] for passage in passages])
        sequence = self._shards.write(passages, matrix)
        self._count(sound)
        self._summary.shards += 1
        self._written(sequence, (passages, matrix))

    def _count(self, stored: Sequence[_Fresh]) -> None:
        n_new = sum(fresh.is_new for fresh in stored)
        self._summary.new += n_new
        self._summary.changed += len(stored) - n_new

    def _vectors(self, passages: Sequence[Passage]) -> tuple[dict[str, Vectors], dict[str, str]]:
        """Return the vector of each text, or the reason why it has none, by the text's hash."""
        texts = {passage.text_hash: passage.text for passage in passages}
        vectors = self._shards.vectors(list(texts))
        missing = [key for key in texts if key not in vectors]
        computed, started = self._encoder.computed, time.perf_counter()
        embedded, faults = embed_each(self._encoder, [texts[key] for key in missing])
        self._summary.embedded += self._encoder.computed - computed
        self._summary.reused += sum(passage.text_hash in vectors for passage in passages)
        if missing and self._fixed_size is None:
            rate = len(missing) / (time.perf_counter() - started)
            self._size = int(min(max(rate * _SECONDS_PER_SHARD, _FEWEST), _MOST))
        for i, key in enumerate(missing):
            if i not in faults:
                vectors[key] = embedded[i]
        return vectors, {missing[i]: reason for i, reason in faults.items()}

    def _reject_document(self, document: Document, reason: str) -> None:
        self._reject([Rejected(document.place, reason, document.source, document.id)])

    def _reject(self, rejected: Sequence[Rejected]) -> None:
        self._quarantine.add(rejected)
        self._summary.quarantined += len(rejected)
