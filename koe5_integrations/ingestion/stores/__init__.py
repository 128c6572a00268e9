"""Vector stores as ingestion sees them: a projection of the shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from koe5_integrations.ingestion.passages import Passage
from koe5_integrations.types import Vectors

__all__ = ["Store"]


class Store(Protocol):
    """Where passages are searched; whatever it loses is loaded again from the shards.

    Used by one thread at a time.
    """

    @property
    def key(self) -> str:
        """Names this place and this incarnation of it: one made anew has another key.

        By it the shards remember what has been loaded here.
        """

    def upsert(self, passages: Sequence[Passage], vectors: Vectors) -> None:
        """Store passages, each replacing all there is under its id: text, metadata and vector.

        Durable when it returns, as far as the store can be.

        Args:
            passages: any number, split here into what the store takes at once; ids differ.
            vectors: float32, shape (len(passages), dim).

        Raises:
            StoreError: the store refused or failed; what it has taken stays, and may be sent again.
        """

    def delete(self, ids: Sequence[str]) -> None:
        """Remove these passages; those that are not there are no error.

        Raises:
            StoreError: as :meth:`upsert`.
        """

    def count(self) -> int | None:
        """How many passages there are; None if the store can't say."""

    def ids(self) -> Iterator[list[str]] | None:
        """All ids, in pages and no particular order; None if the store can't list them."""

    def reset(self) -> None:
        """Empty it, also if it is damaged; its key is another afterwards, if it can tell.

        Raises:
            StoreError: it can't be emptied.
        """
