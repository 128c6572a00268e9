"""What a diagnosis says of collections that we, the frameworks and Chroma make themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("chromadb")

import chromadb
from chromadb.api import ClientAPI
from diagnosed import NAMES, TEXTS, N, kinds, sentences

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import KoE5EmbeddingFunction, open_collection
from koe5_integrations.ingestion.diagnosis import diagnose
from koe5_integrations.ingestion.diagnosis.sampling import scan


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientAPI]:
    client = chromadb.PersistentClient(tmp_path_factory.mktemp("diagnosis") / "db")
    yield client
    client.close()


@pytest.fixture(scope="module")
def encoder(xlm_roberta: Path) -> KoE5Encoder:
    return KoE5Encoder(xlm_roberta)


# Collections of our own, empty and large


def test_an_empty_collection_has_nothing_wrong(client: ClientAPI, encoder: KoE5Encoder) -> None:
    """No rows are no fault; the missing record is a note."""
    empty = client.create_collection(f"empty-{next(NAMES)}", embedding_function=None)
    diagnosis = diagnose(empty, encoder)
    assert (diagnosis.rows, diagnosis.compared, diagnosis.dim) == (0, 0, None)
    assert diagnosis.healthy


def test_our_own_collections_are_healthy(client: ClientAPI, encoder: KoE5Encoder) -> None:
    """A collection of open_collection has a record, and it is compared."""
    ours = open_collection(client, f"ours-{next(NAMES)}", encoder)
    ours.add(ids=[str(i) for i in range(N)], documents=TEXTS)
    diagnosis = diagnose(ours, encoder)
    assert (diagnosis.made, diagnosis.findings) == ({"right": N}, [])
    assert diagnosis.recorded == diagnosis.fingerprint
    assert diagnosis.made_by == f"koe5 ({encoder.model})"
    other = diagnose(ours, KoE5Encoder(encoder.model, query_prompt="질문: "))
    assert kinds(other) == {"other_fingerprint"}


def test_no_stored_function_is_built(
    client: ClientAPI, encoder: KoE5Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the collection says it was made with is read, and never made."""
    ours = open_collection(client, f"ours-{next(NAMES)}", encoder)
    ours.add(ids=["a", "b"], documents=TEXTS[:2])

    def refuse(config: dict[str, Any]) -> None:
        raise AssertionError(config)

    monkeypatch.setattr(KoE5EmbeddingFunction, "build_from_config", staticmethod(refuse))
    opened = client.get_collection(ours.name, embedding_function=None)
    assert diagnose(opened, encoder).made == {"right": 2}


def test_a_sample_meets_every_part(client: ClientAPI) -> None:
    """Of each part of the collection one row is drawn: a fault in 5% in a row is surely seen."""
    collection = client.create_collection(f"many-{next(NAMES)}", embedding_function=None)
    rows = 5_000
    for start in range(0, rows, 2500):
        ids = [f"{i:05}" for i in range(start, start + 2500)]
        collection.add(ids=ids, embeddings=np.ones((2500, 2), dtype=np.float32))
    drawn = scan(collection, sample=200, seed=3, texts=False, on_progress=lambda n: None)
    places = [int(id) for id in drawn.sampled]
    assert [place // 25 for place in places] == list(range(200))
    assert len({place % 25 for place in places}) == 25
    again = scan(collection, sample=200, seed=3, texts=False, on_progress=lambda n: None)
    assert again.sampled == drawn.sampled


# Frameworks


class PlainHuggingFace:
    """What LangChain's HuggingFaceEmbeddings does by default: no prefix, newlines made spaces."""

    def __init__(self, model: str) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(model, device="cpu")

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        lines = [text.replace("\n", " ") for text in texts]
        vectors: list[list[float]] = self._model.encode(lines, prompt="").tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def test_langchains_default_is_seen(client: ClientAPI, encoder: KoE5Encoder) -> None:
    """A LangChain store over a plain model has no prefix, l2 and no fingerprint."""
    langchain_chroma = pytest.importorskip("langchain_chroma")
    name = f"langchain-{next(NAMES)}"
    store = langchain_chroma.Chroma(name, PlainHuggingFace(encoder.model), client=client)
    store.add_texts(TEXTS, metadatas=[{"page": i} for i in range(N)])
    diagnosis = diagnose(client.get_collection(name, embedding_function=None), encoder)
    assert diagnosis.made == {"no prefix": N}
    assert {"no_prefix", "newlines_as_spaces", "wrong_space"} <= kinds(diagnosis)


def test_llama_indexs_metadata_is_seen(client: ClientAPI, encoder: KoE5Encoder) -> None:
    """Nodes embedded with their metadata in front are right, and that is noted."""
    pytest.importorskip("llama_index.vector_stores.chroma")
    from llama_index.core import Document, StorageContext, VectorStoreIndex
    from llama_index.vector_stores.chroma import ChromaVectorStore

    from koe5_integrations.llama_index import KoE5Embedding

    collection = client.create_collection(
        f"llama-{next(NAMES)}",
        embedding_function=None,
        configuration={"hnsw": {"space": "cosine"}},
    )
    texts = sentences(30, words=3)
    VectorStoreIndex.from_documents(
        [Document(text=text, metadata={"제목": f"글 {i}"}) for i, text in enumerate(texts)],
        storage_context=StorageContext.from_defaults(
            vector_store=ChromaVectorStore(chroma_collection=collection)
        ),
        embed_model=KoE5Embedding(model_name=encoder.model),
    )
    diagnosis = diagnose(collection, encoder)
    assert diagnosis.made == {"right": 30}
    assert kinds(diagnosis) == {"with_metadata"}
    assert diagnosis.healthy


def test_chromas_own_function_falls_into_the_prompt_trap(
    client: ClientAPI, encoder: KoE5Encoder
) -> None:
    """Chroma's SentenceTransformerEmbeddingFunction applies the model's default prompt to texts.

    This model's is the query's, so that all passages were embedded as questions.
    """
    from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction

    name = f"sentence-transformers-{next(NAMES)}"
    function: Any = SentenceTransformerEmbeddingFunction(model_name=encoder.model)
    client.create_collection(name, embedding_function=function).add(
        ids=[str(i) for i in range(N)], documents=TEXTS
    )
    diagnosis = diagnose(client.get_collection(name, embedding_function=None), encoder)
    assert diagnosis.made == {"query prefix": N}
    assert diagnosis.made_by == f"sentence_transformer ({encoder.model})"
