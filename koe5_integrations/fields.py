"""The encoder's options as pydantic fields, for the adapters of frameworks built on pydantic."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, KoE5Error, shorten
from koe5_integrations.options import (
    BackendName,
    EncoderOptions,
    OnPrefixed,
    OnTruncation,
    Precision,
)

__all__ = ["EncoderFields"]


class EncoderFields(BaseModel):
    """One field per option of :class:`~koe5_integrations.encoder.KoE5Encoder`, explained there."""

    # Strict, because truncate_dim=True would otherwise be taken for 1.
    model_config = ConfigDict(
        extra="forbid", populate_by_name=True, protected_namespaces=(), strict=True
    )

    revision: str | None = None
    profile: str | None = None
    query_prompt: str | None = None
    passage_prompt: str | None = None
    backend: BackendName = "auto"
    base_url: str | None = None
    api_key_env: str | None = None
    device: str | None = None
    precision: Precision | None = None
    compile: bool = False
    max_seq_length: int | None = Field(
        default=None, validation_alias=AliasChoices("max_seq_length", "max_length")
    )
    truncate_dim: int | None = None
    batch_size: int | None = None
    batch_tokens: int | None = None
    on_prefixed: OnPrefixed = "warn"
    on_truncation: OnTruncation = "warn"
    normalize_unicode: bool = True
    embedding_cache: str | None = None
    embedding_cache_size: int | None = None
    cache_folder: str | None = None
    local_files_only: bool = False

    _encoder: KoE5Encoder = PrivateAttr()

    if not TYPE_CHECKING:  # type checkers see one argument per field

        def __init__(self, **data: Any) -> None:
            """Take the fields by name; paths may be ``Path`` objects."""
            data = {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in data.items()}
            try:
                super().__init__(**data)
            except ValidationError as error:
                # Our own errors can be caught by type; pydantic's wrapping of them can't.
                for detail in error.errors():
                    cause = detail.get("ctx", {}).get("error")
                    if isinstance(cause, KoE5Error):
                        raise cause from None
                raise ConfigError(self._explain(error.errors()[0])) from None

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Show what was set, not the twenty defaults."""
        return ((name, getattr(self, name)) for name in sorted(self.model_fields_set))

    @classmethod
    def _explain(cls, detail: Mapping[str, Any]) -> str:
        name = ".".join(map(str, detail["loc"]))
        if name == "api_key_env":
            return "api_key_env= must be the name of an environment variable, not the key itself"
        if detail["type"] != "extra_forbidden":
            return f"{name}={shorten(detail['input'])}: {detail['msg']}"
        for field, info in cls.model_fields.items():
            alias = info.validation_alias
            if name == field or (isinstance(alias, AliasChoices) and name in alias.choices):
                return f"{name}= is another name of an option that is also given: give one"
        listed = ", ".join(sorted(cls.model_fields))
        return f"{name}= is no option of {cls.__name__}; there are {listed}"

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some fields changed, which its vectors then follow."""
        copied = super().model_copy(update=update, deep=deep)
        copied.model_post_init(None)
        return copied

    def _build_encoder(self, model: str, **changed: Any) -> KoE5Encoder:
        options: Any = {name: getattr(self, name) for name in EncoderOptions.__annotations__}
        return KoE5Encoder(model, **(options | changed))

    @property
    def encoder(self) -> KoE5Encoder:
        """The encoder behind this adapter: fingerprint, profile, token counts, truncation."""
        return self._encoder
