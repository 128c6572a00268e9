"""Korean hybrid search for LlamaIndex: bigram BM25 and any dense retriever, fused by rank.

Not built on LlamaIndex's own QueryFusionRetriever, which asks for a language model even when it is
to write no queries (without an OpenAI key it can't be constructed), and sorts each answer by score
before it counts ranks, so that an answer without scores is shuffled to the order of its ties.
:class:`KoreanBM25Retriever` can be put into one all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from koe5_integrations.errors import ConfigError, MissingExtraError

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.indices.base import BaseIndex
    from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
except ImportError as error:
    raise MissingExtraError("koe5_integrations.llama_index_hybrid", "llama-index") from error

from koe5_integrations.fusion import RRF_K, reciprocal_rank_fusion
from koe5_integrations.lexical import BM25Index, Tokenizer

__all__ = ["HybridRetriever", "KoreanBM25Retriever"]


class KoreanBM25Retriever(BaseRetriever):
    """BM25 over nodes in memory, by character bigrams within words.

    Searches what would be embedded: the nodes' texts with the metadata meant for embedding.

    Args:
        nodes: what is searched.
        similarity_top_k: nodes returned; fewer where fewer share a piece with the question.
        tokenizer: a name of :data:`~koe5_integrations.lexical.TOKENIZERS`, or a function from a
            text to its pieces.
        callback_manager: LlamaIndex's.

    Raises:
        ConfigError: an argument has an impossible value.
        MissingExtraError: bm25s, or kiwipiepy for ``kiwi``, is not installed.
    """

    def __init__(
        self,
        nodes: Sequence[BaseNode],
        *,
        similarity_top_k: int = 2,
        tokenizer: str | Tokenizer = "bigram",
        callback_manager: CallbackManager | None = None,
    ) -> None:
        _check_top_k(similarity_top_k)
        self.similarity_top_k = similarity_top_k
        self._nodes = list(nodes)
        texts = (node.get_content(MetadataMode.EMBED) for node in self._nodes)
        self._index = BM25Index(texts, tokenizer)
        super().__init__(callback_manager=callback_manager)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = self._index.search(query_bundle.query_str, self.similarity_top_k)
        return [NodeWithScore(node=self._nodes[position], score=score) for position, score in found]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


class HybridRetriever(BaseRetriever):
    """Several retrievers as one, by reciprocal rank fusion; a node is returned once.

    Nodes are the same if their ids are, so BM25 and the index must hold the same nodes. The order
    of each answer counts, not its scores, so that retrievers of any kind mix.

    Args:
        retrievers: two or more; each should return more nodes than ``similarity_top_k``.
        similarity_top_k: nodes returned; their score is the fused one.
        weights: of each retriever, 0 or more; equal if None.
        rrf_k: the higher, the less the first ranks stand out.
        callback_manager: LlamaIndex's.

    Raises:
        ConfigError: an argument has an impossible value.
    """

    def __init__(
        self,
        retrievers: Sequence[BaseRetriever],
        *,
        similarity_top_k: int = 2,
        weights: Sequence[float] | None = None,
        rrf_k: float = RRF_K,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        _check_top_k(similarity_top_k)
        if len(retrievers) < 2:
            raise ConfigError(f"a hybrid needs two retrievers or more, not {len(retrievers)}")
        reciprocal_rank_fusion([[] for _ in retrievers], k=rrf_k, weights=weights)
        self.similarity_top_k = similarity_top_k
        self._retrievers = list(retrievers)
        self._weights = weights
        self._rrf_k = rrf_k
        super().__init__(callback_manager=callback_manager)

    @classmethod
    def from_nodes(
        cls,
        nodes: Sequence[BaseNode],
        dense: BaseIndex[Any] | BaseRetriever,
        *,
        similarity_top_k: int = 2,
        fetch_k: int = 50,
        tokenizer: str | Tokenizer = "bigram",
        weights: Sequence[float] | None = None,
    ) -> HybridRetriever:
        """Fuse Korean BM25 over nodes with the index that holds the same nodes.

        Args:
            nodes: what was put into the index.
            dense: the index, or a retriever, which is asked as it is.
            similarity_top_k: nodes returned.
            fetch_k: nodes taken of BM25 and of the index, to be fused.
            tokenizer: of BM25.
            weights: of BM25 and of ``dense``; equal if None.

        Raises:
            ConfigError: an argument has an impossible value.
            MissingExtraError: bm25s, or kiwipiepy for ``kiwi``, is not installed.
        """
        if fetch_k < similarity_top_k:
            raise ConfigError(
                f"fetch_k={fetch_k!r} must be at least similarity_top_k={similarity_top_k!r}"
            )
        if isinstance(dense, BaseIndex):
            dense = dense.as_retriever(similarity_top_k=fetch_k)
        lexical = KoreanBM25Retriever(nodes, similarity_top_k=fetch_k, tokenizer=tokenizer)
        return cls([lexical, dense], similarity_top_k=similarity_top_k, weights=weights)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._fuse([retriever.retrieve(query_bundle) for retriever in self._retrievers])

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        answers = (retriever.aretrieve(query_bundle) for retriever in self._retrievers)
        return self._fuse(await asyncio.gather(*answers))

    def _fuse(self, answers: Sequence[Sequence[NodeWithScore]]) -> list[NodeWithScore]:
        nodes = {found.node.node_id: found.node for answer in answers for found in answer}
        rankings = [[found.node.node_id for found in answer] for answer in answers]
        fused = reciprocal_rank_fusion(rankings, k=self._rrf_k, weights=self._weights)
        best = fused[: self.similarity_top_k]
        return [NodeWithScore(node=nodes[node_id], score=score) for node_id, score in best]


def _check_top_k(similarity_top_k: int) -> None:
    if similarity_top_k < 1:
        raise ConfigError(f"similarity_top_k={similarity_top_k!r} must be at least 1")
