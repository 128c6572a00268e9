"""KoE5 as LangChain embeddings: questions and documents each get their prefix."""

from __future__ import annotations

import asyncio
from typing import Any

from koe5_integrations.errors import MissingExtraError

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise MissingExtraError("koe5_integrations.langchain", "langchain") from error

from pydantic import AliasChoices, ConfigDict, Field, model_validator

from koe5_integrations.errors import ConfigError
from koe5_integrations.fields import EncoderFields
from koe5_integrations.profiles import DEFAULT_MODEL

__all__ = ["KoE5Embeddings"]

_ELSEWHERE = {
    "model_kwargs": "pass device=, revision= or precision= directly",
    "encode_kwargs": (
        "pass batch_size= directly; prompts and normalisation follow the model's profile"
    ),
    "query_encode_kwargs": (
        "questions get the model's query prompt by themselves; query_prompt= replaces it"
    ),
    "multi_process": "loaded models are shared and batched by one worker",
}


class KoE5Embeddings(EncoderFields, Embeddings):
    """LangChain embeddings with KoE5, or any model of ``koe5 models``.

    Constructing loads nothing; the model is loaded on first use and shared with every other adapter
    in the process. Takes the options of :class:`~koe5_integrations.encoder.KoE5Encoder` by keyword.

    Args:
        model: hub name, ``koe5-mini`` or a local folder; also accepted as ``model_name``.
        show_progress: draw a progress bar while embedding documents.

    Example:
        >>> embeddings = KoE5Embeddings(model="koe5-mini")
        >>> len(embeddings.embed_query("파이썬 문자열은 왜 불변인가요?")) == embeddings.encoder.dim
        True
    """

    model_config = ConfigDict(frozen=True)

    model: str = Field(default=DEFAULT_MODEL, validation_alias=AliasChoices("model", "model_name"))
    show_progress: bool = False

    @model_validator(mode="before")
    @classmethod
    def _point_to_options(cls, values: Any) -> Any:
        """Tell users of LangChain's HuggingFaceEmbeddings where its arguments went."""
        if isinstance(values, dict):
            for name, instead in _ELSEWHERE.items():
                if name in values:
                    raise ConfigError(f"{name}= is not taken: {instead}")
        return values

    def model_post_init(self, context: Any) -> None:
        """Check the options; nothing is loaded."""
        self._encoder = self._build_encoder(self.model)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts to be found; one list of ``dim`` floats each, in order.

        Raises:
            InputError: a text can't be embedded; raised before anything is.
            ModelLoadError: the model can't be had.
        """
        vectors = self._encoder.encode_passages(texts, show_progress=self.show_progress)
        floats: list[list[float]] = vectors.tolist()
        return floats

    def embed_query(self, text: str) -> list[float]:
        """Embed a question as ``dim`` floats. Raises as :meth:`embed_documents`."""
        vector: list[float] = self._encoder.encode_queries([text])[0].tolist()
        return vector

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts to be found without blocking the event loop."""
        vectors = await self._encoder.aencode_passages(texts, show_progress=self.show_progress)
        # A list of Python floats is slow enough to build (50 ms per 1,000 vectors) to keep off the
        # loop.
        return await asyncio.to_thread(vectors.tolist)

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a question without blocking the event loop."""
        vectors = await self._encoder.aencode_queries([text])
        vector: list[float] = vectors[0].tolist()
        return vector
