"""What ingestion stores: a document's passages, each with the ids and hashes it is known by."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from koe5_integrations.ingestion.documents import Document, MetadataValue

__all__ = ["FROM_COLLECTION", "Passage", "document_hash", "passages_of", "text_hash"]

FROM_COLLECTION = "chroma-collection:"
"""How the source of a row begins that was taken over from another collection."""

_HEX_DIGITS = 32
_NUMBERED = re.compile(r"#[0-9]+\Z")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that fits into the model.

    Attributes:
        id: unique in a collection, see :func:`passages_of`.
        document_id: of the document it is a piece of.
        document_hash: of the version of that document, see :func:`document_hash`.
        source: of the document.
        text: what is embedded and stored, in NFC.
        metadata: of the document.
        chunk: which of the document's passages it is, from 0.
        chunks: how many there are.
    """

    id: str
    document_id: str
    document_hash: str
    source: str
    text: str
    metadata: Mapping[str, MetadataValue]
    chunk: int
    chunks: int

    @property
    def text_hash(self) -> str:
        """What its vector is known by, together with the fingerprint of all vectors."""
        return text_hash(self.text)

    @property
    def stored_metadata(self) -> dict[str, MetadataValue]:
        """What a vector store keeps: the document's metadata, its id, and the passage's number.

        A row that was taken over from another collection keeps the metadata it had, and no other.
        """
        if self.source.startswith(FROM_COLLECTION):
            return dict(self.metadata)
        return {
            **self.metadata,
            "document_id": self.document_id,
            "chunk": self.chunk,
            "chunks": self.chunks,
        }


def passages_of(document: Document, texts: Sequence[str], version: str) -> list[Passage]:
    """Return a document's passages.

    A document's only passage has its id, several have ``ID#0``, ``ID#1``, …; where the document's
    id ends like that itself, its only passage has a number too, so that no two documents can have
    a passage of the same id.

    Args:
        document: already checked.
        texts: what its text was split into, at least one.
        version: its :func:`document_hash`.
    """
    numbered = len(texts) > 1 or _NUMBERED.search(document.id)
    return [
        Passage(
            id=f"{document.id}#{chunk}" if numbered else document.id,
            document_id=document.id,
            document_hash=version,
            source=document.source,
            text=text,
            metadata=document.metadata,
            chunk=chunk,
            chunks=len(texts),
        )
        for chunk, text in enumerate(texts)
    ]


def document_hash(document: Document, splitting: Mapping[str, object]) -> str:
    """Hash all that decides a document's passages but the model: 32 hexadecimal digits.

    Args:
        document: its text, metadata and source.
        splitting: the splitter's settings, as JSON types.
    """
    decisive = [document.text, dict(document.metadata), document.source, dict(splitting)]
    written = json.dumps(decisive, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(written.encode()).hexdigest()[:_HEX_DIGITS]


# A shard's texts are asked for theirs several times on the way.
@lru_cache(maxsize=2**14)
def text_hash(text: str) -> str:
    """Hash a text: 32 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:_HEX_DIGITS]
