"""Every adapter gives sentence-transformers' vector of the prefixed text, however it is asked."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tiny_models import make_xlm_roberta

pytest.importorskip("sentence_transformers")
pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")
pytest.importorskip("chromadb")

from sentence_transformers import SentenceTransformer

from koe5_integrations.chroma import KoE5EmbeddingFunction
from koe5_integrations.errors import PrefixedTextWarning, TruncationWarning
from koe5_integrations.langchain import KoE5Embeddings
from koe5_integrations.llama_index import KoE5Embedding

TEXTS = [
    "파이썬",
    "파이썬 문자열이 불변인 이유는 무엇입니까?",
    "부동 소수점 계산이 왜 그렇게 부정확합니까?",
    "제빵사는 밀가루와 물과 소금으로 빵을 굽는다.",
    "서울의 겨울은 춥고 건조하며 여름은 덥고 습하다.",
    "헌법은 국민의 기본권을 보장하고 국가의 조직을 정한다. " * 8,
    "서울의 겨울은 춥고 건조하며 여름은 덥고 습하다.\n" * 40,
    unicodedata.normalize("NFD", "맥에서 만든 파일 이름.txt"),
    unicodedata.normalize("NFD", "헌법은 국민의 기본권을 보장한다."),
    "빵이 맛있어요 🍞😋",
    "👩‍👩‍👧‍👦",
    "Why are Python strings immutable?",
    "Python의 str은 immutable이다",
    "첫 줄\n둘째 줄\r\n\t셋째 줄",
    "  앞뒤에 공백  ",
    "ＦＵＬＬ　ｗｉｄｔｈ 글자와 ㈜회사",
    "ㅋㅋㅋㅋ ㅠㅠ",
    "漢字와 かな와 кириллица",
    "<s> </s> <mask> 특수 토큰",
    "질문: 이미 다른 말이 앞에 있는 글",
    "document: 훈련할 때의 다른 앞말",
    "!?",
]

# What a model's own configuration says of prompts, none of which may reach a vector.
TRAPS: dict[str, dict[str, Any]] = {
    "query and passage, query by default": {
        "prompts": {"query": "query: ", "passage": "passage: "},
        "default_prompt_name": "query",
    },
    "document by default": {
        "prompts": {"query": "", "document": "document: "},
        "default_prompt_name": "document",
    },
    "others by the same names": {
        "prompts": {"query": "Q: ", "passage": "P: ", "document": "D: "},
        "default_prompt_name": None,
    },
    "none": {"prompts": None, "default_prompt_name": None},
}

Embed = Callable[[Any, list[str]], Any]


def _all_at_once(method: Callable[[str], Any], texts: list[str]) -> Any:
    async def gather() -> list[Any]:
        return await asyncio.gather(*map(method, texts))

    return asyncio.run(gather())


# For each adapter and way: how questions and how texts to be found are embedded.
WAYS: dict[str, tuple[type, Embed, Embed]] = {
    "langchain alone": (
        KoE5Embeddings,
        lambda a, texts: [a.embed_query(text) for text in texts],
        lambda a, texts: [a.embed_documents([text])[0] for text in texts],
    ),
    "langchain batched": (
        KoE5Embeddings,
        lambda a, texts: [a.embed_query(text) for text in texts],
        lambda a, texts: a.embed_documents(texts),
    ),
    "langchain async alone": (
        KoE5Embeddings,
        lambda a, texts: [asyncio.run(a.aembed_query(text)) for text in texts],
        lambda a, texts: [asyncio.run(a.aembed_documents([text]))[0] for text in texts],
    ),
    "langchain async concurrent": (
        KoE5Embeddings,
        lambda a, texts: _all_at_once(a.aembed_query, texts),
        lambda a, texts: asyncio.run(a.aembed_documents(texts)),
    ),
    "llama_index alone": (
        KoE5Embedding,
        lambda a, texts: [a.get_query_embedding(text) for text in texts],
        lambda a, texts: [a.get_text_embedding(text) for text in texts],
    ),
    "llama_index batched": (
        KoE5Embedding,
        lambda a, texts: [a.get_agg_embedding_from_queries([text]) for text in texts],
        lambda a, texts: a.get_text_embedding_batch(texts),
    ),
    "llama_index async alone": (
        KoE5Embedding,
        lambda a, texts: [asyncio.run(a.aget_query_embedding(text)) for text in texts],
        lambda a, texts: [asyncio.run(a.aget_text_embedding(text)) for text in texts],
    ),
    "llama_index async concurrent": (
        KoE5Embedding,
        lambda a, texts: _all_at_once(a.aget_query_embedding, texts),
        lambda a, texts: asyncio.run(a.aget_text_embedding_batch(texts)),
    ),
    "chroma alone": (
        KoE5EmbeddingFunction,
        lambda a, texts: [a.embed_query([text])[0] for text in texts],
        lambda a, texts: [a([text])[0] for text in texts],
    ),
    "chroma batched": (
        KoE5EmbeddingFunction,
        lambda a, texts: a.embed_query(texts),
        lambda a, texts: a(texts),
    ),
}
BATCHED = ["langchain batched", "llama_index batched", "chroma batched"]


def _reference(model: Path, prefix: str, texts: list[str] = TEXTS) -> npt.NDArray[np.float32]:
    transformer = SentenceTransformer(str(model), device="cpu")
    prefixed = [prefix + text for text in texts]
    return transformer.encode(prefixed, prompt="", batch_size=1, show_progress_bar=False)


@pytest.fixture(scope="module", params=list(TRAPS), ids=lambda name: name.replace(" ", "-"))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small KoE5 whose own configuration holds one of the traps."""
    folder = tmp_path_factory.mktemp("parity") / "model"
    return make_xlm_roberta(folder, **TRAPS[request.param])


@pytest.fixture(scope="module")
def query_vectors(model: Path) -> npt.NDArray[np.float32]:
    return _reference(model, "query: ")


@pytest.fixture(scope="module")
def passage_vectors(model: Path) -> npt.NDArray[np.float32]:
    return _reference(model, "passage: ")


@pytest.mark.parametrize("way", WAYS)
def test_vectors_are_those_of_the_prefixed_text(
    model: Path,
    query_vectors: npt.NDArray[np.float32],
    passage_vectors: npt.NDArray[np.float32],
    way: str,
) -> None:
    """Whatever adapter and method, a question is ``query: …`` and a text ``passage: …``, once."""
    adapter_class, embed_queries, embed_passages = WAYS[way]
    adapter = adapter_class(model_name=str(model))
    with pytest.warns(TruncationWarning):
        queries = embed_queries(adapter, TEXTS)
    with pytest.warns(TruncationWarning):
        passages = embed_passages(adapter, TEXTS)
    np.testing.assert_allclose(queries, query_vectors, atol=1e-5)
    np.testing.assert_allclose(passages, passage_vectors, atol=1e-5)
    assert adapter.encoder.truncation.texts == 4


def test_the_trap_is_one(xlm_roberta: Path) -> None:
    """Asked the obvious way, sentence-transformers itself gives neither role its right vector."""
    transformer = SentenceTransformer(str(xlm_roberta), device="cpu")
    passages = _reference(xlm_roberta, "passage: ", TEXTS[:5])
    for wrong in (transformer.encode_document(TEXTS[:5]), transformer.encode(TEXTS[:5])):
        assert np.abs(wrong - passages).max() > 1e-2
    doubled = transformer.encode(["query: " + text for text in TEXTS[:5]])
    assert np.abs(doubled - _reference(xlm_roberta, "query: ", TEXTS[:5])).max() > 1e-2


@pytest.mark.parametrize("way", BATCHED)
def test_pickled_adapters_give_the_same_vectors(
    model: Path,
    query_vectors: npt.NDArray[np.float32],
    passage_vectors: npt.NDArray[np.float32],
    way: str,
) -> None:
    """An adapter that was pickled, before or after its first use, embeds as before."""
    adapter_class, embed_queries, embed_passages = WAYS[way]
    adapter = adapter_class(model_name=str(model), on_truncation="ignore")
    for _ in range(2):
        adapter = pickle.loads(pickle.dumps(adapter))
        np.testing.assert_allclose(embed_queries(adapter, TEXTS), query_vectors, atol=1e-5)
        np.testing.assert_allclose(embed_passages(adapter, TEXTS), passage_vectors, atol=1e-5)


@pytest.mark.parametrize("way", BATCHED)
def test_a_text_that_looks_prefixed_is_prefixed_too(xlm_roberta: Path, way: str) -> None:
    """A text that starts with a prefix gets ours in front of it, and a warning says so."""
    adapter_class, embed_queries, embed_passages = WAYS[way]
    adapter = adapter_class(model_name=str(xlm_roberta))
    texts = ["query: 파이썬", "passage: 파이썬"]
    for embed, prefix in ((embed_queries, "query: "), (embed_passages, "passage: ")):
        with pytest.warns(PrefixedTextWarning):
            vectors = embed(adapter, texts)
        np.testing.assert_allclose(vectors, _reference(xlm_roberta, prefix, texts), atol=1e-5)


def test_own_prompts_and_lengths_are_followed_alike(xlm_roberta: Path) -> None:
    """Prompts and a shorter length given by the user change every adapter's vectors alike."""
    transformer = SentenceTransformer(str(xlm_roberta), device="cpu")
    transformer.max_seq_length = 20
    expected = [
        transformer.encode([prefix + text for text in TEXTS], prompt="", show_progress_bar=False)
        for prefix in ("질문: ", "")
    ]
    for way in BATCHED:
        adapter_class, embed_queries, embed_passages = WAYS[way]
        adapter = adapter_class(
            model_name=str(xlm_roberta),
            query_prompt="질문: ",
            passage_prompt="",
            max_seq_length=20,
            on_truncation="ignore",
            on_prefixed="keep",
        )
        texts = [text for text in TEXTS if not text.startswith("질문: ")]
        rows = [i for i, text in enumerate(TEXTS) if text in texts]
        np.testing.assert_allclose(embed_queries(adapter, texts), expected[0][rows], atol=1e-5)
        np.testing.assert_allclose(embed_passages(adapter, texts), expected[1][rows], atol=1e-5)


def test_a_new_process_gives_the_same_vectors(xlm_roberta: Path) -> None:
    """Adapters unpickled in another process embed there as sentence-transformers does here."""
    options = {"model_name": str(xlm_roberta), "on_truncation": "ignore"}
    adapters = [
        KoE5Embeddings(**options),
        KoE5Embedding(**options),
        KoE5EmbeddingFunction(**options),
    ]
    script = """
import json, pickle, sys
(langchain, llama_index, chroma), texts = pickle.loads(sys.stdin.buffer.read())
json.dump(
    [
        [
            [langchain.embed_query(text) for text in texts],
            [llama_index.get_query_embedding(text) for text in texts],
            [vector.tolist() for vector in chroma.embed_query(texts)],
        ],
        [
            langchain.embed_documents(texts),
            llama_index.get_text_embedding_batch(texts),
            [vector.tolist() for vector in chroma(texts)],
        ],
    ],
    sys.stdout,
)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps((adapters, TEXTS)),
        check=True,
        stdout=subprocess.PIPE,
    )
    for by_adapter, prefix in zip(json.loads(done.stdout), ("query: ", "passage: "), strict=True):
        expected = _reference(xlm_roberta, prefix)
        for vectors in by_adapter:
            np.testing.assert_allclose(vectors, expected, atol=1e-5)
