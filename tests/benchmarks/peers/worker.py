"""One peer in its own process: a JSON request a line on stdin, a JSON answer a line on stdout.

Run by ``__main__.py`` with the Python of the peer's environment, so it imports nothing of the
benchmark's, and a library only where its adapter is made. An adapter has ``passages`` for many
texts, ``query`` for one, and ``aquery`` if its library has such a thing for event loops; it embeds
with its library's defaults and returns what a user of it gets. The peers know no prefix, so theirs
comes with the text (``prefixed``); the work and the vectors are then the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_LIBRARIES = [
    *("koe5-integrations", "sentence-transformers", "transformers", "torch", "tokenizers"),
    *("onnxruntime", "openvino", "optimum", "optimum-onnx", "optimum-intel"),
    *("langchain-huggingface", "llama-index-embeddings-huggingface", "chromadb", "fastembed"),
]


class KoE5:
    """This package, through its LangChain adapter; ``options`` are the encoder's."""

    prefixed = False

    def __init__(self, model: str, **options: Any) -> None:
        from koe5_integrations.langchain import KoE5Embeddings

        self._embeddings = KoE5Embeddings(model=model, on_truncation="ignore", **options)
        self.passages = self._embeddings.embed_documents
        self.query = self._embeddings.embed_query
        self.aquery = self._embeddings.aembed_query


class LangChain:
    prefixed = True

    def __init__(self, model: str) -> None:
        from langchain_huggingface import HuggingFaceEmbeddings

        embeddings = HuggingFaceEmbeddings(model_name=model)
        self.passages = embeddings.embed_documents
        self.query = embeddings.embed_query
        self.aquery = embeddings.aembed_query


class LlamaIndex:
    prefixed = True

    def __init__(self, model: str) -> None:
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding

        embedding = HuggingFaceEmbedding(model)
        self.passages = embedding.get_text_embedding_batch
        self.query = embedding.get_query_embedding
        self.aquery = embedding.aget_query_embedding


class Chroma:
    prefixed = True

    def __init__(self, model: str) -> None:
        from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction

        self.passages = SentenceTransformerEmbeddingFunction(model)

    def query(self, text: str) -> Sequence[float]:
        return self.passages([text])[0]


class FastEmbed:
    prefixed = True

    def __init__(self, model: str, file: str) -> None:
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType

        TextEmbedding.add_custom_model(
            model="true-shape",
            pooling=PoolingType.MEAN,
            normalization=True,
            sources=ModelSource(url="http://localhost"),  # required, and not asked
            dim=1024,
            model_file=file,
            output_name="token_embeddings",
        )
        self._model = TextEmbedding("true-shape", specific_model_path=model)

    def passages(self, texts: list[str]) -> Sequence[Any]:
        return list(self._model.passage_embed(texts))

    def query(self, text: str) -> Sequence[float]:
        return next(iter(self._model.query_embed(text)))


class SentenceTransformers:
    prefixed = True

    def __init__(self, model: str, one_by_one: bool = False, **options: Any) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(model, device="cpu", **options)
        self._one_by_one = one_by_one

    def passages(self, texts: list[str]) -> Sequence[Any]:
        if self._one_by_one:
            return [self.model.encode(text) for text in texts]
        return self.model.encode(texts)

    def query(self, text: str) -> Sequence[float]:
        return self.model.encode(text)


ADAPTERS = {
    kind.__name__: kind
    for kind in (KoE5, LangChain, LlamaIndex, Chroma, FastEmbed, SentenceTransformers)
}


def answer(peer: Any, ask: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked and say how long it took."""
    prefix = "" if not peer.prefixed else "query: " if ask["role"] == "query" else "passage: "
    texts = [prefix + text for text in ask["texts"]]
    began = time.perf_counter()
    if ask["do"] == "passages":
        vectors = peer.passages(texts)
    elif ask["do"] == "query":
        vectors, seconds = [], []
        for text in texts:
            start = time.perf_counter()
            vectors.append(peer.query(text))
            seconds.append(time.perf_counter() - start)
    else:
        vectors = asyncio.run(_at_once([peer.aquery(text) for text in texts]))
    taken: dict[str, Any] = {"seconds": time.perf_counter() - began}
    if ask["do"] == "query":
        taken["each"] = seconds
    if ask.get("vectors"):
        taken["vectors"] = [[float(value) for value in vector] for vector in vectors]
    return taken | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}


async def _at_once(calls: Sequence[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*calls)


def versions() -> dict[str, str]:
    """Return the versions of what is installed here of the libraries that matter."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Load the adapter named on the command line, then answer until stdin ends."""
    began = time.perf_counter()
    # Libraries print; only answers may reach the pipe.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        adapter, model, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
        peer = ADAPTERS[adapter](model, **options)
        peer.query("첫 질문")
        say(
            {
                "seconds": time.perf_counter() - began,
                "versions": versions(),
                "aquery": hasattr(peer, "aquery"),
            }
        )
        for line in sys.stdin:
            say(answer(peer, json.loads(line)))
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
        raise


if __name__ == "__main__":
    main()
