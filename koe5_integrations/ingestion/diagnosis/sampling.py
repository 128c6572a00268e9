"""Which rows of a collection are looked at, and what a look at all of its texts shows."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from koe5_integrations.errors import InputError
from koe5_integrations.text import check_texts
from koe5_integrations.types import Vectors

if TYPE_CHECKING:
    from chromadb.api.models.Collection import Collection

__all__ = ["Repeated", "Row", "Scan", "chance_of_seeing", "has_text", "pages", "read_rows", "scan"]

_EXAMPLES = 5
# Texts come in pages that fit into memory; ids alone in longer ones, for reaching a page takes
# Chroma the longer the farther back it is.
_TEXTS_PER_PAGE = 2_000
_IDS_PER_PAGE = 20_000
_ROWS_PER_CALL = 100
# Some 30 MB of hashes.
_MOST_HASHES = 200_000


@dataclass(frozen=True)
class Row:
    """A row of a collection: its vector is float32, shape (dim,)."""

    id: str
    text: str | None
    metadata: Mapping[str, Any]
    vector: Vectors


def has_text(text: Any) -> bool:
    """Whether there is something visible to embed."""
    try:
        check_texts([text])
    except InputError:
        return False
    return True


def pages(collection: Collection, *, texts: bool, metadata: bool = False) -> Iterator[Any]:
    """Yield all rows in the order they were added, in constant memory.

    Args:
        collection: read with ``get`` alone.
        texts: bring the documents.
        metadata: bring the metadata.
    """
    include: Any = [
        *(["documents"] if texts else []),
        *(["metadatas"] if metadata else []),
    ]
    length = _TEXTS_PER_PAGE if include else _IDS_PER_PAGE
    offset = 0
    while True:
        page = collection.get(include=include, limit=length, offset=offset)
        if not page["ids"]:
            return
        offset += len(page["ids"])
        yield page


class Repeated:
    """Counts equal texts in constant memory.

    Texts are known by a hash. Where there are too many, only those whose hash is below a bound are
    counted, and the bound is halved as often as needed: a sample of the texts, each of which is
    counted in all its rows.
    """

    def __init__(self, most: int = _MOST_HASHES) -> None:
        self._most = most
        self._bound = 1 << 64
        self._rows: dict[int, tuple[int, str]] = {}
        self.examples: list[tuple[str, str]] = []

    def add(self, id: str, text: str) -> None:
        """Count a row."""
        normal = unicodedata.normalize("NFC", text).encode()
        key = int.from_bytes(hashlib.blake2b(normal, digest_size=8).digest())
        if key >= self._bound:
            return
        count, first = self._rows.get(key, (0, id))
        if count and len(self.examples) < _EXAMPLES:
            self.examples.append((first, id))
        self._rows[key] = count + 1, first
        while len(self._rows) > self._most:
            self._bound //= 2
            self._rows = {k: v for k, v in self._rows.items() if k < self._bound}

    @property
    def counted(self) -> int:
        """Rows whose texts were counted."""
        return sum(count for count, _ in self._rows.values())

    @property
    def superfluous(self) -> int:
        """Those of them whose text another row has already."""
        return self.counted - len(self._rows)


@dataclass
class Scan:
    """What was seen on the way through a whole collection.

    Attributes:
        rows: how many there are.
        sampled: ids that were drawn.
        without_text: rows with a vector but no text.
        blank: rows whose text has nothing visible.
        examples: ids of rows of either kind.
        repeated: equal texts; None if the texts were not read.
    """

    rows: int = 0
    sampled: list[str] = field(default_factory=list)
    without_text: int = 0
    blank: int = 0
    examples: list[str] = field(default_factory=list)
    repeated: Repeated | None = None


def scan(
    collection: Collection,
    *,
    sample: int,
    seed: int,
    texts: bool,
    on_progress: Callable[[int], None],
) -> Scan:
    """Draw a sample of the ids, and read all texts if asked.

    The collection is cut, in the order its rows were added, into as many equal parts as rows are
    drawn, and of each part one row is drawn at random. So what went wrong for a while is met in
    proportion, and a fault in any share of the rows is at least as likely to be seen as by drawing
    from all of them.

    Args:
        collection: any.
        sample: how many rows to draw, fewer if there are fewer.
        seed: of the drawing.
        texts: read all documents, and count what is missing or repeated.
        on_progress: told how many rows have been passed.
    """
    total = collection.count()
    edges = np.linspace(0, total, min(sample, total) + 1).astype(np.int64)
    drawn = np.random.default_rng(seed).integers(edges[:-1], edges[1:]) if total else edges[:0]
    found = Scan(repeated=Repeated() if texts else None)
    for page in pages(collection, texts=texts):
        ids = page["ids"]
        here = drawn[(drawn >= found.rows) & (drawn < found.rows + len(ids))] - found.rows
        found.sampled += [ids[i] for i in here.tolist()]
        found.rows += len(ids)
        if found.repeated is not None:
            for id, text in zip(ids, page["documents"], strict=True):
                if has_text(text):
                    found.repeated.add(id, text)
                    continue
                found.without_text += text is None
                found.blank += text is not None
                if len(found.examples) < _EXAMPLES:
                    found.examples.append(id)
        on_progress(found.rows)
    return found


def read_rows(collection: Collection, ids: list[str]) -> list[Row]:
    """Read rows by their ids; those that have gone meanwhile are left out."""
    rows: list[Row] = []
    for start in range(0, len(ids), _ROWS_PER_CALL):
        got: Any = collection.get(
            ids=ids[start : start + _ROWS_PER_CALL],
            include=["embeddings", "documents", "metadatas"],
        )
        vectors = np.asarray(got["embeddings"], dtype=np.float32)
        columns = got["ids"], got["documents"], got["metadatas"], vectors
        rows += [
            Row(id, text, metadata or {}, vector)
            for id, text, metadata, vector in zip(*columns, strict=True)
        ]
    return rows


def chance_of_seeing(share: float, looked_at: int, rows: int) -> float:
    """Return the least probability that a fault in this share of the rows is in the sample."""
    if looked_at >= rows:
        return 1.0
    return 1 - (1 - share) ** looked_at
