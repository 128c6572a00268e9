"""The fingerprint that shards and their manifest carry, read back and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from koe5_integrations.errors import FingerprintMismatchError, ShardError
from koe5_integrations.fingerprint import Fingerprint

__all__ = ["StoredFingerprint"]


@dataclass(frozen=True, slots=True)
class StoredFingerprint:
    """A fingerprint as it is written, perhaps by another version of this package.

    Attributes:
        digest: of the fingerprint.
        fields: its fields.
        dim: of the vectors.
    """

    digest: str
    fields: Mapping[str, Any]
    dim: int

    def fingerprint(self, where: object) -> Fingerprint:
        """Return it as one of this version.

        Raises:
            ShardError: it is none, or its fields are not those its digest was made of.
        """
        try:
            fingerprint = Fingerprint(**self.fields)
        except TypeError as error:
            raise ShardError(
                f"{where} was written by another version of koe5-integrations ({error}): read it "
                "with that version, or ingest the documents again into another folder"
            ) from error
        if fingerprint.digest != self.digest:
            raise ShardError(
                f"{where} is damaged: its fingerprint is {self.digest}, but its fields make "
                f"{fingerprint.digest}"
            )
        return fingerprint

    def check(self, where: object, fingerprint: Fingerprint, dim: int) -> None:
        """Refuse vectors that can't be compared with those of an encoder.

        Args:
            where: what carries this fingerprint.
            fingerprint: of the encoder.
            dim: of the encoder's vectors.

        Raises:
            FingerprintMismatchError: they were made by another model or other settings.
            ShardError: they have another number of dimensions.
        """
        if self.digest != fingerprint.digest:
            raise FingerprintMismatchError(
                f"{where} was embedded with {self.fields.get('model')!r} ({self.digest}), not with "
                f"{fingerprint.model!r} ({fingerprint.digest}). "
                f"{'; '.join(fingerprint.differences(self.fields))}. Use the settings it was made "
                "with, or ingest the documents into another folder"
            )
        if self.dim != dim:
            raise ShardError(f"{where} has vectors of {self.dim} dimensions, not {dim}")
