"""LlamaIndex's node parser: what is embedded of a node fits, and its nodes are stable."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_index.core import VectorStoreIndex
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.schema import (
    BaseNode,
    Document,
    MetadataMode,
    NodeRelationship,
    TextNode,
)

from koe5_integrations.errors import ConfigError, TruncationError
from koe5_integrations.llama_index import KoE5Embedding
from koe5_integrations.llama_index_splitting import KoE5NodeParser

TEXT = "# 안내\n\n" + "파이썬을 설치합니다. 그 다음에 실행합니다. " * 20
METADATA = {"file": "a.md", "page": 3}


@pytest.fixture(scope="module")
def embedding(static_model: Path) -> KoE5Embedding:
    embedding = KoE5Embedding(model=static_model, max_seq_length=64, on_truncation="error")
    embedding.encoder.load()
    return embedding


@pytest.fixture(scope="module")
def parser(embedding: KoE5Embedding) -> KoE5NodeParser:
    parser = KoE5NodeParser.from_encoder(embedding.encoder)
    parser.encoder.load()
    return parser


def embedded(nodes: list[BaseNode]) -> list[str]:
    return [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]


@given(
    metadata=st.dictionaries(
        st.sampled_from(["file", "page", "author"]), st.integers() | st.text("가나 :\n", max_size=9)
    ),
    excluded=st.lists(st.sampled_from(["file", "page"]), unique=True),
    template=st.sampled_from(["{metadata_str}\n\n{content}", "[{metadata_str}] {content}"]),
    include_metadata=st.booleans(),
)
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_embedded_of_a_node_fits(
    parser: KoE5NodeParser,
    embedding: KoE5Embedding,
    metadata: dict[str, Any],
    excluded: list[str],
    template: str,
    include_metadata: bool,
) -> None:
    """Metadata, what is excluded of it, and the templates are counted as they are embedded."""
    document = Document(
        text=TEXT,
        metadata=metadata,
        excluded_embed_metadata_keys=excluded,
        text_template=template,
    )
    one = parser.model_copy(update={"include_metadata": include_metadata})
    nodes = one.get_nodes_from_documents([document])
    assert len(nodes) > 3
    embedding(nodes)
    assert all(node.metadata == (metadata if include_metadata else {}) for node in nodes)
    tokens = [c.tokens for c in one.splitter.split_many([TEXT], frames=[one._frame(document)])[0]]
    assert tokens == embedding.encoder.count_tokens(embedded(nodes), "passage")


def test_nodes_know_their_place_and_their_neighbours(parser: KoE5NodeParser) -> None:
    """Places are exact where headings are repeated, too; relations are as LlamaIndex makes them."""
    document = Document(text=TEXT, metadata=METADATA, id_="a")
    nodes = parser.get_nodes_from_documents([document, Document(text="짧다.", id_="b")])
    chunks = parser.splitter.split(TEXT, extra="file: a.md\npage: 3")
    places = [(node.start_char_idx, node.end_char_idx) for node in nodes[:-1]]
    assert places == [(chunk.start, chunk.end) for chunk in chunks]
    assert nodes[1].text == "# 안내\n\n" + TEXT[slice(*places[1])]
    assert [node.ref_doc_id for node in nodes] == ["a"] * len(chunks) + ["b"]
    before, node, after, last = *nodes[:3], nodes[-1]
    assert node.prev_node is not None
    assert node.prev_node.node_id == before.node_id
    assert node.next_node is not None
    assert node.next_node.node_id == after.node_id
    assert list(last.relationships) == [NodeRelationship.SOURCE]
    unrelated = parser.model_copy(update={"include_prev_next_rel": False})
    (first, *_) = unrelated.get_nodes_from_documents([document])
    assert list(first.relationships) == [NodeRelationship.SOURCE]


def test_nodes_of_nodes_come_from_the_document(parser: KoE5NodeParser) -> None:
    """Parsing nodes again keeps the document they came from as their source."""
    document = Document(text=TEXT, id_="a")
    (node,) = KoE5NodeParser(model="koe5-mini").get_nodes_from_documents([document])
    assert {again.ref_doc_id for again in parser([node])} == {"a"}
    assert parser([TextNode(text=" ")]) == []


async def test_nodes_are_the_same_in_every_run(parser: KoE5NodeParser) -> None:
    """Ids are UUIDs that follow from the document's id, with and without an event loop."""
    documents = [Document(text=TEXT, metadata=METADATA, id_="a")]
    nodes = parser.get_nodes_from_documents(documents)
    assert nodes == parser.get_nodes_from_documents(documents)
    assert nodes == await parser.aget_nodes_from_documents(documents)
    assert len({node.node_id for node in nodes}) == len(nodes)
    other = parser.get_nodes_from_documents([Document(text=TEXT, id_="b")])
    assert not {node.node_id for node in nodes} & {node.node_id for node in other}


def test_parser_survives_serialisation(parser: KoE5NodeParser) -> None:
    """A parser that went through a dict, JSON or pickle makes the same nodes."""
    documents = [Document(text=TEXT, metadata=METADATA, id_="a")]
    nodes = parser.get_nodes_from_documents(documents)
    written = parser.to_dict()
    assert written["splitting"]["chunk_tokens"] == 64
    for rebuilt in (
        KoE5NodeParser.from_dict(written),
        KoE5NodeParser.from_json(parser.to_json()),
        pickle.loads(pickle.dumps(parser)),
    ):
        assert rebuilt.to_dict() == written
        assert rebuilt.get_nodes_from_documents(documents) == nodes


def test_what_changes_nodes_changes_the_serialised_form(parser: KoE5NodeParser) -> None:
    """LlamaIndex's cache takes two parsers for one exactly if their nodes are the same."""
    changes: list[dict[str, Any]] = [
        {"chunk_tokens": 40},
        {"overlap_tokens": 8},
        {"markdown": False},
        {"repeat_headings": False},
        {"include_metadata": False},
        {"passage_prompt": ""},
        {"id_func": _numbered},
    ]
    forms = [str(parser.model_copy(update=change).to_dict()) for change in changes]
    assert len({*forms, str(parser.to_dict())}) == len(changes) + 1
    assert parser.model_copy(update={"batch_size": 3}).to_dict() == parser.to_dict()


def _numbered(i: int, doc: BaseNode) -> str:
    return f"{doc.node_id}-{i}"


def test_ids_of_ones_own_have_to_be_given_again(parser: KoE5NodeParser) -> None:
    """A function can't be serialised, and is not silently replaced."""
    own = parser.model_copy(update={"id_func": _numbered})
    assert own.get_nodes_from_documents([Document(text="짧다.", id_="a")])[0].node_id == "a-0"
    with pytest.raises(ConfigError, match="_numbered' can't be serialised: pass id_func="):
        KoE5NodeParser.from_dict(own.to_dict())
    assert KoE5NodeParser.from_dict(own.to_dict(), id_func=_numbered).to_dict() == own.to_dict()


async def test_parser_works_in_a_pipeline(parser: KoE5NodeParser, embedding: KoE5Embedding) -> None:
    """LlamaIndex's pipeline splits and embeds strictly, and finds what it did in its cache."""
    pipeline = IngestionPipeline(transformations=[parser, embedding], cache=IngestionCache())
    documents = [Document(text=TEXT, metadata=METADATA, id_="a")]
    nodes = pipeline.run(documents=documents)
    computed = embedding.encoder.computed
    assert [n.node_id for n in pipeline.run(documents=documents)] == [n.node_id for n in nodes]
    assert [n.node_id for n in await pipeline.arun(documents=documents)] == [
        n.node_id for n in nodes
    ]
    assert embedding.encoder.computed == computed
    index = VectorStoreIndex(list(nodes), embed_model=embedding)
    assert index.as_retriever(similarity_top_k=1).retrieve("설치")[0].node_id in {
        n.node_id for n in nodes
    }


def test_metadata_that_leaves_no_room_is_refused(parser: KoE5NodeParser) -> None:
    """The error names the node, and what to do."""
    documents = [
        Document(text="짧다.", id_="a"),
        Document(text=TEXT, id_="b", metadata={"abstract": "길다 " * 40}),
    ]
    with pytest.raises(TruncationError, match=r"texts\[1\] \(node 'b'\) has so much embedded"):
        parser.get_nodes_from_documents(documents)


def test_fields_can_be_changed_and_are_checked(static_model: Path) -> None:
    """A field that is set takes effect; an impossible value leaves all as it was."""
    parser = KoE5NodeParser(model=static_model, max_seq_length=64)
    parser.chunk_tokens = 40
    assert parser.splitter.settings["chunk_tokens"] == 40
    with pytest.raises(ConfigError, match="overlap_tokens"):
        parser.overlap_tokens = 30
    assert parser.overlap_tokens == 0
    parser.max_seq_length = 50
    assert parser.encoder.max_seq_length == 50
    with pytest.raises(ConfigError, match="chunk_size= is no option of KoE5NodeParser"):
        KoE5NodeParser(chunk_size=512)  # type: ignore[call-arg]  # as users do
