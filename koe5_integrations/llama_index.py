"""KoE5 as a LlamaIndex embedding model: questions and nodes each get their prefix."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from koe5_integrations.errors import MissingExtraError

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.storage.kvstore.types import DEFAULT_COLLECTION, BaseKVStore
except ImportError as error:
    raise MissingExtraError("koe5_integrations.llama_index", "llama-index") from error

from pydantic import AliasChoices, Field

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, FingerprintMismatchError, shorten
from koe5_integrations.fields import EncoderFields
from koe5_integrations.options import EncoderOptions
from koe5_integrations.profiles import DEFAULT_MODEL
from koe5_integrations.types import Role

__all__ = ["KoE5Embedding", "RoleKeyedCache"]

_role: ContextVar[Role] = ContextVar("koe5_role", default="passage")


@contextmanager
def _as_query() -> Iterator[None]:
    token = _role.set("query")
    try:
        yield
    finally:
        _role.reset(token)


class RoleKeyedCache(BaseKVStore):
    """A LlamaIndex key-value store whose keys also hold the role and the encoder's fingerprint.

    LlamaIndex looks vectors up by the bare text, so that a question and a passage of the same
    words, or two models, would share one. Wrapped around any store, this keeps them apart.

    Args:
        store: where the vectors are kept.
        encoder: whose vectors.
    """

    def __init__(self, store: BaseKVStore, encoder: KoE5Encoder) -> None:
        self.store = store
        self._encoder = encoder

    def _key(self, text: str) -> str:
        # on_prefixed decides what becomes of a text that already starts with a prefix.
        on_prefixed = self._encoder.config().get("on_prefixed", "warn")
        return f"{self._encoder.fingerprint}:{_role.get()}:{on_prefixed}:{text}"

    def put(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        """Store the vector of a text in the current role."""
        self.store.put(self._key(key), val, collection)

    async def aput(
        self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION
    ) -> None:
        """Store the vector of a text in the current role."""
        await self.store.aput(self._key(key), val, collection)

    def get(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        """Return the vector of a text in the current role, or None."""
        return self.store.get(self._key(key), collection)

    async def aget(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        """Return the vector of a text in the current role, or None."""
        return await self.store.aget(self._key(key), collection)

    def get_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        """Return all that is stored, under the full keys."""
        return self.store.get_all(collection)

    async def aget_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        """Return all that is stored, under the full keys."""
        return await self.store.aget_all(collection)

    def delete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """Forget the vector of a text in the current role."""
        return self.store.delete(self._key(key), collection)

    async def adelete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """Forget the vector of a text in the current role."""
        return await self.store.adelete(self._key(key), collection)


class KoE5Embedding(EncoderFields, BaseEmbedding):
    """LlamaIndex embedding with KoE5, or any model of ``koe5 models``.

    Constructing loads nothing; the model is loaded on first use and shared with every other adapter
    in the process. Takes the options of :class:`~koe5_integrations.encoder.KoE5Encoder` by keyword.

    Args:
        model_name: hub name, ``koe5-mini`` or a local folder; also accepted as ``model``.
        embed_batch_size: texts handed down at once; the encoder cuts them into passes by length, so
            this sets how often progress moves, not memory.
        embeddings_cache: any LlamaIndex key-value store; wrapped in :class:`RoleKeyedCache`.
        show_progress_bar: draw a progress bar while embedding texts.
    """

    model_name: str = Field(
        default=DEFAULT_MODEL, validation_alias=AliasChoices("model_name", "model")
    )
    embed_batch_size: int = Field(default=256, gt=0, le=2048)
    show_progress_bar: bool = False

    def model_post_init(self, context: Any) -> None:
        """Check the options; nothing is loaded."""
        self._use_encoder(self._build_encoder(self.model_name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "embeddings_cache" and value is not None:
            value = self._role_keyed(value)
        elif name == "model_name" or name in EncoderOptions.__annotations__:
            value = os.fspath(value) if isinstance(value, os.PathLike) else value
            # Before the field is set, so that an impossible value leaves all as it was.
            changed = {"model": value} if name == "model_name" else {name: value}
            encoder = self._build_encoder(**{"model": self.model_name, **changed})
            super().__setattr__(name, value)
            self._use_encoder(encoder)
            return
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # LlamaIndex passes every field to the constructor, so that all would count as set.
        object.__setattr__(self, "__pydantic_fields_set__", set(state["__pydantic_fields_set__"]))

    def _use_encoder(self, encoder: KoE5Encoder) -> None:
        self._encoder = encoder
        if self.embeddings_cache is not None:
            self.embeddings_cache = self._role_keyed(self.embeddings_cache)

    def _role_keyed(self, cache: object) -> RoleKeyedCache:
        store = cache.store if isinstance(cache, RoleKeyedCache) else cache
        if not isinstance(store, BaseKVStore):
            raise ConfigError(
                f"embeddings_cache={shorten(store)} must be a LlamaIndex key-value store, "
                "for example SimpleKVStore()"
            )
        return RoleKeyedCache(store, self._encoder)

    @classmethod
    def class_name(cls) -> str:
        """Name under which LlamaIndex serialises this class."""
        return "KoE5Embedding"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Serialise what decides the vectors, so that ingestion caches hit exactly when they may.

        Device, batch sizes, caches and progress bars are left out: they differ between machines
        while the vectors stay the same.
        """
        identity = self._encoder.identity
        return {"model_name": identity.pop("model"), **identity, "class_name": self.class_name()}

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> KoE5Embedding:
        """Rebuild from :meth:`to_dict`; keyword arguments are set besides.

        Raises:
            FingerprintMismatchError: the folder holds other weights than when it was serialised, or
                another engine would compute in int8.
        """
        given = {**data, **kwargs}
        given.pop("class_name", None)
        then = {name: given.pop(name) for name in ("weights", "int8_engine") if name in given}
        rebuilt = cls(**given)
        now = {name: rebuilt._encoder.identity.get(name) for name in then}
        if then != now:
            raise FingerprintMismatchError(
                f"{rebuilt.model_name} holds {now} and was serialised with {then}; vectors made "
                "then can't be compared with new ones"
            )
        return rebuilt

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._encoder.encode_queries([query])[0].tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        vectors = await self._encoder.aencode_queries([query])
        vector: list[float] = vectors[0].tolist()
        return vector

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors = self._encoder.encode_passages(texts, show_progress=self.show_progress_bar)
        floats: list[list[float]] = vectors.tolist()
        return floats

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors = await self._encoder.aencode_passages(texts, show_progress=self.show_progress_bar)
        return await asyncio.to_thread(vectors.tolist)

    def get_query_embedding(self, query: str) -> list[float]:
        """Embed a question; as LlamaIndex does, with the cache looked up under the query role."""
        with _as_query():
            return super().get_query_embedding(query)

    async def aget_query_embedding(self, query: str) -> list[float]:
        """Embed a question without blocking the event loop."""
        with _as_query():
            return await super().aget_query_embedding(query)
