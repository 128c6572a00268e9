"""Retrievers of both frameworks as systems."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from tiny_models import KOREAN

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.results import Hit
from koe5_integrations.evaluation.systems.retrievers import RetrieverError, RetrieverSystem

pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import Document as LlamaDocument
from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever as LlamaBaseRetriever
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import NodeWithScore, TextNode

from koe5_integrations.langchain import KoE5Embeddings
from koe5_integrations.llama_index import KoE5Embedding

CORPUS = {f"문서 {i}": text for i, text in enumerate(KOREAN[:5])}
QUERIES = {f"q{i}": text for i, text in enumerate(KOREAN[:5])}


class Answers(BaseRetriever):
    """Gives the documents it was told to give for a question."""

    answers: dict[str, Any]

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        answer = self.answers[query]
        if isinstance(answer, Exception):
            raise answer
        return answer


class LlamaAnswers(LlamaBaseRetriever):
    def __init__(self, answers: dict[str, list[NodeWithScore]]) -> None:
        self.answers = answers
        super().__init__()

    def _retrieve(self, query_bundle: Any) -> list[NodeWithScore]:
        return self.answers[query_bundle.query_str]


def ids(run, query_id="q"):
    return [hit.doc_id for hit in run[query_id]]


def chunk(text: str, **metadata: object) -> Document:
    return Document(page_content=text, metadata=metadata)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_langchain_vector_store(static_model, concurrency):
    """LangChain's own store and retriever rank each text first for itself, without scores."""
    store = InMemoryVectorStore(KoE5Embeddings(model=str(static_model)))
    store.add_documents([Document(id=doc_id, page_content=t) for doc_id, t in CORPUS.items()])
    system = RetrieverSystem(store.as_retriever(search_kwargs={"k": 3}), concurrency=concurrency)
    assert system.index(CORPUS).bytes is None
    run = system.search(QUERIES, 2)
    assert [hits[0] for hits in run.values()] == [Hit(doc_id, None) for doc_id in CORPUS]
    assert {len(hits) for hits in run.values()} == {2}
    assert system.facts()["framework"] == "langchain"
    assert system.spec == "retriever:VectorStoreRetriever"
    assert system.warnings == []


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_llama_index_over_chunks(static_model, concurrency):
    """LlamaIndex' nodes count as the documents they were cut from, once each, with scores."""
    documents = [LlamaDocument(id_=doc_id, text=text * 9) for doc_id, text in CORPUS.items()]
    nodes = SentenceSplitter(chunk_size=64, chunk_overlap=0)(documents)
    assert len(nodes) > len(documents)
    index = VectorStoreIndex(nodes, embed_model=KoE5Embedding(model_name=str(static_model)))
    system = RetrieverSystem(
        index.as_retriever(similarity_top_k=len(nodes)), concurrency=concurrency
    )
    system.index(CORPUS)
    run = system.search(QUERIES, 5)
    assert [hits[0].doc_id for hits in run.values()] == list(CORPUS)
    for hits in run.values():
        assert {hit.doc_id for hit in hits} == set(CORPUS)
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)


def test_duplicates_count_where_they_stand_first():
    """Chunks of one document are one hit at the first one's rank."""
    answer = [chunk("x", doc_id="b"), chunk("y", doc_id="a"), chunk("z", doc_id="b")]
    system = RetrieverSystem(Answers(answers={"?": answer}))
    system.index({"a": "", "b": ""})
    assert ids(system.search({"q": "?"}, 5)) == ["b", "a"]


@pytest.mark.parametrize(
    ("doc_id", "expected"),
    [
        (None, ["d1", "d2", "elsewhere", ""]),
        ("page", ["7", "", ""]),
        (lambda document: document.page_content[:2], ["d1", "d2", "x", "y"]),
    ],
)
def test_chunks_are_mapped_to_documents(doc_id, expected):
    """By what the corpus knows, by a metadata key, or by a function; unknown ids stay visible."""
    answer = [
        Document(id="uuid", page_content="d1 …", metadata={"source": "d1", "page": 7}),
        Document(id="d2", page_content="d2 …", metadata={"source": "file.pdf"}),
        Document(id="elsewhere", page_content="x"),
        chunk("y"),
    ]
    system = RetrieverSystem(Answers(answers={"?": answer}), doc_id=doc_id)
    system.index({"d1": "", "d2": ""})
    assert ids(system.search({"q": "?"}, 5)) == list(dict.fromkeys(expected))


def test_llama_index_scores_may_be_missing():
    """Nodes without a score, or with NaN for one, keep their places."""
    nodes = [
        NodeWithScore(node=TextNode(id_="a", text="x"), score=None),
        NodeWithScore(node=TextNode(id_="b", text="y"), score=float("nan")),
        NodeWithScore(node=TextNode(id_="c", text="z"), score=0.5),
    ]
    system = RetrieverSystem(LlamaAnswers({"?": nodes}))
    system.index({"a": "", "b": "", "c": ""})
    assert system.search({"q": "?"}, 5)["q"] == [Hit("a", None), Hit("b", None), Hit("c", 0.5)]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_fewer_and_none(concurrency):
    """Short and empty answers are taken as they are, and the depth reached is said."""
    answers = {"many": [chunk("x", id="a"), chunk("y", id="b")], "none": []}
    system = RetrieverSystem(Answers(answers=answers), concurrency=concurrency)
    system.index({"a": "", "b": "", "c": ""})
    run = system.search({"q1": "many", "q2": "none"}, 100)
    assert (ids(run, "q1"), ids(run, "q2")) == (["a", "b"], [])
    (sentence,) = system.warnings
    assert "no more than 2 of the 3 documents asked for" in sentence


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ValueError("broken"), "ValueError: broken"),
        (["text"], "must return Documents, not str"),
        (None, "must return a list, not NoneType"),
    ],
)
def test_a_failing_query_is_reported(concurrency, answer, said):
    """One query's failure leaves the others standing and is named."""
    answers = {"good": [chunk("x", id="a")], "bad": answer}
    retriever = RunnableLambda(
        lambda q: Answers(answers=answers)._get_relevant_documents(q, run_manager=None)
    )
    system = RetrieverSystem(retriever, concurrency=concurrency)
    system.index({"a": ""})
    run = system.search({"q1": "good", "q2": "bad"}, 1)
    assert (ids(run, "q1"), ids(run, "q2")) == (["a"], [])
    (sentence,) = system.warnings
    assert sentence.startswith("failed at 1 query,")
    assert "query 'q2' with " in sentence
    assert said in sentence


def test_failing_everywhere_is_an_error():
    """A retriever that answers nothing at all is broken, not bad."""
    answers = {str(i): ConnectionError("refused") for i in range(3)}
    system = RetrieverSystem(Answers(answers=answers))
    system.index({"a": ""})
    with pytest.raises(RetrieverError, match=r"each of 3 queries.*ConnectionError: refused"):
        system.search({str(i): str(i) for i in range(3)}, 1)


class Slow(BaseRetriever):
    """Counts how many are asked at the same time."""

    asynchronous: bool
    running: list[int]

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        if self.asynchronous:
            raise NotImplementedError
        self.running.append(1)
        most = len(self.running)
        time.sleep(0.02)
        self.running.pop()
        return [chunk(query, id=str(most))]

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        if not self.asynchronous:
            return await super()._aget_relevant_documents(query, run_manager=run_manager)
        self.running.append(1)
        most = len(self.running)
        await asyncio.sleep(0.02)
        self.running.pop()
        return [chunk(query, id=str(most))]


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_concurrency_is_bounded(asynchronous, concurrency):
    """As many queries as allowed are under way, and never more."""
    system = RetrieverSystem(Slow(asynchronous=asynchronous, running=[]), concurrency=concurrency)
    system.index({})
    run = system.search({str(i): str(i) for i in range(12)}, 1)
    assert max(int(hits[0].doc_id) for hits in run.values()) == concurrency


def test_blocking_llama_index_retrievers_run_side_by_side():
    """A retriever without an asynchronous side is asked in threads."""
    together = threading.Barrier(3)

    class Blocking(LlamaBaseRetriever):
        def _retrieve(self, query_bundle: Any) -> list[NodeWithScore]:
            together.wait(timeout=10)
            return []

    system = RetrieverSystem(Blocking(), concurrency=3)
    system.index({})
    system.search({str(i): str(i) for i in range(6)}, 1)
    assert system.warnings == []


async def test_inside_a_running_loop():
    """Called from a notebook, whose loop is running, it works all the same."""
    system = RetrieverSystem(Slow(asynchronous=True, running=[]), concurrency=2)
    system.index({})
    assert len(system.search({"a": "a", "b": "b"}, 1)) == 2


def test_the_event_loop_is_always_the_same():
    """Clients that keep connections find the loop they were opened in."""
    loops = set()

    async def remember(query: str) -> list[Document]:
        loops.add(asyncio.get_running_loop())
        return []

    def never(query: str) -> list[Document]:
        raise NotImplementedError

    system = RetrieverSystem(RunnableLambda(never, afunc=remember))
    system.index({})
    for _ in range(3):
        system.search({"a": "a", "b": "b"}, 1)
        system.search({"a": "a"}, 1)
    assert len(loops) == 1


def test_a_function_makes_the_retriever_from_the_corpus():
    """A function is called with the corpus when it is indexed."""

    def make(corpus):
        return Answers(answers={"?": [chunk(text, doc_id=key) for key, text in corpus.items()]})

    system = RetrieverSystem(make)
    with pytest.raises(ConfigError, match=r"index\(\)"):
        system.search({"q": "?"}, 1)
    system.index({"a": "x", "b": "y"})
    assert ids(system.search({"q": "?"}, 5)) == ["a", "b"]
    assert system.facts()["made_by"].endswith("make")


@pytest.mark.parametrize(
    ("make", "said"),
    [(lambda corpus: 1 / 0, "ZeroDivisionError"), (lambda corpus: "x", "builtins.str is no ret")],
)
def test_a_function_that_makes_none(make, said):
    """A function that fails, or returns something else, is named with what went wrong."""
    with pytest.raises(RetrieverError, match=said):
        RetrieverSystem(make).index({})


def test_no_retriever():
    """What is no retriever is refused, with the way to one where there is."""
    with pytest.raises(ConfigError, match=r"builtins\.int is no retriever"):
        RetrieverSystem(3)
    store = InMemoryVectorStore(KoE5Embeddings(model="koe5-mini"))
    with pytest.raises(ConfigError, match=r"as_retriever\(\)"):
        RetrieverSystem(store)


def test_the_number_asked_for_can_be_passed_on():
    """with_top_k makes the retriever that is asked for so many."""
    answers = {"?": [chunk("x", id=str(i)) for i in range(9)]}
    asked = []

    def with_top_k(retriever, top_k):
        asked.append(top_k)
        return retriever

    system = RetrieverSystem(Answers(answers=answers), with_top_k=with_top_k)
    system.index({})
    assert len(system.search({"q": "?"}, 2)["q"]) == 2
    assert (asked, system.fixed_depth) == ([2], False)


def test_impossible_arguments():
    """Numbers below 1 are refused."""
    with pytest.raises(ConfigError, match="concurrency=0"):
        RetrieverSystem(Answers(answers={}), concurrency=0)
    system = RetrieverSystem(Answers(answers={}))
    with pytest.raises(ConfigError, match="top_k=0"):
        system.search({}, 0)
