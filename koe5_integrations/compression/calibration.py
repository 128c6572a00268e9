"""How float vectors become int8 or binary codes: learnt from a sample, kept with its model."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from koe5_integrations.compression.ranges import (
    as_vectors,
    common_range,
    own_ranges,
    sample_of,
    threshold,
)
from koe5_integrations.errors import (
    ConfigError,
    FingerprintMismatchError,
    MissingExtraError,
    shorten,
)
from koe5_integrations.fingerprint import Fingerprint
from koe5_integrations.types import Vectors

__all__ = ["CodePrecision", "Codes", "Compression"]

CodePrecision: TypeAlias = Literal["int8", "uint8", "binary", "ubinary"]
"""Number format of a code; ``binary`` and ``ubinary`` pack eight dimensions into a byte."""

Codes: TypeAlias = npt.NDArray[np.int8] | npt.NDArray[np.uint8]
"""Compressed vectors, shape (n, width), int8 or uint8."""

_FORMAT = 1
_SIGN = np.uint8(0x80)


@dataclass(frozen=True, eq=False)
class Compression:
    """Compresses the vectors of one model; made by :meth:`calibrate` or :meth:`load`.

    Calling it compresses: ``codes = compress(vectors)``, alike for passages and questions.

    Attributes:
        precision: ``int8`` and ``uint8`` keep a byte for each dimension, ``binary`` and
            ``ubinary`` a bit; within each pair only the sign convention of the bytes differs.
        fingerprint: of the encoder whose vectors these are.
        lows: float32, shape (dim,): the value of the lowest code; for bits, what a value must
            exceed to give 1.
        highs: float32, shape (dim,): the value of the highest code; for bits, equal to ``lows``.

    Raises:
        ConfigError: an unknown precision, or bounds that are not those of one vector.
    """

    precision: CodePrecision
    fingerprint: Fingerprint
    lows: Vectors
    highs: Vectors

    def __post_init__(self) -> None:
        _check_precision(self.precision)
        lows, highs = (np.asarray(bound, np.float32) for bound in (self.lows, self.highs))
        fits = lows.ndim == 1 and lows.shape == highs.shape and lows.size > 0
        # Of bits both are the threshold; otherwise there must be steps. False for NaN.
        if not fits or not np.all(lows <= highs if self.is_binary else highs - lows > 0):
            raise ConfigError(
                f"lows of shape {lows.shape} and highs of shape {highs.shape} must be numbers, of "
                "the same shape (dim,), each low below its high"
            )
        object.__setattr__(self, "lows", lows)
        object.__setattr__(self, "highs", highs)

    @classmethod
    def calibrate(
        cls,
        vectors: Vectors,
        *,
        precision: CodePrecision = "int8",
        fingerprint: Fingerprint,
        per_dimension: bool = False,
    ) -> Compression:
        """Learn what the codes must cover from vectors of passages.

        For ``int8`` and ``uint8`` that is the mean of a dimension and four standard deviations to
        either side, which hardly depends on the size of the sample. For bits the threshold is 0,
        or, where the vectors all point one way (their mean cosine is above 0.5), their mean.

        Args:
            vectors: float, shape (n, dim), at least 2, better 1,000, of the kind to be compressed;
                of more than 10,000 as many are used, evenly from the whole.
            precision: see :class:`Compression`.
            fingerprint: ``encoder.fingerprint`` of the encoder that made them.
            per_dimension: give each dimension of ``int8`` and ``uint8`` its own range, for finer
                steps. Such codes can't be compared with each other, only with float questions.
                Otherwise one range, -r to r, serves all, and the inner product and cosine of
                ``int8`` codes rank as those of the vectors do, in any index.

        Raises:
            ConfigError: an unknown precision, fewer than 2 vectors, or no such vectors.
        """
        _check_precision(precision)
        sample = sample_of(as_vectors(vectors, dim=None))
        if precision in ("binary", "ubinary"):
            bound = threshold(sample)
            return cls(precision, fingerprint, bound, bound)
        bounds = own_ranges(sample) if per_dimension else common_range(sample)
        return cls(precision, fingerprint, *bounds)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return len(self.lows)

    @property
    def is_binary(self) -> bool:
        """Whether a dimension is one bit."""
        return self.precision in ("binary", "ubinary")

    @property
    def per_dimension(self) -> bool:
        """Whether each dimension has steps of its own; never for bits."""
        return not self.is_binary and bool(np.ptp(self.lows) or np.ptp(self.highs))

    @property
    def dtype(self) -> np.dtype[Any]:
        """``int8`` or ``uint8``: of the codes."""
        return np.dtype(np.int8 if self.precision in ("int8", "binary") else np.uint8)

    @property
    def bytes_per_vector(self) -> int:
        """Size of one vector's code, which is also its length; a float32 vector has 4 x dim."""
        return -(-self.dim // 8) if self.is_binary else self.dim

    @property
    def steps(self) -> Vectors:
        """Float32, shape (dim,): the distance of two neighbouring codes; 0 for bits."""
        return (self.highs - self.lows) / np.float32(255)

    def __call__(self, vectors: Vectors) -> Codes:
        """Compress with sentence-transformers' ``quantize_embeddings``.

        Values outside the calibrated range become the lowest or highest code; others the nearest.
        The first dimension is the highest bit of the first byte. ``int8`` is ``uint8`` less 128,
        ``binary`` is ``ubinary`` less 128.

        Args:
            vectors: float, shape (n, dim), of passages or of questions.

        Returns:
            int8 or uint8, shape (n, :attr:`bytes_per_vector`).

        Raises:
            ConfigError: not such vectors, or a value is not finite; the row is named.
            MissingExtraError: sentence-transformers is not installed.
        """
        checked = as_vectors(vectors, dim=self.dim)
        try:
            from sentence_transformers import quantize_embeddings
        except ImportError as error:
            raise MissingExtraError("compressing vectors", "torch") from error
        if not len(checked):
            return np.empty((0, self.bytes_per_vector), self.dtype)
        # What 5.2 would get wrong, so that codes are the same with every release: values out of
        # range wrap around, bits of two vectors share a byte, signed codes round towards zero.
        if self.is_binary:
            spare = -self.dim % 8
            padded = np.pad(checked - self.lows, ((0, 0), (0, spare)))
            codes = quantize_embeddings(padded, "ubinary")
        else:
            inside = np.clip(checked, self.lows, self.highs) + self.steps / 2
            ranges = np.vstack([self.lows, self.highs])
            codes = quantize_embeddings(inside, "uint8", ranges=ranges)
        unsigned = np.asarray(codes, dtype=np.uint8)
        return (unsigned ^ _SIGN).view(np.int8) if self.dtype == np.int8 else unsigned

    def decompress(self, codes: Codes) -> Vectors:
        """Return what the codes stand for.

        Args:
            codes: as :meth:`__call__` returns them.

        Returns:
            float32, shape (n, dim). For ``int8`` and ``uint8`` within half a step of what was
            compressed, if that lay in the calibrated range; for bits 0.0 and 1.0.

        Raises:
            ConfigError: codes of another type or shape.
        """
        self.check_codes(codes)
        unsigned = self.unsigned(codes)
        if self.is_binary:
            return np.unpackbits(unsigned, axis=1, count=self.dim).astype(np.float32)
        return unsigned * self.steps + self.lows

    def unsigned(self, codes: Codes) -> npt.NDArray[np.uint8]:
        """Return the codes as ``uint8`` and ``ubinary`` have them."""
        unsigned = codes.view(np.uint8)
        return unsigned ^ _SIGN if codes.dtype == np.int8 else unsigned

    def check_codes(self, codes: Codes) -> None:
        """Raise ConfigError for what can't be codes of this compression."""
        shape, width = getattr(codes, "shape", None), self.bytes_per_vector
        kind = getattr(codes, "dtype", type(codes).__name__)
        if shape is None or len(shape) != 2 or shape[1] != width or kind != self.dtype:
            raise ConfigError(
                f"codes of type {kind} and shape {shape} are not of {self.precision} and "
                f"{self.dim} dimensions: they need the type {self.dtype} and the shape (n, {width})"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file (about 20 bytes for each dimension and bound).

        Raises:
            OSError: it can't be written.
        """
        content = {
            "format": _FORMAT,
            "precision": self.precision,
            "fingerprint": asdict(self.fingerprint),
            "lows": self.lows.tolist(),
            "highs": self.highs.tolist(),
        }
        Path(path).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, fingerprint: Fingerprint) -> Compression:
        """Read what :meth:`save` wrote.

        Args:
            path: the file.
            fingerprint: ``encoder.fingerprint`` of the encoder in use.

        Raises:
            FingerprintMismatchError: it was calibrated with another model or other settings.
            ConfigError: there is no such file, or it is not one of these.
        """
        try:
            stored = json.loads(Path(path).read_text(encoding="utf-8"))
            if stored["format"] != _FORMAT:
                raise ValueError(f"format {stored['format']!r}, and this version reads {_FORMAT}")
            there = Fingerprint(**stored["fingerprint"])
            bounds = [np.array(stored[name], dtype=np.float32) for name in ("lows", "highs")]
            found = cls(stored["precision"], fingerprint, *bounds)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"compression {os.fspath(path)!r} can't be read ({type(error).__name__}: {error}): "
                "calibrate and save it again"
            ) from error
        if there.digest != fingerprint.digest:
            raise FingerprintMismatchError(
                f"compression {os.fspath(path)!r} was calibrated with {there.model!r} "
                f"({there.digest}), not with {fingerprint.model!r} ({fingerprint.digest}). "
                f"{'; '.join(fingerprint.differences(asdict(there)))}. Calibrate it anew, and "
                "compress the corpus again"
            )
        return found

    def __repr__(self) -> str:
        """Show the numbers that matter, not the bounds."""
        return (
            f"Compression({self.precision}, dim={self.dim}, "
            f"{self.bytes_per_vector} bytes per vector, model={self.fingerprint.model!r})"
        )


def _check_precision(precision: object) -> None:
    if precision not in get_args(CodePrecision):
        known = ", ".join(map(repr, get_args(CodePrecision)))
        raise ConfigError(f"precision={shorten(precision)} must be one of {known}")
