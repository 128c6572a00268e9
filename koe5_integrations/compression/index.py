"""Search over compressed vectors: a first pass over all codes, then a closer look at the best."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from koe5_integrations.compression.calibration import Codes, Compression
from koe5_integrations.compression.ranges import as_vectors
from koe5_integrations.errors import ConfigError, MissingExtraError, shorten
from koe5_integrations.types import Vectors

__all__ = ["CompressedIndex", "Engine"]

Engine: TypeAlias = Literal["numpy", "usearch", "faiss"]
"""What searches the codes."""

_READS = {
    "numpy": ("int8", "uint8", "binary", "ubinary"),
    "usearch": ("int8", "binary", "ubinary"),
    # Of uint8 vectors faiss keeps floats, so that nothing would be saved.
    "faiss": ("ubinary",),
}
_RESCORES_RIGHTLY = (6, 2)
_BLOCK_SCORES = 1 << 24
_BLOCK_CODES = 4_096
# A matrix product rounds a row by where it stands in its block; so many more are compared again.
_SPARE = 32
_ONES = np.array([number.bit_count() for number in range(256)], dtype=np.uint8)
# numpy 2's own is three times as fast.
_count_ones: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]] = getattr(
    np, "bitwise_count", _ONES.__getitem__
)


class Rows(Protocol):
    """Vectors by row: an array, ``np.memmap`` of a file, or a :class:`CompressedIndex` of int8."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, rows: Any, /) -> Any:
        """Return the vectors at these rows (int64), float, shape (len(rows), dim)."""


class CompressedIndex:
    """Finds the passages nearest to a question among their codes.

    Args:
        compression: what made the codes.
        codes: of the passages, shape (n, compression.bytes_per_vector).
        originals: the passages' float vectors, shape (n, dim), or an int8 index of the same
            passages, to compare the candidates with; ``np.memmap`` leaves them on disk. None
            compares with the codes themselves.
        engine: ``numpy`` compares every code; ``usearch`` (int8, binary, ubinary) and ``faiss``
            (ubinary) search through sentence-transformers 6.2 and are to be installed by you.
        exact: let ``usearch`` and ``faiss`` compare every code too, rather than walk a graph.

    Raises:
        ConfigError: codes, originals, engine and precision don't fit together.
        MissingExtraError: an engine without sentence-transformers.
    """

    def __init__(
        self,
        compression: Compression,
        codes: Codes,
        *,
        originals: Rows | None = None,
        engine: Engine = "numpy",
        exact: bool = True,
    ) -> None:
        compression.check_codes(codes)
        if engine not in get_args(Engine) or compression.precision not in _READS[engine]:
            listed = "; ".join(f"{name}: {', '.join(reads)}" for name, reads in _READS.items())
            raise ConfigError(
                f"engine={shorten(engine)} with precision {compression.precision!r} is none of "
                f"those there are ({listed})"
            )
        if originals is not None and len(originals) != len(codes):
            raise ConfigError(
                f"{len(originals)} originals for {len(codes)} codes: give those of the same "
                "passages, in the same order"
            )
        if isinstance(originals, CompressedIndex) and originals.compression.is_binary:
            raise ConfigError("originals= of bits say no more than the codes: give int8 or floats")
        if engine != "numpy":
            if compression.per_dimension:
                raise ConfigError(
                    f"engine={engine!r} compares codes with each other, which those of "
                    "per_dimension=True can't bear: calibrate without it, or take engine='numpy'"
                )
            _check_engine(engine)
        self.compression: Compression = compression
        self.codes: Codes = codes
        self._originals = originals
        self._engine = engine
        self._exact = exact
        self._built: Any = None

    @property
    def nbytes(self) -> int:
        """Bytes of the codes, and of an int8 index in ``originals``; float originals not."""
        behind = self._originals
        return self.codes.nbytes + (behind.nbytes if isinstance(behind, CompressedIndex) else 0)

    def __len__(self) -> int:
        """How many passages there are."""
        return len(self.codes)

    def __getitem__(self, rows: Any) -> Vectors:
        """Return what the codes at these rows stand for, float32, shape (len(rows), dim)."""
        return self.compression.decompress(self.codes[rows])

    def search(
        self, queries: Vectors, top_k: int, *, rescore_multiplier: int = 4
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Find the nearest passages of each question.

        The first pass compares codes: bits by how many differ (Hamming), int8 by inner product.
        The best ``top_k * rescore_multiplier`` are then compared with the float question: as
        ``originals``, or as what their codes stand for. Equal scores keep the passages' order.

        Args:
            queries: float vectors of the questions, shape (q, dim), not compressed.
            top_k: passages per question, at least 1.
            rescore_multiplier: candidates per passage asked for; 0 keeps the first pass's order.

        Returns:
            Rows, int64, and scores, float32, greatest first, both of shape
            (q, min(top_k, n)). The score is the inner product with ``originals`` or, up to rounding
            to steps, with int8 codes; of bits alone it only ranks the answers of one question.
            Where a graph found fewer, the row is -1 and the score -inf.

        Raises:
            ConfigError: no such vectors, or a number out of range.
        """
        if top_k < 1 or rescore_multiplier < 0:
            raise ConfigError(
                f"top_k={top_k!r} must be at least 1 and rescore_multiplier="
                f"{rescore_multiplier!r} 0 or more"
            )
        asked = as_vectors(queries, dim=self.compression.dim)
        width = min(top_k, len(self))
        if not width or not len(asked):
            return np.empty((len(asked), width), np.int64), np.empty(
                (len(asked), width), np.float32
            )
        depth = min(top_k * max(rescore_multiplier, 1), len(self))
        if self._engine == "numpy":
            rows, scores = self._compare_all(asked, depth, rescore_multiplier)
        elif self._originals is None and rescore_multiplier:
            return self._ask_engine(asked, width, rescore_multiplier)
        else:
            rows, scores = self._ask_engine(asked, depth, 0)
        if rescore_multiplier:
            rows, scores = self._rescore(asked, rows)
        return rows[:, :width], scores[:, :width]

    def _compare_all(
        self, queries: Vectors, depth: int, rescore_multiplier: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        if rescore_multiplier and not self.compression.is_binary:
            depth = min(depth + _SPARE, len(self))
        rows = np.empty((len(queries), depth), dtype=np.int64)
        scores = np.empty((len(queries), depth), dtype=np.float32)
        size = max(1, _BLOCK_SCORES // len(self))
        for start in range(0, len(queries), size):
            block = slice(start, start + size)
            near = self._nearness(queries[block])
            order = np.argsort(-near, axis=1, kind="stable")[:, :depth]
            rows[block], scores[block] = order, np.take_along_axis(near, order, axis=1)
        return rows, scores

    def _nearness(self, queries: Vectors) -> npt.NDArray[np.float32]:
        """Compare queries with every code; the greater the nearer, shape (len(queries), n)."""
        near = np.empty((len(queries), len(self)), dtype=np.float32)
        if self.compression.is_binary:
            bits = self.compression.unsigned(self.codes)
            asked = self.compression.unsigned(self.compression(queries))
            for query, row in zip(asked, near, strict=True):
                differing = _count_ones(bits ^ query).sum(axis=1, dtype=np.uint16)
                row[:] = self.compression.dim - differing.astype(np.float32)
            return near
        for start in range(0, len(self), _BLOCK_CODES):
            block = slice(start, start + _BLOCK_CODES)
            near[:, block] = queries @ self.compression.decompress(self.codes[block]).T
        return near

    def _rescore(
        self, queries: Vectors, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        source: Rows = self if self._originals is None else self._originals
        # Bits are those of the difference to the threshold.
        from_bits = self._originals is None and self.compression.is_binary
        asked = queries - self.compression.lows if from_bits else queries
        ranked, scores = np.empty_like(rows), np.empty(rows.shape, dtype=np.float32)
        for place, (query, candidates) in enumerate(zip(asked, np.sort(rows, axis=1), strict=True)):
            exact = np.einsum("kd,d->k", source[candidates], query, dtype=np.float64)
            exact[candidates < 0] = -np.inf
            best = np.argsort(-exact, kind="stable")
            ranked[place], scores[place] = candidates[best], exact[best]
        return ranked, scores

    def _ask_engine(
        self, queries: Vectors, width: int, rescore_multiplier: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Search, and rescore if there is a multiplier, by sentence-transformers' functions."""
        from sentence_transformers.util import quantization

        compression = self.compression
        ranges = np.vstack([compression.lows, compression.highs])
        given: dict[str, Any] = {"corpus_index": self._built}
        if self._built is None:
            given = {"corpus_embeddings": self.codes}
        search = getattr(quantization, f"semantic_search_{self._engine}")
        answers, _, self._built = search(
            queries - compression.lows if compression.is_binary else queries,
            corpus_precision=compression.precision,
            top_k=width,
            ranges=None if compression.is_binary else ranges,
            rescore=bool(rescore_multiplier),
            rescore_multiplier=rescore_multiplier,
            exact=self._exact,
            output_index=True,
            **given,
        )
        # Without rescoring these are distances, the least first.
        sign = 1 if rescore_multiplier else -1
        rows = np.full((len(queries), width), -1, dtype=np.int64)
        scores = np.full((len(queries), width), -np.inf, dtype=np.float32)
        for place, answer in enumerate(answers):
            rows[place, : len(answer)] = [hit["corpus_id"] for hit in answer]
            scores[place, : len(answer)] = [sign * hit["score"] for hit in answer]
        return rows, scores


def _check_engine(engine: str) -> None:
    if find_spec("sentence_transformers") is None:
        raise MissingExtraError(f"engine={engine!r}", "torch")
    installed = version("sentence-transformers")
    if tuple(map(int, installed.split(".")[:2])) < _RESCORES_RIGHTLY:
        raise ConfigError(
            f"engine={engine!r} needs sentence-transformers 6.2, and {installed} is installed: "
            'before it, int8 candidates are rescored wrongly. pip install -U "sentence-transformers'
            '>=6.2", or take engine="numpy"'
        )
    if find_spec(engine) is None:
        package = "faiss-cpu" if engine == "faiss" else engine
        raise ConfigError(
            f"engine={engine!r} is not installed: pip install {package}, or take engine='numpy'"
        )
