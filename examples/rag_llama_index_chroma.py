"""Answer questions about Python from its Korean FAQ, with KoE5, LlamaIndex and Chroma.

The first run embeds the FAQ into a Chroma collection on disk; later runs open it.

  python rag_llama_index_chroma.py --query "파이썬 문자열은 왜 불변인가요?"
  python rag_llama_index_chroma.py --llm openai:gpt-4o-mini    # asks for questions, answers them

Keys come from the environment. openai_like:NAME asks any OpenAI-compatible server, such as vLLM or
Ollama, that OPENAI_BASE_URL names.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

try:
    from llama_index.core import VectorStoreIndex
    from llama_index.core.llms import LLM, ChatMessage
    from llama_index.core.schema import TextNode
    from llama_index.vector_stores.chroma import ChromaVectorStore
    from rag_common import (
        Answer,
        Found,
        Passage,
        Prompt,
        answer_questions,
        arguments,
        load_llm,
        missing_passages,
        open_client,
        run,
    )

    from koe5_integrations.chroma import KoE5EmbeddingFunction, open_collection
    from koe5_integrations.llama_index import KoE5Embedding
except ImportError as error:
    print(
        f'error: {error}\nThis example needs: pip install "koe5-integrations[rag]"', file=sys.stderr
    )
    sys.exit(2)

COLLECTION = "python_faq_llama_index"


def main() -> int:
    """Fill or open the collection, then retrieve and answer."""
    args = arguments(__doc__)
    answer = load_llm(args.llm, chat_model)

    # The collection is ours: cosine space, and a fingerprint that refuses another model's vectors.
    client = open_client(args.persist_dir)
    collection = open_collection(client, COLLECTION, KoE5EmbeddingFunction(args.model))
    index = VectorStoreIndex.from_vector_store(
        ChromaVectorStore(chroma_collection=collection),
        embed_model=KoE5Embedding(model_name=args.model),
    )
    for passages in missing_passages(collection):
        index.insert_nodes(
            [
                TextNode(
                    id_=passage.doc_id,
                    text=passage.text,
                    metadata={"source": passage.source},
                    # Or LlamaIndex would embed the metadata too, in front of the text.
                    excluded_embed_metadata_keys=["source"],
                )
                for passage in passages
            ]
        )
    retriever = index.as_retriever(similarity_top_k=args.top_k)

    def retrieve(question: str) -> list[Found]:
        # ChromaVectorStore scores by exp(-distance), and distance here is 1 - cosine similarity.
        return [
            Found(
                Passage(hit.node.node_id, hit.node.get_content(), hit.node.metadata["source"]),
                score=1 + math.log(hit.get_score()),
            )
            for hit in retriever.retrieve(question)
        ]

    return answer_questions(args, retrieve, answer)


def chat_model(name: str) -> Answer:
    """Return what asks a chat model of LlamaIndex; its keys come from the environment."""
    provider, _, model = name.partition(":")
    try:
        module = import_module(f"llama_index.llms.{provider}")
    except ModuleNotFoundError as error:
        package = f"llama-index-llms-{provider.replace('_', '-')}"
        raise ImportError(f"pip install {package}") from error
    classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, LLM)]
    named = [c for c in classes if c.__name__.lower() == provider.replace("_", "")]
    options: dict[str, Any] = {"model": model}
    if provider.startswith("openai"):
        # The variable of OpenAI's own client, which LlamaIndex does not read.
        options |= {"api_base": os.environ.get("OPENAI_BASE_URL")}
    if provider == "openai_like":
        options |= {"is_chat_model": True}
    llm = (named or classes)[0](**options)

    def answer(prompt: Prompt) -> Iterator[str]:
        messages = [
            ChatMessage(prompt.system, role="system"),
            ChatMessage(prompt.user, role="user"),
        ]
        for piece in llm.stream_chat(messages):
            yield piece.delta or ""

    return answer


if __name__ == "__main__":
    sys.exit(run(main))
