"""Korean hybrid search in LlamaIndex."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tiny_models import KOREAN

from koe5_integrations.errors import ConfigError
from koe5_integrations.fusion import reciprocal_rank_fusion

pytest.importorskip("bm25s")
pytest.importorskip("llama_index.core")

from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import NodeWithScore, TextNode

from koe5_integrations.llama_index import KoE5Embedding
from koe5_integrations.llama_index_hybrid import HybridRetriever, KoreanBM25Retriever

NODES = [TextNode(id_=f"n{i}", text=text) for i, text in enumerate(KOREAN[:5])]
QUESTION = "문자열이 왜 불변"


@pytest.fixture
def index(static_model):
    return VectorStoreIndex(NODES, embed_model=KoE5Embedding(model_name=str(static_model)))


class Fixed(BaseRetriever):
    def __init__(self, *nodes: TextNode) -> None:
        self.nodes = nodes
        super().__init__()

    def _retrieve(self, query_bundle: Any) -> list[NodeWithScore]:
        return [NodeWithScore(node=node) for node in self.nodes]


def ids(found):
    return [each.node.node_id for each in found]


def test_bm25_finds_the_stem():
    """A word is found under another particle with a score, and what shares nothing is left out."""
    retriever = KoreanBM25Retriever(NODES, similarity_top_k=3)
    (found,) = retriever.retrieve("문자열을")
    assert found.node is NODES[0]
    assert found.score > 0
    assert retriever.retrieve("쀍") == []


def test_bm25_reads_the_metadata_meant_for_embedding():
    """Metadata that would be embedded is searched, and what is excluded is not."""
    nodes = [TextNode(text="본문", metadata={"제목": "헌법", "파일": "판례"})]
    nodes[0].excluded_embed_metadata_keys = ["파일"]
    retriever = KoreanBM25Retriever(nodes)
    assert len(retriever.retrieve("헌법")) == 1
    assert retriever.retrieve("판례") == []


async def test_bm25_asynchronously():
    """The asynchronous side gives the same."""
    retriever = KoreanBM25Retriever(NODES)
    assert await retriever.aretrieve("겨울은") == retriever.retrieve("겨울은")


def test_fuses_bm25_and_the_index(index):
    """The answer is the fusion of what both would give, with the fused scores."""
    hybrid = HybridRetriever.from_nodes(NODES, index, similarity_top_k=3, fetch_k=5)
    lexical = KoreanBM25Retriever(NODES, similarity_top_k=5).retrieve(QUESTION)
    dense = index.as_retriever(similarity_top_k=5).retrieve(QUESTION)
    expected = reciprocal_rank_fusion([ids(lexical), ids(dense)])[:3]
    found = hybrid.retrieve(QUESTION)
    assert [(each.node.node_id, each.score) for each in found] == expected


async def test_asynchronously_the_same(index):
    """The asynchronous side gives the same, asking both at once."""
    hybrid = HybridRetriever.from_nodes(NODES, index, similarity_top_k=3)
    assert await hybrid.aretrieve(QUESTION) == hybrid.retrieve(QUESTION)

    together = asyncio.Barrier(2)

    class Waiting(Fixed):
        async def _aretrieve(self, query_bundle: Any) -> list[NodeWithScore]:
            await asyncio.wait_for(together.wait(), 5)
            return self._retrieve(query_bundle)

    pair = HybridRetriever([Waiting(NODES[0]), Waiting(NODES[0])])
    assert ids(await pair.aretrieve(QUESTION)) == ["n0"]


def test_the_order_counts_where_scores_are_missing():
    """Answers without scores keep their order."""
    hybrid = HybridRetriever([Fixed(NODES[3], NODES[1]), Fixed(NODES[3])], similarity_top_k=9)
    assert ids(hybrid.retrieve("?")) == ["n3", "n1"]


def test_weights_decide():
    """A retriever of weight 0 adds nothing above the others' nodes."""
    hybrid = HybridRetriever([Fixed(NODES[0]), Fixed(NODES[1])], weights=[0, 1])
    assert ids(hybrid.retrieve("?")) == ["n1", "n0"]


def test_any_retriever_can_be_the_dense_one(index):
    """A ready retriever is asked as it is."""
    hybrid = HybridRetriever.from_nodes(NODES, index.as_retriever(similarity_top_k=1))
    assert ids(hybrid.retrieve(KOREAN[0]))[0] == "n0"


def test_serves_a_query_engine(index):
    """A query engine answers from what the hybrid finds."""
    engine = RetrieverQueryEngine(
        HybridRetriever.from_nodes(NODES, index),
        get_response_synthesizer(llm=MockLLM()),
    )
    response = engine.query(KOREAN[0])
    assert ids(response.source_nodes)[0] == "n0"
    assert KOREAN[0] in str(response)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: KoreanBM25Retriever(NODES, similarity_top_k=0), "similarity_top_k=0"),
        (lambda: KoreanBM25Retriever(NODES, tokenizer="trigram"), "trigram"),
        (lambda: HybridRetriever([Fixed()]), "not 1"),
        (lambda: HybridRetriever([Fixed(), Fixed()], weights=[1]), "1 weights"),
        (lambda: HybridRetriever([Fixed(), Fixed()], rrf_k=-1), "k=-1"),
        (
            lambda: HybridRetriever.from_nodes(NODES, Fixed(), similarity_top_k=9, fetch_k=5),
            "fetch_k=5",
        ),
    ],
)
def test_impossible_arguments(make, said):
    """Impossible arguments are refused before a question is asked."""
    with pytest.raises(ConfigError, match=said):
        make()


def test_fits_llama_indexs_own_fusion(index):
    """BM25 can be put into LlamaIndex's QueryFusionRetriever as well, which wants a model."""
    fusion = QueryFusionRetriever(
        [KoreanBM25Retriever(NODES), index.as_retriever()],
        llm=MockLLM(),
        num_queries=1,
        mode="reciprocal_rerank",
        use_async=False,
    )
    assert ids(fusion.retrieve(KOREAN[0]))[0] == "n0"
