"""KoE5 as Haystack components: one embeds questions, one documents, each with its prefix."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Unpack

from koe5_integrations.errors import MissingExtraError

try:
    from haystack import Document, component, default_from_dict, default_to_dict
except ImportError as error:
    raise MissingExtraError("koe5_integrations.haystack", "haystack") from error

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import TextTypeError
from koe5_integrations.options import EncoderOptions
from koe5_integrations.profiles import DEFAULT_MODEL

__all__ = ["KoE5DocumentEmbedder", "KoE5TextEmbedder"]


@component
class KoE5TextEmbedder:
    """Embeds a question, for a retriever.

    Constructing loads nothing; ``warm_up`` or the first run does. The loaded model is shared with
    every other adapter in the process.

    Args:
        model: hub name, ``koe5-mini`` or a local folder.
        **options: options of :class:`~koe5_integrations.encoder.KoE5Encoder`.
    """

    def __init__(self, model: str = DEFAULT_MODEL, **options: Unpack[EncoderOptions]) -> None:
        self.encoder = KoE5Encoder(model, **options)

    def warm_up(self) -> None:
        """Load the model."""
        self.encoder.load()

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """Embed a question.

        Args:
            text: the bare question.

        Returns:
            ``embedding``: ``dim`` floats.

        Raises:
            InputError: the text can't be embedded.
            ModelLoadError: the model can't be had.
        """
        return {"embedding": self.encoder.encode_queries([text])[0].tolist()}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, list[float]]:
        """Embed a question without blocking the event loop; as :meth:`run`."""
        return {"embedding": (await self.encoder.aencode_queries([text]))[0].tolist()}

    def to_dict(self) -> dict[str, Any]:
        """Serialise the settings."""
        return default_to_dict(self, **self.encoder.config())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> KoE5TextEmbedder:
        """Rebuild from :meth:`to_dict`."""
        rebuilt: KoE5TextEmbedder = default_from_dict(cls, data)
        return rebuilt


@component
class KoE5DocumentEmbedder:
    """Embeds documents, for a document store.

    Args:
        model: hub name, ``koe5-mini`` or a local folder.
        meta_fields_to_embed: metadata put in front of each document's text; they count towards the
            tokens that the model reads.
        embedding_separator: between those and the text.
        progress_bar: draw a progress bar.
        **options: options of :class:`~koe5_integrations.encoder.KoE5Encoder`.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        progress_bar: bool = False,
        **options: Unpack[EncoderOptions],
    ) -> None:
        self.encoder = KoE5Encoder(model, **options)
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.embedding_separator = embedding_separator
        self.progress_bar = progress_bar

    def warm_up(self) -> None:
        """Load the model."""
        self.encoder.load()

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Embed documents.

        Args:
            documents: are left as they are.

        Returns:
            ``documents``: copies with ``embedding``, ``dim`` floats each, in order.

        Raises:
            InputError: a document has no text or one that can't be embedded; raised before any is.
            ModelLoadError: the model can't be had.
        """
        vectors = self.encoder.encode_passages(
            self._texts(documents), show_progress=self.progress_bar
        )
        return {"documents": _embedded(documents, vectors.tolist())}

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, list[Document]]:
        """Embed documents without blocking the event loop; as :meth:`run`."""
        vectors = await self.encoder.aencode_passages(
            self._texts(documents), show_progress=self.progress_bar
        )
        return {"documents": _embedded(documents, await asyncio.to_thread(vectors.tolist))}

    def to_dict(self) -> dict[str, Any]:
        """Serialise the settings."""
        return default_to_dict(
            self,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
            progress_bar=self.progress_bar,
            **self.encoder.config(),
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> KoE5DocumentEmbedder:
        """Rebuild from :meth:`to_dict`."""
        rebuilt: KoE5DocumentEmbedder = default_from_dict(cls, data)
        return rebuilt

    def _texts(self, documents: list[Document]) -> list[str]:
        texts = []
        for position, document in enumerate(documents):
            if not isinstance(document, Document) or document.content is None:
                raise TextTypeError(
                    "must be a Haystack Document with text", position=position, value=document
                )
            meta = (document.meta.get(name) for name in self.meta_fields_to_embed)
            fields = [str(value) for value in meta if value is not None]
            texts.append(self.embedding_separator.join([*fields, document.content]))
        return texts


def _embedded(documents: list[Document], embeddings: list[list[float]]) -> list[Document]:
    return [
        replace(document, embedding=embedding)
        for document, embedding in zip(documents, embeddings, strict=True)
    ]
