"""Every adapter over a server gives the vectors it gives over the model here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("httpx")
pytest.importorskip("stamina")
pytest.importorskip("sentence_transformers")
pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")
pytest.importorskip("chromadb")

from embedding_server import Serving, serving
from test_parity import TEXTS, WAYS

from koe5_integrations import KoE5Encoder, release_models
from koe5_integrations.types import Vectors


@pytest.fixture(scope="module", params=["tei", "vllm"])
def url(request: pytest.FixtureRequest, xlm_roberta: Path) -> Iterator[str]:
    release_models()
    with serving(Serving(xlm_roberta, request.param)) as address:
        yield address
    release_models()


@pytest.fixture(scope="module")
def expected(xlm_roberta: Path) -> tuple[Vectors, Vectors]:
    local = KoE5Encoder(xlm_roberta, backend="torch", on_truncation="ignore")
    return local.encode_queries(TEXTS), local.encode_passages(TEXTS)


@pytest.mark.parametrize("way", WAYS)
def test_adapters_over_a_server_give_the_same_vectors(
    url: str, xlm_roberta: Path, expected: tuple[Vectors, Vectors], way: str
) -> None:
    """LangChain, LlamaIndex and Chroma, sync and async, alone and batched, cut texts included."""
    adapter_class, embed_queries, embed_passages = WAYS[way]
    adapter = adapter_class(model_name=str(xlm_roberta), base_url=url, on_truncation="ignore")
    np.testing.assert_allclose(embed_queries(adapter, TEXTS), expected[0], atol=1e-5)
    np.testing.assert_allclose(embed_passages(adapter, TEXTS), expected[1], atol=1e-5)
    assert adapter.encoder.engine.backend == "remote"


def test_haystack_over_a_server_gives_the_same_vectors(
    url: str, xlm_roberta: Path, expected: tuple[Vectors, Vectors]
) -> None:
    """Haystack's components, sync and async; a serialised one has the address and no key."""
    pytest.importorskip("haystack")
    from haystack import Document

    from koe5_integrations.haystack import KoE5DocumentEmbedder, KoE5TextEmbedder

    options = {"base_url": url, "on_truncation": "ignore"}
    asks = KoE5TextEmbedder(str(xlm_roberta), **options)
    embeds = KoE5DocumentEmbedder(str(xlm_roberta), **options)
    found = [asks.run(text)["embedding"] for text in TEXTS]
    np.testing.assert_allclose(found, expected[0], atol=1e-5)
    documents = [Document(content=text) for text in TEXTS]
    for result in (embeds.run(documents), asyncio.run(embeds.run_async(documents))):
        found = [document.embedding for document in result["documents"]]
        np.testing.assert_allclose(found, expected[1], atol=1e-5)
    again = KoE5TextEmbedder.from_dict(asks.to_dict())
    assert again.encoder == asks.encoder
