"""What must be true of passages and vectors before they become a shard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from koe5_integrations.errors import ShardError, shorten
from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.types import Vectors

__all__ = ["ShardCheck"]


@dataclass(slots=True)
class _Version:
    """A document's version, and which of its passages have come."""

    hash: str
    source: str
    chunks: int
    found: set[int] = field(default_factory=set)


class ShardCheck:
    """Takes what is to stand in a shard, piece by piece, and refuses what must not.

    Args:
        where: what is being checked, for messages.
        dim: of the vectors.

    Attributes:
        ids: of the passages that have come, with the document each belongs to.
    """

    def __init__(self, where: str, dim: int) -> None:
        self.ids: dict[str, str] = {}
        self._where = where
        self._dim = dim
        self._versions: dict[str, _Version] = {}

    @property
    def documents(self) -> Iterable[str]:
        """The documents that have come."""
        return self._versions.keys()

    def add(self, passages: Sequence[Passage], vectors: Vectors) -> None:
        """Take passages and their vectors, float32, shape (len(passages), dim).

        Raises:
            ShardError: something is wrong with one of them.
        """
        expected = (len(passages), self._dim)
        if (
            not isinstance(vectors, np.ndarray)
            or vectors.shape != expected
            or vectors.dtype != np.float32
        ):
            given = (
                f"{vectors.dtype} of shape {vectors.shape}"
                if isinstance(vectors, np.ndarray)
                else type(vectors).__name__
            )
            raise self._refused(f"vectors must be float32 of shape {expected}, not {given}")
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            bad = passages[int(np.argmin(finite))]
            raise self._refused(f"the vector of passage {shorten(bad.id)} holds NaN or infinity")
        for passage in passages:
            self._add(passage)

    def finish(self, removed: Sequence[str]) -> None:
        """Check what can be said when all have come.

        Args:
            removed: ids of the documents that the shard removes.

        Raises:
            ShardError: a passage is missing, or a document is both written and removed.
        """
        for document, version in self._versions.items():
            if len(version.found) != version.chunks:
                missing = next(c for c in range(version.chunks) if c not in version.found)
                raise self._refused(
                    f"document {shorten(document)} is incomplete: passage {missing} of "
                    f"{version.chunks} is missing (a document lies wholly in one shard)"
                )
        for document in removed:
            if problem := _text_problem(document):
                raise self._refused(f"the id of a removed document {problem}: {shorten(document)}")
            if document in self._versions:
                raise self._refused(f"document {shorten(document)} is both written and removed")
        if not self._versions and not removed:
            raise self._refused("nothing to write: no passages, and no documents to remove")

    def _add(self, passage: Passage) -> None:
        problem = self._problem(passage)
        if problem is not None:
            raise self._refused(f"passage {shorten(passage.id)} {problem}")
        self.ids[passage.id] = passage.document_id
        self._versions[passage.document_id].found.add(passage.chunk)

    def _problem(self, passage: Passage) -> str | None:
        for name in ("id", "document_id", "document_hash", "source", "text"):
            text = getattr(passage, name)
            if problem := _text_problem(text):
                return f"has a {name} that {problem}: {shorten(text)}"
        document = passage.document_id
        if not passage.id or not document:
            return f"of document {shorten(document)} has no id, or its document has none"
        if passage.id in self.ids:
            return (
                f"comes twice: in document {shorten(self.ids[passage.id])} and in "
                f"{shorten(document)}"
            )
        version = self._versions.setdefault(
            document, _Version(passage.document_hash, passage.source, passage.chunks)
        )
        if (version.hash, version.source, version.chunks) != (
            passage.document_hash,
            passage.source,
            passage.chunks,
        ):
            return (
                f"is of another version of document {shorten(document)} than those before it: they "
                "differ in hash, source or number of passages"
            )
        if passage.chunk in version.found or not 0 <= passage.chunk < passage.chunks:
            return (
                f"is number {passage.chunk} of {passage.chunks} in document {shorten(document)}: "
                "numbers start at 0 and each comes once"
            )
        return None

    def _refused(self, problem: str) -> ShardError:
        return ShardError(f"{self._where}: {problem}")


def _text_problem(text: object) -> str | None:
    if not isinstance(text, str):
        return "is not a string"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "holds a lone surrogate and is not valid Unicode"
    return None
