"""LangChain's text splitter: whole chunks, with their places."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore

from koe5_integrations.errors import ConfigError, TextTypeError
from koe5_integrations.langchain import KoE5Embeddings
from koe5_integrations.langchain_splitting import KoE5TextSplitter

TEXT = "# 안내\n\n## 설치\n\n" + "파이썬을 설치합니다. 그 다음에 실행합니다. " * 20


@pytest.fixture
def embeddings(static_model: Path) -> KoE5Embeddings:
    return KoE5Embeddings(model=static_model, max_seq_length=64, on_truncation="error")


def test_documents_are_split_with_their_metadata_and_places(embeddings: KoE5Embeddings) -> None:
    """Each chunk fits, keeps its document's metadata, and says where in it it begins."""
    splitter = KoE5TextSplitter(embeddings.encoder, overlap_tokens=16, add_start_index=True)
    documents = [
        Document(page_content=TEXT, metadata={"source": "a.md", "tags": ["x"]}),
        Document(page_content=" "),
        Document(page_content="짧다.", metadata={"source": "b.md"}),
    ]
    chunks = splitter.split_documents(documents)
    expected = [*splitter.splitter.split(TEXT), *splitter.splitter.split("짧다.")]
    assert [chunk.page_content for chunk in chunks] == [chunk.text for chunk in expected]
    assert [chunk.metadata["start_index"] for chunk in chunks] == [c.start for c in expected]
    assert len(chunks) > 5
    assert [chunk.metadata["source"] for chunk in chunks] == ["a.md"] * (len(chunks) - 1) + ["b.md"]
    chunks[0].metadata["tags"].append("y")
    assert documents[0].metadata["tags"] == chunks[1].metadata["tags"] == ["x"]
    assert (
        "start_index"
        not in KoE5TextSplitter(embeddings.encoder).create_documents(["가"])[0].metadata
    )


async def test_splitter_feeds_a_store(embeddings: KoE5Embeddings) -> None:
    """Its chunks go through a strict embedding into a store, with and without an event loop."""
    splitter = KoE5TextSplitter(embeddings.encoder)
    documents = [Document(page_content=TEXT)]
    chunks = splitter.transform_documents(documents)
    assert list(await splitter.atransform_documents(documents)) == list(chunks)
    store = InMemoryVectorStore(embeddings)
    store.add_documents(list(chunks))
    assert store.similarity_search("설치", k=1)[0].page_content in splitter.split_text(TEXT)


def test_splitter_takes_a_model_or_an_encoder(static_model: Path) -> None:
    """A model with options means the same as the encoder made of them; both at once are refused."""
    by_model = KoE5TextSplitter(static_model, max_seq_length=64, chunk_tokens=48)
    encoder = KoE5Embeddings(model=static_model, max_seq_length=64).encoder
    by_encoder = KoE5TextSplitter(encoder, chunk_tokens=48)
    assert by_model.split_text(TEXT) == by_encoder.split_text(TEXT)
    assert by_model.splitter.settings["chunk_tokens"] == 48
    assert pickle.loads(pickle.dumps(by_model)).split_text(TEXT) == by_model.split_text(TEXT)
    with pytest.raises(ConfigError, match="max_seq_length: the encoder that is given"):
        KoE5TextSplitter(encoder, max_seq_length=64)


def test_wrong_arguments_are_refused(embeddings: KoE5Embeddings) -> None:
    """LangChain's own constructors that measure otherwise are refused by the argument's name."""
    with pytest.raises(ConfigError, match="length_function= is no option of KoE5TextSplitter"):
        KoE5TextSplitter("koe5-mini", length_function=len)  # type: ignore[call-arg]  # as users do
    with pytest.raises(ConfigError, match=r"chunk_size= is no option .* chunk_tokens, "):
        KoE5TextSplitter(embeddings.encoder, chunk_size=9)  # type: ignore[call-arg]  # as users do
    with pytest.raises(TextTypeError, match=r"texts\[0\]"):
        KoE5TextSplitter(embeddings.encoder).split_text(3)  # type: ignore[arg-type]  # as users do
