"""A collection beside the shards it was made from: each way in which they must agree."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from chromadb.api.models.Collection import Collection

from koe5_integrations.chroma import stored_fingerprint
from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import (
    ConfigError,
    EmbeddingServerError,
    KoE5Warning,
    MissingExtraError,
    ModelLoadError,
    StoreError,
    shorten,
)
from koe5_integrations.ingestion.comparing import AGAIN, Finding, Truth
from koe5_integrations.ingestion.existing import recorded_options
from koe5_integrations.ingestion.stores.chroma_database import (
    as_chroma_metadata,
    page_of_ids,
    store_key,
)
from koe5_integrations.text import prefixed_positions

__all__ = ["REBUILD", "Projection"]

REBUILD = "koe5 ingest --rebuild makes the collection anew from the shards"

_PER_CALL = 64
_RESULTS = 5
_SAME_NUMBER = 1e-5
_SAME_COSINE = 0.999
_FOUND_DISTANCE = 1e-4
# An approximate index does not lead to every vector, above all where texts are nearly alike: see
# probing.py. That is no damage, but worth a word.
_MOST_MISSED = 0.5
_WORTH_A_WORD = 0.02
_EMBEDDED_ANEW = 8

T = TypeVar("T")


@dataclass
class Projection:
    """The collection, compared with the truth.

    Attributes:
        collection: which has been found to be readable.
        place: where it is: a folder, or the URL of a server.
        truth: which has been read.
    """

    collection: Collection
    place: str
    truth: Truth

    @property
    def checks(self) -> Mapping[str, Callable[[], Finding]]:
        """What to look at, by name; each may raise StoreError."""
        return {
            "fingerprint": self._fingerprint,
            "space": self._space,
            "loading": self._loading,
            "count": self._count,
            "ids": self._ids,
            "content": self._content,
            "search": self._search,
        }

    def _fingerprint(self) -> Finding:
        ours = self.truth.folder.fingerprint
        digest, fields = stored_fingerprint(self.collection)
        if digest == ours.digest:
            return True, f"collection and shards were made by {ours.model} ({ours})"
        if digest is None:
            return False, "the collection does not say which model its vectors were made by"
        return False, (
            f"the shards were made by {ours.model} ({ours}), the collection by another model or "
            f"other settings ({digest}): {'; '.join(ours.differences(fields))} (the shards)"
        )

    def _space(self) -> Finding:
        space = (self.collection.configuration_json.get("hnsw") or {}).get("space")
        if space == "cosine":
            return True, "distance is measured by cosine"
        return False, f"distance is measured by {space!r}, not 'cosine'; {REBUILD}"

    def _loading(self) -> Finding:
        pending = self.truth.folder.unloaded(store_key(self.place, self.collection))
        if not pending:
            return True, "all shards have been loaded into it"
        return False, f"{len(pending)} shards have not been loaded into it yet: {AGAIN}"

    def _count(self) -> Finding:
        count = _ask(self.collection.count)
        if count == self.truth.passages:
            return True, f"{count:,} rows for as many passages"
        return False, f"{count:,} rows for {self.truth.passages:,} passages; {REBUILD}"

    def _ids(self) -> Finding:
        offset = 0
        while page := _ask(page_of_ids, self.collection, offset):
            self.truth.ids.add("store", page)
            offset += len(page)
        missing, some = self.truth.ids.lacking("store", "shards")
        surplus, others = self.truth.ids.lacking("shards", "store")
        problems = [
            f"{n:,} {what} ({', '.join(map(shorten, first))}{', …' if n > len(first) else ''})"
            for n, what, first in (
                (missing, "passages are missing from the collection", some),
                (surplus, "rows belong to no passage", others),
            )
            if n
        ]
        if problems:
            return False, f"{' and '.join(problems)}; {REBUILD}"
        return True, "the ids are those of the shards, one by one"

    def _content(self) -> Finding:
        sampled = self.truth.sample.passages
        for start in range(0, len(sampled), _PER_CALL):
            part = sampled[start : start + _PER_CALL]
            got = _ask(
                lambda ids: self.collection.get(
                    ids, include=["documents", "metadatas", "embeddings"]
                ),
                [passage.id for passage in part],
            )
            columns: Any = (got["documents"], got["metadatas"], got["embeddings"])
            rows = dict(zip(got["ids"], zip(*columns, strict=True), strict=True))
            vectors = self.truth.sample.vectors[start : start + _PER_CALL]
            for passage, vector in zip(part, vectors, strict=True):
                if passage.id not in rows:
                    continue  # said by another check
                text, metadata, stored = rows[passage.id]
                different = [
                    what
                    for what, same in (
                        ("text", text == passage.text),
                        (
                            "metadata",
                            (metadata or {}) == as_chroma_metadata(passage.stored_metadata),
                        ),
                        ("vector", np.allclose(stored, vector, rtol=0, atol=_SAME_NUMBER)),
                    )
                    if not same
                ]
                if different:
                    return False, (
                        f"passage {shorten(passage.id)} has another {' and '.join(different)} than "
                        f"in the shards; {REBUILD}"
                    )
        return (
            True,
            f"{len(sampled):,} sampled passages have text, metadata and vector of the shards",
        )

    def _search(self) -> Finding:
        sampled = self.truth.sample.passages
        missed: list[str] = []
        for start in range(0, len(sampled), _PER_CALL):
            part = sampled[start : start + _PER_CALL]
            found = _ask(
                lambda vectors: self.collection.query(
                    query_embeddings=vectors,
                    n_results=_RESULTS,
                    include=["documents", "distances"],
                ),
                self.truth.sample.vectors[start : start + _PER_CALL],
            )
            columns: Any = (found["ids"], found["documents"], found["distances"])
            for passage, ids, texts, distances in zip(part, *columns, strict=True):
                near = [i for i, distance in enumerate(distances) if distance < _FOUND_DISTANCE]
                itself = any(ids[i] == passage.id or texts[i] == passage.text for i in near)
                # More passages than were asked for may have one and the same vector.
                if not itself and len(near) < _RESULTS:
                    missed.append(passage.id)
        if len(missed) > _MOST_MISSED * len(sampled):
            return False, (
                f"{len(missed)} of {len(sampled)} sampled passages are not found by their own "
                f"vector ({', '.join(map(shorten, missed[:3]))}); {REBUILD}"
            )
        told = f"{len(sampled) - len(missed)} of {len(sampled)} sampled passages find themselves"
        if len(missed) > _WORTH_A_WORD * len(sampled):
            told += (
                "; to the others Chroma's approximate index does not lead, as happens where many "
                "texts are nearly alike: a larger max_neighbors helps (see docs/ingestion.md)"
            )
        return True, told

    def embedded_anew(
        self, model: str | None, device: str | None, cache_folder: str | None
    ) -> Finding:
        """Embed a few passages with the model of the shards, if it is at hand."""
        given = {"model": model, "device": device, "cache_folder": cache_folder}
        machine = {option: value for option, value in given.items() if value is not None}
        ours = self.truth.folder.fingerprint
        sampled = self.truth.sample
        # What was made of a prefix that a text brought along, the fingerprint does not say.
        prefixed = prefixed_positions(
            [passage.text for passage in sampled.passages], (ours.query_prompt, ours.passage_prompt)
        )
        chosen = [i for i in range(len(sampled.passages)) if i not in prefixed][:_EMBEDDED_ANEW]
        if not chosen:
            return None, "there is no passage to embed"
        passages, stored = [sampled.passages[i] for i in chosen], sampled.vectors[chosen]
        try:
            with warnings.catch_warnings():
                # What there was to say of these texts was said when they were ingested.
                warnings.simplefilter("ignore", KoE5Warning)
                encoder = KoE5Encoder(**{**self._options(), **machine, "local_files_only": True})
                differences = encoder.fingerprint.differences(asdict(ours))
                if differences:
                    there = "; ".join(differences)
                    return None, f"the model at hand is not that of the shards: {there}"
                anew = encoder.encode_passages([passage.text for passage in passages])
        except (ConfigError, EmbeddingServerError, MissingExtraError, ModelLoadError) as error:
            return None, f"the model is not at hand: {error}"
        lengths = np.linalg.norm(anew, axis=1) * np.linalg.norm(stored, axis=1)
        cosines = (anew * stored).sum(axis=1) / lengths
        worst = int(cosines.argmin())
        if cosines[worst] > _SAME_COSINE:
            return True, f"{len(passages)} passages embedded anew have the vectors that are stored"
        return False, (
            f"passage {shorten(passages[worst].id)} embedded anew has a cosine of "
            f"{cosines[worst]:.3f} with its vector in the shards, as if another text or model had "
            "made that; ingest the documents into a new collection with new shards"
        )

    def _options(self) -> Mapping[str, Any]:
        """Return what makes the encoder again; a server is not asked for it."""
        if not self.place.startswith(("http://", "https://")):
            return recorded_options(self.collection, trusted=True)
        ours = self.truth.folder.fingerprint
        return {
            "model": ours.model,
            "precision": ours.precision.partition("-")[0],
            "max_seq_length": ours.max_seq_length,
            "truncate_dim": ours.truncate_dim,
            "normalize_unicode": ours.unicode == "NFC",
        }


def _ask(call: Callable[..., T], *arguments: Any) -> T:
    """Call Chroma, whose errors may be of any kind.

    Raises:
        StoreError: in its words.
    """
    try:
        return call(*arguments)
    except Exception as error:
        raise StoreError(str(error) or type(error).__name__) from error
