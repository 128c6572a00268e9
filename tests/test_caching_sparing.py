"""Tests of what a cached text spares: the model, a thread, the event loop; in every adapter."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import numbered

from koe5_integrations import KoE5Encoder, release_models
from koe5_integrations.caching.disk import DiskCache

Cached = Callable[..., KoE5Encoder]

pytestmark = pytest.mark.usefixtures("nothing_in_memory")


def test_a_cached_question_loads_no_model(
    loads: list[str], cached: Cached, static_model: Path
) -> None:
    """After the model was released, a known question is answered without it."""
    encoder = cached(static_model)
    before = encoder.encode_queries(["헌법"])
    release_models()
    np.testing.assert_array_equal(encoder.encode_queries(["헌법"]), before)
    np.testing.assert_array_equal(asyncio.run(encoder.aencode_queries(["헌법"])), before)
    assert loads == [str(static_model)]


class CountingExecutor(ThreadPoolExecutor):
    submitted = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.submitted += 1
        return super().submit(*args, **kwargs)


async def test_what_is_in_memory_needs_no_thread(static_model: Path) -> None:
    """A question served from memory doesn't leave the event loop; a bulk of texts does."""
    executor = CountingExecutor(4)
    asyncio.get_running_loop().set_default_executor(executor)
    encoder = KoE5Encoder(static_model, embedding_cache_size=500)
    await encoder.aencode_queries(["헌법"])
    before = executor.submitted
    assert before > 0
    for _ in range(3):
        await encoder.aencode_queries(["헌법"])
    assert executor.submitted == before
    await encoder.aencode_queries(numbered(400))
    assert executor.submitted > before


async def test_the_disk_is_never_touched_on_the_event_loop(
    static_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening, reading and writing the file happen in other threads."""
    threads = set()
    use = DiskCache._run

    def watched(self: DiskCache, work: Any) -> Any:
        threads.add(threading.get_ident())
        return use(self, work)

    monkeypatch.setattr(DiskCache, "_run", watched)
    encoder = KoE5Encoder(
        static_model, embedding_cache=tmp_path, embedding_cache_size=5, batch_tokens=64
    )
    for texts in (["헌법"], numbered(200), ["헌법"], ["서울"], numbered(200)):
        await encoder.aencode_queries(texts)
    assert encoder.computed == 202
    assert threads
    assert threading.get_ident() not in threads


# Adapters


def langchain(options: dict[str, Any]) -> tuple[KoE5Encoder, Callable[[str], Any]]:
    pytest.importorskip("langchain_core")
    from koe5_integrations.langchain import KoE5Embeddings

    made = KoE5Embeddings(**options)
    return made.encoder, made.embed_query


def llama_index(options: dict[str, Any]) -> tuple[KoE5Encoder, Callable[[str], Any]]:
    pytest.importorskip("llama_index.core")
    from koe5_integrations.llama_index import KoE5Embedding

    made = KoE5Embedding(**options)
    return made.encoder, made.get_query_embedding


def chroma(options: dict[str, Any]) -> tuple[KoE5Encoder, Callable[[str], Any]]:
    pytest.importorskip("chromadb")
    from koe5_integrations.chroma import KoE5EmbeddingFunction

    made = KoE5EmbeddingFunction(**options)
    return made.encoder, lambda text: made.embed_query([text])[0].tolist()


def haystack(options: dict[str, Any]) -> tuple[KoE5Encoder, Callable[[str], Any]]:
    pytest.importorskip("haystack")
    from koe5_integrations.haystack import KoE5TextEmbedder

    made = KoE5TextEmbedder(**options)
    return made.encoder, lambda text: made.run(text)["embedding"]


@pytest.mark.parametrize("adapter", [langchain, llama_index, chroma, haystack])
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_adapters_pass_the_caches_on(
    adapter: Callable[[dict[str, Any]], tuple[KoE5Encoder, Callable[[str], Any]]],
    kind: str,
    static_model: Path,
    tmp_path: Path,
) -> None:
    """Through every framework a question asked twice is embedded once."""
    options: dict[str, Any] = {"model": str(static_model)}
    if kind == "memory":
        options["embedding_cache_size"] = 1000
    else:
        options["embedding_cache"] = str(tmp_path)
    encoder, embed_query = adapter(options)
    first = embed_query("헌법")
    assert embed_query("헌법") == first
    assert encoder.computed == 1
    encoder.encode_passages(["헌법"])
    assert encoder.computed == 2
