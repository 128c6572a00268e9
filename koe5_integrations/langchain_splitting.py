"""Token-true Korean splitting as a LangChain text splitter."""

from __future__ import annotations

import copy
import os
from typing import Any, Unpack

from koe5_integrations.errors import MissingExtraError

try:
    from langchain_core.documents import Document
    from langchain_text_splitters import TextSplitter
except ImportError as error:
    raise MissingExtraError("koe5_integrations.langchain_splitting", "langchain") from error

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError
from koe5_integrations.options import EncoderOptions
from koe5_integrations.profiles import DEFAULT_MODEL
from koe5_integrations.splitting import SentenceRule, TokenSplitter

__all__ = ["KoE5TextSplitter"]


class KoE5TextSplitter(TextSplitter):
    """LangChain text splitter whose chunks the model reads whole; its tokenizer alone is loaded.

    Args:
        model: hub name, ``koe5-mini``, a local folder, or the encoder the chunks are for, as
            ``embeddings.encoder``.
        chunk_tokens: see :class:`~koe5_integrations.splitting.TokenSplitter`, also for those below.
        overlap_tokens: as there.
        sentences: as there.
        markdown: as there.
        repeat_headings: as there.
        add_start_index: note under ``start_index`` where in its document a chunk begins; headings
            repeated in front of it are not counted.
        options: of :class:`~koe5_integrations.encoder.KoE5Encoder`, if ``model`` is not one.

    Raises:
        ConfigError: an argument has an impossible value.
        MissingExtraError: kiwipiepy is asked for and not installed.

    Example:
        >>> splitter = KoE5TextSplitter("koe5-mini", chunk_tokens=32)
        >>> splitter.split_text("파이썬 문자열은 불변입니다.")
        ['파이썬 문자열은 불변입니다.']
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | KoE5Encoder = DEFAULT_MODEL,
        *,
        chunk_tokens: int | None = None,
        overlap_tokens: int = 0,
        sentences: SentenceRule = "auto",
        markdown: bool = True,
        repeat_headings: bool = True,
        add_start_index: bool = False,
        **options: Unpack[EncoderOptions],
    ) -> None:
        own = KoE5TextSplitter.__init__.__kwdefaults__ or {}
        for name in options:
            if name not in EncoderOptions.__annotations__:
                listed = ", ".join(sorted({*own, *EncoderOptions.__annotations__}))
                raise ConfigError(f"{name}= is no option of KoE5TextSplitter; there are {listed}")
        if isinstance(model, KoE5Encoder) and options:
            raise ConfigError(
                f"{', '.join(sorted(options))}: the encoder that is given has its own options"
            )
        encoder = model if isinstance(model, KoE5Encoder) else KoE5Encoder(model, **options)
        self._splitter = TokenSplitter(
            encoder,
            chunk_tokens=chunk_tokens,
            overlap_tokens=overlap_tokens,
            sentences=sentences,
            markdown=markdown,
            repeat_headings=repeat_headings,
        )
        super().__init__(add_start_index=add_start_index)

    @property
    def splitter(self) -> TokenSplitter:
        """What splits: the settings, and chunks with their places and tokens."""
        return self._splitter

    def split_text(self, text: str) -> list[str]:
        """Return the chunks of a text; none of one with nothing visible in it.

        Raises:
            InputError: the text can't be embedded.
            ModelLoadError: the model can't be had.
        """
        return [chunk.text for chunk in self._splitter.split(text)]

    def create_documents(
        self, texts: list[str], metadatas: list[dict[Any, Any]] | None = None
    ) -> list[Document]:
        """Return the chunks of all texts as documents, each with its text's metadata.

        Raises:
            InputError: a text can't be embedded; its position is that in the list.
            ModelLoadError: the model can't be had.
        """
        documents: list[Document] = []
        split = self._splitter.split_many(texts)
        for chunks, metadata in zip(split, metadatas or [{}] * len(texts), strict=True):
            for chunk in chunks:
                place = {"start_index": chunk.start} if self._add_start_index else {}
                kept = copy.deepcopy(metadata) | place
                documents.append(Document(page_content=chunk.text, metadata=kept))
        return documents
