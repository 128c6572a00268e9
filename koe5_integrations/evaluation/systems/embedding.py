"""Texts by id to vectors: what the dense systems share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import EmptyTextError, InputError, shorten
from koe5_integrations.evaluation.datasets import DatasetError
from koe5_integrations.text import check_texts
from koe5_integrations.types import Role, Vectors

__all__ = ["TextEmbedder"]

_SHOWN = 3


class TextEmbedder:
    """Embeds texts by id, through a cache, and says what it had to leave out.

    Args:
        encoder: makes the vectors.
        cache: folder of embeddings kept between runs; None is the encoder's own choice.
        show_progress: draw progress bars on stderr.
    """

    def __init__(
        self, encoder: KoE5Encoder, cache: str | os.PathLike[str] | None, show_progress: bool
    ) -> None:
        self.encoder = encoder
        self.cache = cache
        own = encoder.config()
        folder, size = cache or own.get("embedding_cache"), own.get("embedding_cache_size")
        self._caches = folder is not None or size is not None
        # Encoders of its own, so that what they count is of this evaluation alone.
        self._many = encoder.with_cache(folder, embedding_cache_size=size)
        self._one = encoder.with_cache()
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
        encoder = self._many if len(chosen) > 1 else self._one
        encode = encoder.encode_queries if role == "query" else encoder.encode_passages
        cut_before, computed_before = encoder.truncation.texts, encoder.computed
        vectors = encode(chosen, show_progress=self._show_progress and len(chosen) > 1)
        new = len(chosen)
        if self._caches and len(chosen) > 1:
            new = encoder.computed - computed_before
            if role == "query" and new < len(set(chosen)):
                self.used_cache = True
        cut = encoder.truncation.texts - cut_before
        if cut:
            self._warnings[role, "cut"] = (
                f"{cut} of the {_count(len(chosen), role)} had more than the "
                f"{encoder.max_seq_length} tokens the model reads, and the rest is not "
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
