"""Everything this package raises or warns, under one root.

::

    KoE5Error
    ├── InputError (ValueError)             a text can't be embedded; has .position and .value
    │   ├── TextTypeError (TypeError)       not a str
    │   ├── EmptyTextError                  nothing visible in it
    │   ├── InvalidUnicodeError             a lone surrogate: can't be written as UTF-8
    │   ├── PrefixedTextError               already starts with a prefix (on_prefixed="error")
    │   └── TruncationError                 longer than the model reads (on_truncation="error")
    ├── ConfigError (ValueError)            an option has an impossible value
    │   └── UnknownModelError               no profile, so the prefixes are not known
    ├── ModelLoadError (OSError)            the model's files are missing, incomplete or unsafe
    ├── MissingExtraError (ImportError)     an optional dependency is not installed
    ├── EncodingError (RuntimeError)        the model returned something that is no embedding
    │   └── DeviceMemoryError (MemoryError)  not even one text fits into the device's memory
    ├── ExportError (RuntimeError)          a model could not be exported, or lost too much by it
    ├── EncoderClosedError (RuntimeError)   the model was released while work was waiting
    ├── CollectionError (ValueError)        a vector collection can't be used with this encoder
    │   └── FingerprintMismatchError        its vectors were made by another model or other settings
    ├── EmbeddingServerError (ConnectionError)  a server that embeds fails or answers wrongly
    ├── SourceError (ValueError)            documents can't be read from there at all
    ├── ShardError (ValueError)             a folder of shards is damaged, or not one
    ├── StoreError (RuntimeError)           a vector store refused or failed
    ├── LockedError (RuntimeError)          another process is writing there
    ├── DatasetError (ValueError)           an evaluation's data are missing or malformed
    ├── RetrieverError (RuntimeError)       a retriever under evaluation can't be made or asked
    └── TrainingError (RuntimeError)        a training run can't go on as asked

    KoE5Warning (UserWarning)
    ├── PrefixedTextWarning
    ├── TruncationWarning
    ├── TruncateDimWarning
    └── CacheWarning
"""

from __future__ import annotations

__all__ = [
    "CacheWarning",
    "CollectionError",
    "ConfigError",
    "DatasetError",
    "DeviceMemoryError",
    "EmbeddingServerError",
    "EmptyTextError",
    "EncoderClosedError",
    "EncodingError",
    "ExportError",
    "FingerprintMismatchError",
    "InputError",
    "InvalidUnicodeError",
    "KoE5Error",
    "KoE5Warning",
    "LockedError",
    "MissingExtraError",
    "ModelLoadError",
    "PrefixedTextError",
    "PrefixedTextWarning",
    "RetrieverError",
    "ShardError",
    "SourceError",
    "StoreError",
    "TextTypeError",
    "TrainingError",
    "TruncateDimWarning",
    "TruncationError",
    "TruncationWarning",
    "UnknownModelError",
]

_SHOWN = 80


def shorten(value: object) -> str:
    """Return ``repr(value)``, cut to what fits in an error message."""
    text = repr(value[: _SHOWN * 2] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


class KoE5Error(Exception):
    """Root of every error of this package."""


class InputError(KoE5Error, ValueError):
    """A text can't be embedded.

    Attributes:
        position: index of the text in the list that was passed, or None if the list itself is
            wrong.
        value: the offending value.
    """

    def __init__(self, problem: str, *, position: int | None, value: object) -> None:
        where = "texts" if position is None else f"texts[{position}]"
        super().__init__(f"{where} {problem}: {shorten(value)}")
        self.problem = problem
        self.position = position
        self.value = value

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the named arguments, so that the error crosses process boundaries."""
        return _rebuild_input_error, (type(self), self.problem, self.position, self.value)


def _rebuild_input_error(
    cls: type[InputError], problem: str, position: int | None, value: object
) -> InputError:
    return cls(problem, position=position, value=value)


class TextTypeError(InputError, TypeError):
    """A text is not a ``str``."""


class EmptyTextError(InputError):
    """A text holds nothing visible."""


class InvalidUnicodeError(InputError):
    """A text holds a lone surrogate and can't be written as UTF-8."""


class PrefixedTextError(InputError):
    """A text already starts with a prefix."""


class TruncationError(InputError):
    """A text is longer than the model reads."""


class ConfigError(KoE5Error, ValueError):
    """An option has an impossible value."""


class UnknownModelError(ConfigError):
    """The model has no profile, so its prefixes are not known."""


class ModelLoadError(KoE5Error, OSError):
    """The model's files are missing, incomplete or unsafe to load."""


class MissingExtraError(KoE5Error, ImportError):
    """An optional dependency is not installed.

    Attributes:
        extra: the extra of this package that installs it.
    """

    def __init__(self, needed_for: str, extra: str) -> None:
        super().__init__(
            f'{needed_for} needs an optional dependency: pip install "koe5-integrations[{extra}]"'
        )
        self.needed_for = needed_for
        self.extra = extra

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the constructor's arguments."""
        return type(self), (self.needed_for, self.extra)


class EncodingError(KoE5Error, RuntimeError):
    """The model returned something that is no embedding (NaN, infinity, a zero vector)."""


class DeviceMemoryError(EncodingError, MemoryError):
    """A batch does not fit into the device's memory.

    The scheduler halves the batch and goes on; callers see this only for a single text.
    """


class ExportError(KoE5Error, RuntimeError):
    """A model could not be exported, or its export is less faithful than asked."""


class EncoderClosedError(KoE5Error, RuntimeError):
    """The model was released while work was waiting for it."""


class CollectionError(KoE5Error, ValueError):
    """A vector collection can't be used with this encoder."""


class FingerprintMismatchError(CollectionError):
    """A collection's vectors were made by another model or with other settings."""


class EmbeddingServerError(KoE5Error, ConnectionError):
    """A server that embeds is unreachable, refuses, or answers with what is no embedding."""


class SourceError(KoE5Error, ValueError):
    """Documents can't be read from a source at all; the message names it and the remedy."""


class ShardError(KoE5Error, ValueError):
    """A folder of shards is damaged, of another version, or holds something else."""


class StoreError(KoE5Error, RuntimeError):
    """A vector store refused or failed; the shards hold what it was to be given."""


class LockedError(KoE5Error, RuntimeError):
    """Another process is writing to the same folder."""


class DatasetError(KoE5Error, ValueError):
    """A data set is missing or malformed; the message names file, line and remedy."""


class TrainingError(KoE5Error, RuntimeError):
    """A training run can't go on, or a run folder can't be used as asked."""


class RetrieverError(KoE5Error, RuntimeError):
    """A retriever under evaluation failed at every query, or can't be made."""


class KoE5Warning(UserWarning):
    """Root of every warning of this package."""


class PrefixedTextWarning(KoE5Warning):
    """Texts already start with a prefix; ours is added in front of it."""


class TruncationWarning(KoE5Warning):
    """Texts were cut at the model's maximum length."""


class TruncateDimWarning(KoE5Warning):
    """Vectors are cut to fewer dimensions than the model was trained to be cut to."""


class CacheWarning(KoE5Warning):
    """A file of cached embeddings was damaged and has been set aside."""
