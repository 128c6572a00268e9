"""Texts by id to vectors: what the dense systems share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import EmptyTextError, InputError, shorten
from koe5_integrations.evaluation.cache import EmbeddingCache, encode_in_slices
from koe5_integrations.evaluation.datasets import DatasetError
from koe5_integrations.text import check_texts
from koe5_integrations.types import Role, Vectors

__all__ = ["TextEmbedder"]

_SHOWN = 3


class TextEmbedder:
    """Embeds texts by id, through a cache, and says what it had to leave out.

    Args:
        encoder: makes the vectors.
        cache: keeps them between runs; None keeps nothing.
        show_progress: draw progress bars on stderr.
    """

    def __init__(
        self, encoder: KoE5Encoder, cache: EmbeddingCache | None, show_progress: bool
    ) -> None:
        self.encoder = encoder
        self.cache = cache
        self.used_cache = False
        self._show_progress = show_progress
        self._warnings: dict[tuple[Role, str], str] = {}

    @property
    def warnings(self) -> Sequence[str]:
        """What was left out or cut so far, one sentence each."""
        return list(self._warnings.values())

    def embed(self, texts: Mapping[str, str], role: Role) -> tuple[list[str], Vectors, int]:
        """Return the ids of the texts that can be embedded, their vectors, and how many are new.

        Texts with nothing visible in them are left out, with a warning. The vectors have the shape
        (n, dim). One text alone is never taken from the cache, so that timing it is honest.

        Raises:
            DatasetError: a text is not one (a number, a lone surrogate), named by its id.
            KoE5Error: as :meth:`KoE5Encoder.encode_queries`.
        """
        ids = self._embeddable(texts, role)
        chosen = [texts[id_] for id_ in ids]
        before = self.encoder.truncation
        if self.cache is not None and len(chosen) > 1:
            vectors, new = self.cache.encode(
                self.encoder, chosen, role, show_progress=self._show_progress
            )
        else:
            slices = encode_in_slices(
                self.encoder, chosen, role, show_progress=self._show_progress and len(chosen) > 1
            )
            empty: Vectors = np.empty((0, self.encoder.dim), dtype=np.float32)
            vectors, new = np.concatenate([empty, *(part for _, part in slices)]), len(chosen)
        if role == "query" and new < len(set(chosen)):
            self.used_cache = True
        cut = self.encoder.truncation.texts - before.texts
        if cut:
            self._warnings[role, "cut"] = (
                f"{cut} of the {_count(new, role)} embedded in this run had more than the "
                f"{self.encoder.max_seq_length} tokens the model reads, and the rest is not "
                "embedded: split such texts into shorter passages"
            )
        return ids, vectors, new

    def facts(self) -> dict[str, Any]:
        """Return the model and everything that decides its vectors."""
        fingerprint = self.encoder.fingerprint
        return {
            "model": self.encoder.model,
            "fingerprint": fingerprint.digest,
            "fingerprint_fields": asdict(fingerprint),
            "dim": self.encoder.dim,
        }

    def _embeddable(self, texts: Mapping[str, str], role: Role) -> list[str]:
        kind = "query" if role == "query" else "document"
        ids: list[str] = []
        blank: list[str] = []
        for id_, text in texts.items():
            try:
                check_texts([text])
            except EmptyTextError:
                blank.append(id_)
            except InputError as error:
                raise DatasetError(
                    f"{kind} {id_!r} {error.problem}: {shorten(error.value)}"
                ) from error
            else:
                ids.append(id_)
        if blank:
            named = ", ".join(map(repr, blank[:_SHOWN])) + (", …" if len(blank) > _SHOWN else "")
            effect = "answered by nothing" if role == "query" else "never found"
            self._warnings[role, "blank"] = (
                f"{_count(len(blank), role)} with nothing visible in the text ({named}) are not "
                f"embedded, and {effect}: fill in or remove such texts"
            )
        return ids


def _count(number: int, role: Role) -> str:
    one, many = ("query", "queries") if role == "query" else ("document", "documents")
    return f"{number} {one if number == 1 else many}"
