"""Tests of koe5_integrations.haystack, in real Haystack pipelines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.components.retrievers import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from tiny_models import KOREAN

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError, EmptyTextError, TextTypeError
from koe5_integrations.haystack import KoE5DocumentEmbedder, KoE5TextEmbedder

TEXTS = KOREAN[:5]


@pytest.fixture(params=["transformer", "static"])
def model(request: pytest.FixtureRequest, xlm_roberta: Path, static_model: Path) -> str:
    """A small model of each kind."""
    return str(xlm_roberta if request.param == "transformer" else static_model)


def test_a_question_is_embedded_as_a_query(model: str) -> None:
    """The text embedder gives the encoder's query vector, as Python floats."""
    embedding = KoE5TextEmbedder(model).run(text=TEXTS[0])["embedding"]
    assert all(type(value) is float for value in embedding)
    np.testing.assert_allclose(
        embedding, KoE5Encoder(model).encode_queries(TEXTS[:1])[0], atol=1e-5
    )


async def test_documents_are_embedded_as_passages(model: str) -> None:
    """The document embedder gives the encoder's passage vectors on copies, sync and async."""
    documents = [Document(content=text, meta={"n": i}) for i, text in enumerate(TEXTS)]
    embedder = KoE5DocumentEmbedder(model)
    expected = KoE5Encoder(model).encode_passages(TEXTS)
    for result in (
        embedder.run(documents=documents),
        await embedder.run_async(documents=documents),
    ):
        found = result["documents"]
        np.testing.assert_allclose([d.embedding for d in found], expected, atol=1e-5)
        assert [(d.content, d.meta, d.id) for d in found] == [
            (d.content, d.meta, d.id) for d in documents
        ]
    assert all(document.embedding is None for document in documents)
    assert embedder.run(documents=[])["documents"] == []


async def test_a_question_async(model: str) -> None:
    """The async run gives the same vector."""
    embedder = KoE5TextEmbedder(model)
    found = (await embedder.run_async(text=TEXTS[1]))["embedding"]
    np.testing.assert_allclose(found, embedder.run(text=TEXTS[1])["embedding"], atol=1e-5)


def test_metadata_is_put_before_the_text(static_model: Path) -> None:
    """Named metadata fields are embedded with the text; missing ones are left out."""
    documents = [Document(content=TEXTS[0], meta={"title": "제목", "year": None})]
    embedder = KoE5DocumentEmbedder(
        str(static_model),
        meta_fields_to_embed=["title", "year", "author"],
        embedding_separator=" ",
    )
    expected = embedder.encoder.encode_passages([f"제목 {TEXTS[0]}"])[0]
    found = embedder.run(documents=documents)["documents"][0].embedding
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_bad_input_is_named_by_position(static_model: Path) -> None:
    """A document without text, or with a blank one, is refused before anything is embedded."""
    embedder = KoE5DocumentEmbedder(str(static_model))
    with pytest.raises(TextTypeError, match=r"texts\[1\]"):
        embedder.run(documents=[Document(content="글"), Document(content=None, meta={"a": 1})])
    with pytest.raises(EmptyTextError, match=r"texts\[0\]"):
        embedder.run(documents=[Document(content=" ")])
    with pytest.raises(ConfigError, match="batch_size"):
        KoE5TextEmbedder(str(static_model), batch_size=0)


async def test_pipelines_find_and_survive_serialisation(static_model: Path) -> None:
    """Pipelines find a passage by itself, after a round trip through YAML, too, and async."""
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    indexing = Pipeline()
    indexing.add_component("embedder", KoE5DocumentEmbedder(str(static_model), on_prefixed="keep"))
    indexing.add_component("writer", DocumentWriter(store))
    indexing.connect("embedder.documents", "writer.documents")
    indexing.run({"embedder": {"documents": [Document(content=f"passage: {t}") for t in TEXTS]}})

    query = Pipeline()
    query.add_component("embedder", KoE5TextEmbedder(str(static_model), query_prompt="passage: "))
    again = Pipeline.loads(query.dumps(), allowed_modules=["koe5_integrations.haystack"])
    for pipeline in (query, again):
        pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
        pipeline.connect("embedder.embedding", "retriever.query_embedding")
    data = {"embedder": {"text": TEXTS[3]}}
    results = [query.run(data), again.run(data), await again.run_async(data)]
    for result in results:
        (found,) = result["retriever"]["documents"]
        assert found.content == f"passage: {TEXTS[3]}"
        assert found.score == pytest.approx(1, abs=1e-5)


def test_warming_up_loads_the_model(static_model: Path, fresh_models: None) -> None:
    """Constructing loads nothing; warm_up does, once for both components."""
    text, documents = KoE5TextEmbedder(str(static_model)), KoE5DocumentEmbedder(str(static_model))
    assert text.encoder._handle._worker is None
    text.warm_up()
    documents.warm_up()
    assert text.encoder._handle._worker is documents.encoder._handle._worker is not None
