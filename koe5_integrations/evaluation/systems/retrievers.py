"""Anybody's retriever as a system: LangChain's and LlamaIndex's, asked as they are deployed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from koe5_integrations.errors import ConfigError, RetrieverError
from koe5_integrations.evaluation.results import Hit, IndexStats, Run
from koe5_integrations.evaluation.systems.eventloop import BackgroundLoop
from koe5_integrations.evaluation.systems.frameworks import (
    Asker,
    Chunk,
    find_asker,
    not_a_retriever,
)

__all__ = ["DocId", "RetrieverError", "RetrieverSystem"]

DocId: TypeAlias = str | Callable[[Any], object]
"""How a chunk says which document it is of: a metadata key, or a function of the chunk (LangChain's
``Document``, LlamaIndex's node) that returns the document's id."""

# Where chunks of either framework commonly keep the id of their document.
_USUAL_KEYS = ("doc_id", "document_id", "ref_doc_id", "_id", "id", "source")
# A retriever may use threads of its own for each query.
_THREADS = 32


class RetrieverSystem:
    """A LangChain retriever (or any Runnable from question to documents) or a LlamaIndex retriever.

    What it returns is taken in its order, whatever its scores. A chunk counts as its document, and
    a document where it stands first. A query at which it fails gets an empty answer and is named in
    :attr:`warnings`.

    Args:
        retriever: the retriever; or a function that is given the corpus (text by document id) and
            returns one, called when the corpus is indexed.
        spec: its name in reports; None is ``retriever:`` and its class's name.
        doc_id: where a chunk keeps its document's id. None takes the first of these that the corpus
            knows: the chunk's source document (LlamaIndex's ``ref_doc_id``), the chunk's own id,
            and its metadata under ``doc_id``, ``document_id``, ``ref_doc_id``, ``_id``, ``id`` and
            ``source``.
        concurrency: queries asked at the same time; 1 asks one after the other in this thread.
        with_top_k: returns the retriever to ask for so many documents, given the retriever and the
            number. None asks it as it is, for as many as it gives.

    Raises:
        ConfigError: ``retriever`` is neither, or ``concurrency`` is below 1.
    """

    def __init__(
        self,
        retriever: object,
        *,
        spec: str | None = None,
        doc_id: DocId | None = None,
        concurrency: int = 8,
        with_top_k: Callable[[Any, int], Any] | None = None,
    ) -> None:
        if concurrency < 1:
            raise ConfigError(f"concurrency={concurrency!r} must be at least 1")
        self._ready = find_asker(retriever) is not None
        if not self._ready and not callable(retriever):
            raise ConfigError(not_a_retriever(retriever))
        name = getattr(retriever, "__qualname__", None) or type(retriever).__name__
        self.spec = spec or f"retriever:{name}"
        self._given: Any = retriever
        self._retriever: Any = retriever if self._ready else None
        self._doc_id = doc_id
        self._concurrency = concurrency
        self._with_top_k = with_top_k
        self._known: Mapping[str, str] = {}
        self._loop = BackgroundLoop(threads=max(concurrency, _THREADS))
        self._failures: dict[str, Exception] = {}
        self._depth = 0
        self._asked_for = 0

    def index(self, corpus: Mapping[str, str]) -> IndexStats:
        """Let a function make its retriever; a ready retriever is left as it is.

        Raises:
            RetrieverError: the function failed, or returned no retriever.
        """
        started = time.perf_counter()
        self._known = corpus
        if not self._ready:
            try:
                made = self._given(corpus)
            except Exception as error:
                raise RetrieverError(
                    f"{self.spec}: making the retriever failed with {_describe(error)}"
                ) from error
            if find_asker(made) is None:
                raise RetrieverError(f"{self.spec}: {not_a_retriever(made)}")
            self._retriever = made
        return IndexStats(time.perf_counter() - started, None)

    def search(self, queries: Mapping[str, str], top_k: int) -> Run:
        """Return the first ``top_k`` documents the retriever gives for each query.

        Raises:
            ConfigError: nothing is indexed yet, or ``top_k`` is below 1.
            RetrieverError: the retriever failed at each of several queries.
        """
        if self._retriever is None:
            raise ConfigError(f"{self.spec} has nothing to search: call index() first")
        if top_k < 1:
            raise ConfigError(f"top_k={top_k!r} must be at least 1")
        asker = self._asker(top_k)
        if self._concurrency == 1 or len(queries) == 1:
            answers = [self._ask(asker, text) for text in queries.values()]
        else:
            answers = self._loop.run(self._ask_all(asker, list(queries.values())))
        run: dict[str, list[Hit]] = {}
        for query_id, answer in zip(queries, answers, strict=True):
            if isinstance(answer, Exception):
                self._failures[query_id] = answer
                run[query_id] = []
            else:
                self._failures.pop(query_id, None)
                run[query_id] = answer[:top_k]
                self._depth = max(self._depth, len(answer))
        self._asked_for = max(self._asked_for, min(top_k, len(self._known)))
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        if 1 < len(queries) == len(failed):
            raise RetrieverError(
                f"{self.spec} failed at each of {len(failed)} queries, first with "
                f"{_describe(failed[0])}"
            ) from failed[0]
        return run

    def facts(self) -> Mapping[str, Any]:
        """Return the framework and the class; not its settings, which may hold secrets."""
        kind = self._given if not self._ready else type(self._given)
        asker = find_asker(self._retriever)
        doc_id = self._doc_id
        return {
            "kind": "retriever",
            "framework": asker.framework if asker else None,
            "made_by" if not self._ready else "class": _name(kind),
            "doc_id": doc_id if doc_id is None or isinstance(doc_id, str) else _name(doc_id),
            "concurrency": self._concurrency,
        }

    @property
    def fixed_depth(self) -> bool:
        """Whether it retrieves as many documents as it likes, however many are asked for."""
        return self._with_top_k is None

    @property
    def warnings(self) -> Sequence[str]:
        """What went wrong so far, one sentence each."""
        found = []
        if self._failures:
            query_id, error = next(iter(self._failures.items()))
            failed = len(self._failures)
            found.append(
                f"failed at {failed} {'query' if failed == 1 else 'queries'}, counted as answered "
                f"by nothing: query {query_id!r} with {_describe(error)}"
            )
        if 0 < self._depth < self._asked_for:
            found.append(
                f"gave no more than {self._depth} of the {self._asked_for} documents asked for: "
                f"measures beyond @{self._depth} say nothing of its ranking; raise the number "
                "it retrieves"
            )
        return found

    def _asker(self, top_k: int) -> Asker:
        retriever = self._retriever
        if self._with_top_k is not None:
            retriever = self._with_top_k(retriever, top_k)
        asker = find_asker(retriever)
        if asker is None:
            raise ConfigError(f"with_top_k of {self.spec}: {not_a_retriever(retriever)}")
        return asker

    def _ask(self, asker: Asker, query: str) -> list[Hit] | Exception:
        try:
            try:
                chunks = asker.ask(query)
            except NotImplementedError:  # some retrievers are asynchronous only
                chunks = self._loop.run(asker.aask(query))
            return self._hits(chunks)
        except Exception as error:
            return error

    async def _ask_all(self, asker: Asker, queries: Sequence[str]) -> list[list[Hit] | Exception]:
        free = asyncio.Semaphore(self._concurrency)

        async def ask(query: str) -> list[Hit] | Exception:
            async with free:
                try:
                    return self._hits(await asker.aask(query))
                except Exception as error:
                    return error

        return await asyncio.gather(*map(ask, queries))

    def _hits(self, chunks: Sequence[Chunk]) -> list[Hit]:
        best: dict[str, Hit] = {}
        for chunk in chunks:
            doc_id = self._document_of(chunk)
            best.setdefault(doc_id, Hit(doc_id, chunk.score))
        return list(best.values())

    def _document_of(self, chunk: Chunk) -> str:
        """Return the document's id; ``""`` if nothing says which it is."""
        if isinstance(self._doc_id, str):
            candidates = [chunk.metadata.get(self._doc_id)]
        elif self._doc_id is not None:
            candidates = [self._doc_id(chunk.item)]
        else:
            candidates = [*chunk.own_ids, *map(chunk.metadata.get, _USUAL_KEYS)]
        named = [str(candidate) for candidate in candidates if candidate is not None]
        return next((name for name in named if name in self._known), (named or [""])[0])


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _name(value: Any) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
