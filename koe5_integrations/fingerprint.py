"""What makes two encoders' vectors comparable, written down and hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

__all__ = ["Fingerprint"]

# Says where the weights came from; the weights themselves are hashed.
_NOT_HASHED = frozenset({"model"})


@dataclass(frozen=True)
class Fingerprint:
    """Everything that changes a vector. Equal digests mean vectors that may be compared.

    Attributes:
        model: name or folder, for people; the same weights elsewhere have the same digest.
        weights: hash of the tokenizer and of samples of every weight tensor, which covers the
            revision; of a model on a server whose weights are not here, of the tokenizer and the
            revision.
        query_prompt: put in front of a question.
        passage_prompt: put in front of a text to be found.
        pooling: how token vectors become one.
        normalize: vectors have unit length.
        max_seq_length: tokens read of each text.
        truncate_dim: dimensions kept.
        precision: number format the model runs in, here or on a server; for int8 with the engine,
            as ``int8-onnx``, because each rounds in a way of its own.
        unicode: normalisation form of the text, ``NFC`` or ``none``.
    """

    model: str
    weights: str
    query_prompt: str
    passage_prompt: str
    pooling: str
    normalize: bool
    max_seq_length: int | None
    truncate_dim: int | None
    precision: str
    unicode: str

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits."""
        hashed = {name: value for name, value in asdict(self).items() if name not in _NOT_HASHED}
        return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:32]

    def to_json(self) -> str:
        """Write the fields as JSON, for storing beside vectors."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def differences(self, stored: Mapping[str, object]) -> list[str]:
        """Name each field in which another encoder's fields differ, with both sides."""
        return [
            f"{name}: {stored.get(name, '(not recorded)')!r} there, {value!r} here"
            for name, value in asdict(self).items()
            if name not in _NOT_HASHED and stored.get(name) != value
        ]

    def __str__(self) -> str:
        """Return the digest."""
        return self.digest
