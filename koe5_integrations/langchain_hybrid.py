"""Korean hybrid search for LangChain: bigram BM25 and any dense retriever, fused by rank.

Not built on LangChain's own EnsembleRetriever, which lives in the package langchain-classic, tells
documents apart by their text alone unless each carries an id in its metadata, and has no limit on
how many it returns. :class:`KoreanBM25Retriever` can be put into one all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from koe5_integrations.errors import ConfigError, KoE5Error, MissingExtraError, shorten

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever, RetrieverLike
    from langchain_core.vectorstores import VectorStore
except ImportError as error:
    raise MissingExtraError("koe5_integrations.langchain_hybrid", "langchain") from error

from pydantic import ConfigDict, Field, PrivateAttr, ValidationError

from koe5_integrations.fusion import RRF_K, reciprocal_rank_fusion
from koe5_integrations.lexical import BM25Index, Tokenizer

__all__ = ["HybridRetriever", "KoreanBM25Retriever"]


class _Checked(BaseRetriever):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    if not TYPE_CHECKING:  # type checkers see one argument per field

        def __init__(self, **data: Any) -> None:
            """Take the fields by name, and raise our own errors rather than pydantic's."""
            try:
                super().__init__(**data)
            except ValidationError as error:
                detail = error.errors()[0]
                cause = detail.get("ctx", {}).get("error")
                if isinstance(cause, KoE5Error):
                    raise cause from None
                name = ".".join(map(str, detail["loc"]))
                raise ConfigError(f"{name}={shorten(detail['input'])}: {detail['msg']}") from None


class KoreanBM25Retriever(_Checked):
    """BM25 over documents in memory, by character bigrams within words.

    Args:
        documents: what is searched; their texts are indexed when the retriever is made.
        k: documents returned; fewer where fewer share a piece with the question.
        tokenizer: a name of :data:`~koe5_integrations.lexical.TOKENIZERS`, or a function from a
            text to its pieces.
    """

    documents: Sequence[Document] = Field(repr=False)
    k: int = 4
    tokenizer: str | Tokenizer = "bigram"

    _index: BM25Index = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Index the documents.

        Raises:
            ConfigError: there is no such tokenizer, or ``k`` is below 1.
            MissingExtraError: bm25s, or kiwipiepy for ``kiwi``, is not installed.
        """
        _check_k(self.k)
        texts = (document.page_content for document in self.documents)
        self._index = BM25Index(texts, self.tokenizer)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [self.documents[position] for position, _ in self._index.search(query, self.k)]


class HybridRetriever(_Checked):
    """Several retrievers as one, by reciprocal rank fusion; a document is returned once.

    Documents are the same if their ids are. One without an id is the same as one of the same text:
    a vector store that was filled without ids returns its own. Scores play no part, so that
    retrievers of any kind mix.

    Args:
        retrievers: two or more; each should return more documents than ``k``.
        k: documents returned.
        weights: of each retriever, 0 or more; equal if None.
        rrf_k: the higher, the less the first ranks stand out.
    """

    retrievers: list[RetrieverLike]
    k: int = 4
    weights: list[float] | None = None
    rrf_k: float = RRF_K

    def model_post_init(self, context: Any) -> None:
        """Check the arguments before a question is asked.

        Raises:
            ConfigError: fewer than two retrievers, not a weight for each, or a number out of range.
        """
        _check_k(self.k)
        if len(self.retrievers) < 2:
            raise ConfigError(f"a hybrid needs two retrievers or more, not {len(self.retrievers)}")
        reciprocal_rank_fusion([[] for _ in self.retrievers], k=self.rrf_k, weights=self.weights)

    @classmethod
    def from_documents(
        cls,
        documents: Sequence[Document],
        dense: VectorStore | RetrieverLike,
        *,
        k: int = 4,
        fetch_k: int = 50,
        tokenizer: str | Tokenizer = "bigram",
        weights: Sequence[float] | None = None,
    ) -> HybridRetriever:
        """Fuse Korean BM25 over documents with the vector store that holds the same documents.

        Args:
            documents: what was put into the vector store.
            dense: the vector store, or a retriever, which is asked as it is.
            k: documents returned.
            fetch_k: documents taken of BM25 and of the vector store, to be fused.
            tokenizer: of BM25.
            weights: of BM25 and of ``dense``; equal if None.

        Raises:
            ConfigError: an argument has an impossible value.
            MissingExtraError: bm25s, or kiwipiepy for ``kiwi``, is not installed.
        """
        if fetch_k < k:
            raise ConfigError(f"fetch_k={fetch_k!r} must be at least k={k!r}")
        if isinstance(dense, VectorStore):
            dense = dense.as_retriever(search_kwargs={"k": fetch_k})
        lexical = KoreanBM25Retriever(documents=documents, k=fetch_k, tokenizer=tokenizer)
        return cls(
            retrievers=[lexical, dense], k=k, weights=None if weights is None else list(weights)
        )

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        config: Any = {"callbacks": run_manager.get_child()}
        return self._fuse([retriever.invoke(query, config) for retriever in self.retrievers])

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        config: Any = {"callbacks": run_manager.get_child()}
        answers = (retriever.ainvoke(query, config) for retriever in self.retrievers)
        return self._fuse(await asyncio.gather(*answers))

    def _fuse(self, answers: Sequence[Sequence[Document]]) -> list[Document]:
        documents: dict[str, Document] = {}
        by_text: dict[str, str] = {}  # of any document
        nameless: dict[str, str] = {}  # of documents without an id
        rankings: list[list[str]] = []
        for answer in answers:
            ranking = []
            for document in answer:
                text = document.page_content
                if document.id is None:
                    key = nameless.setdefault(text, by_text.get(text, f"text:{text}"))
                elif document.id in documents:
                    key = document.id
                else:
                    key = nameless.get(text, document.id)
                documents.setdefault(key, document)
                by_text.setdefault(text, key)
                ranking.append(key)
            rankings.append(ranking)
        fused = reciprocal_rank_fusion(rankings, k=self.rrf_k, weights=self.weights)
        return [documents[key] for key, _ in fused[: self.k]]


def _check_k(k: int) -> None:
    if k < 1:
        raise ConfigError(f"k={k!r} must be at least 1")
