"""Compressed vectors under evaluation: searched as they would be used, and held against floats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from koe5_integrations.compression import CodePrecision, CompressedIndex, Compression
from koe5_integrations.errors import ConfigError, MissingExtraError
from koe5_integrations.evaluation.search import exact_search
from koe5_integrations.fingerprint import Fingerprint
from koe5_integrations.types import Vectors

__all__ = ["CompressedVectors", "Form"]

Form: TypeAlias = Literal["int8", "binary", "binary-int8", "binary-float", "hamming"]
"""How vectors are kept and compared.

``int8``: a byte per dimension, compared with the float question. ``binary``: a bit per dimension;
the candidates with the fewest differing bits are compared with the float question again, as bits,
as int8 (``binary-int8``) or as floats kept elsewhere (``binary-float``); ``hamming``: not again.
"""

_RECALL_AT = 10
_MULTIPLIER = 4


class CompressedVectors:
    """What a dense system keeps in place of its vectors.

    Args:
        form: see :data:`Form`.

    Raises:
        ConfigError: there is no such form.
        MissingExtraError: sentence-transformers is not installed.
    """

    def __init__(self, form: Form) -> None:
        if form not in get_args(Form):
            raise ConfigError(f"form={form!r} must be one of {', '.join(get_args(Form))}")
        # Looked for only: importing it takes seconds, and the corpus is embedded before.
        if find_spec("sentence_transformers") is None:
            raise MissingExtraError(f"searching vectors as {form}", "torch")
        self.form = form
        self._vectors: Vectors = np.empty((0, 0), np.float32)
        self._index: CompressedIndex | None = None
        self._answers: dict[str, tuple[Vectors, npt.NDArray[np.int64]]] = {}

    def load(self) -> None:
        """Import what compresses: it takes seconds that should count for no index."""
        import_module("sentence_transformers")

    def index(self, vectors: Vectors, fingerprint: Fingerprint) -> int:
        """Calibrate on passages and compress them; return the bytes kept in memory.

        Args:
            vectors: shape (n, dim).
            fingerprint: of the encoder that made them.
        """
        self._vectors, self._answers, self._index = vectors, {}, None
        if len(vectors) < 2:
            # Nothing to calibrate with, and nothing to lose.
            return vectors.nbytes
        behind: Any = None
        if self.form == "binary-int8":
            behind = _compressed(vectors, "int8", fingerprint)
        elif self.form == "binary-float":
            behind = vectors
        precision: CodePrecision = "int8" if self.form == "int8" else "ubinary"
        self._index = _compressed(vectors, precision, fingerprint, behind)
        return self._index.nbytes

    def search(
        self, ids: Sequence[str], queries: Vectors, top_k: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return rows and scores, shape (len(ids), min(top_k, n)), best first.

        Args:
            ids: of the queries.
            queries: their vectors, shape (len(ids), dim).
            top_k: passages per query.
        """
        if self._index is None:
            return exact_search(queries, self._vectors, top_k)
        multiplier = 0 if self.form == "hamming" else _MULTIPLIER
        # The same candidates for fewer, so that what is first does not depend on it.
        wanted = max(top_k, _RECALL_AT)
        rows, scores = self._index.search(queries, wanted, rescore_multiplier=multiplier)
        if len(ids) > 1:
            # Held against floats later, outside of what is timed.
            self._answers |= dict(zip(ids, zip(queries, rows, strict=True), strict=True))
        return rows[:, :top_k], scores[:, :top_k]

    def facts(self) -> Mapping[str, Any]:
        """Return the form and, once asked, the share of the nearest by floats that it found."""
        facts: dict[str, Any] = {"form": self.form}
        if self.form != "hamming":
            facts["rescore_multiplier"] = _MULTIPLIER
        if self._index is not None:
            facts["bytes_per_vector"] = self._index.nbytes // len(self._index)
        if self._answers:
            queries, rows = zip(*self._answers.values(), strict=True)
            nearest, _ = exact_search(np.stack(queries), self._vectors, _RECALL_AT)
            shares = [
                len(set(found[:_RECALL_AT].tolist()) & set(best)) / len(best)
                for found, best in zip(rows, nearest.tolist(), strict=True)
            ]
            facts[f"recall_against_float@{_RECALL_AT}"] = sum(shares) / len(shares)
        return facts


def _compressed(
    vectors: Vectors, precision: CodePrecision, fingerprint: Fingerprint, originals: Any = None
) -> CompressedIndex:
    compression = Compression.calibrate(vectors, precision=precision, fingerprint=fingerprint)
    return CompressedIndex(compression, compression(vectors), originals=originals)
