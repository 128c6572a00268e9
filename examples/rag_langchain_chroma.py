"""Answer questions about Python from its Korean FAQ, with KoE5, LangChain and Chroma.

The first run embeds the FAQ into a Chroma collection on disk; later runs open it.

  python rag_langchain_chroma.py --query "파이썬 문자열은 왜 불변인가요?"
  python rag_langchain_chroma.py --llm openai:gpt-4o-mini      # asks for questions, answers them

Keys come from the environment. openai:NAME also asks any OpenAI-compatible server, such as vLLM or
Ollama, that OPENAI_BASE_URL names.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

try:
    from langchain_chroma import Chroma
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
    from koe5_integrations.langchain import KoE5Embeddings
except ImportError as error:
    print(
        f'error: {error}\nThis example needs: pip install "koe5-integrations[rag]"', file=sys.stderr
    )
    sys.exit(2)

COLLECTION = "python_faq_langchain"


def main() -> int:
    """Fill or open the collection, then retrieve and answer."""
    args = arguments(__doc__)
    answer = load_llm(args.llm, chat_model)

    # The collection is ours: cosine space, and a fingerprint that refuses another model's vectors.
    client = open_client(args.persist_dir)
    collection = open_collection(client, COLLECTION, KoE5EmbeddingFunction(args.model))
    store = Chroma(
        client=client,
        collection_name=COLLECTION,
        embedding_function=KoE5Embeddings(model=args.model),
        create_collection_if_not_exists=False,
    )
    for passages in missing_passages(collection):
        store.add_texts(
            [passage.text for passage in passages],
            ids=[passage.doc_id for passage in passages],
            metadatas=[{"source": passage.source} for passage in passages],
        )

    def retrieve(question: str) -> list[Found]:
        hits = store.similarity_search_with_score(question, k=args.top_k)
        # What LangChain calls a score here is Chroma's distance: 1 - cosine similarity.
        return [
            Found(Passage(str(d.id), d.page_content, d.metadata["source"]), score=1 - distance)
            for d, distance in hits
        ]

    return answer_questions(args, retrieve, answer)


def chat_model(name: str) -> Answer:
    """Return what asks a chat model of LangChain; its keys come from the environment."""
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        package = f"langchain-{name.partition(':')[0].replace('_', '-')}"
        raise ImportError(f"pip install langchain {package}") from error
    llm = init_chat_model(name)

    def answer(prompt: Prompt) -> Iterator[str]:
        for chunk in llm.stream([("system", prompt.system), ("human", prompt.user)]):
            yield chunk.text

    return answer


if __name__ == "__main__":
    sys.exit(run(main))
