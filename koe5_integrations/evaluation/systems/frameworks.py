"""Asking a retriever of either framework, whichever it is, without importing the other."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

__all__ = ["Asker", "Chunk", "find_asker", "not_a_retriever"]


class Chunk(NamedTuple):
    """Something retrieved.

    Attributes:
        item: LangChain's ``Document`` or LlamaIndex's node.
        own_ids: of its source document, where the framework keeps that, and its own.
        metadata: what was stored beside it.
        score: None if there is none.
    """

    item: Any
    own_ids: Sequence[str | None]
    metadata: Mapping[str, Any]
    score: float | None


class Asker(Protocol):
    """Puts a question to a retriever."""

    framework: str

    def ask(self, query: str) -> list[Chunk]:
        """Return what is retrieved for a question, best first."""

    async def aask(self, query: str) -> list[Chunk]:
        """Return the same without blocking the event loop."""


def find_asker(retriever: object) -> Asker | None:
    """Return how to ask a retriever, or None if it belongs to neither framework."""
    # An object of a class can't be there before the module that defines the class.
    langchain = sys.modules.get("langchain_core.runnables.base")
    if langchain is not None and isinstance(retriever, langchain.Runnable):
        return _LangChain(retriever)
    llama_index = sys.modules.get("llama_index.core.base.base_retriever")
    if llama_index is not None and isinstance(retriever, llama_index.BaseRetriever):
        return _LlamaIndex(retriever, llama_index.BaseRetriever)
    return None


def not_a_retriever(value: object) -> str:
    """Say what a value is instead of a retriever, and how to get one from it."""
    kind = type(value)
    message = (
        f"{kind.__module__}.{kind.__qualname__} is no retriever of LangChain or LlamaIndex, and no "
        "function that makes one from the corpus"
    )
    if hasattr(value, "as_retriever"):
        message += "; call its .as_retriever()"
    return message


class _LangChain:
    framework = "langchain"

    def __init__(self, retriever: Any) -> None:
        self._retriever = retriever

    def ask(self, query: str) -> list[Chunk]:
        return list(self._chunks(self._retriever.invoke(query)))

    async def aask(self, query: str) -> list[Chunk]:
        return list(self._chunks(await self._retriever.ainvoke(query)))

    @staticmethod
    def _chunks(answer: Any) -> Iterator[Chunk]:
        from langchain_core.documents import Document

        for item in _listed(answer):
            if not isinstance(item, Document):
                raise TypeError(f"a retriever must return Documents, not {type(item).__name__}")
            yield Chunk(item, [item.id], item.metadata, None)


class _LlamaIndex:
    framework = "llama_index"

    def __init__(self, retriever: Any, base: Any) -> None:
        self._retriever = retriever
        # The base class's own blocks the event loop.
        self._blocks = type(retriever)._aretrieve is base._aretrieve

    def ask(self, query: str) -> list[Chunk]:
        return list(self._chunks(self._retriever.retrieve(query)))

    async def aask(self, query: str) -> list[Chunk]:
        if self._blocks:
            return await asyncio.to_thread(self.ask, query)
        return list(self._chunks(await self._retriever.aretrieve(query)))

    @staticmethod
    def _chunks(answer: Any) -> Iterator[Chunk]:
        from llama_index.core.schema import NodeWithScore

        for item in _listed(answer):
            if not isinstance(item, NodeWithScore):
                raise TypeError(f"a retriever must return NodeWithScore, not {type(item).__name__}")
            node = item.node
            yield Chunk(node, [node.ref_doc_id, node.node_id], node.metadata, _number(item.score))


def _listed(answer: Any) -> Sequence[Any]:
    if not isinstance(answer, list | tuple):
        raise TypeError(f"a retriever must return a list, not {type(answer).__name__}")
    return answer


def _number(score: Any) -> float | None:
    return None if score is None or math.isnan(score) else float(score)
