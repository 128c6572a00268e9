"""KoE5Embeddings inside LangChain."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import KOREAN

pytest.importorskip("langchain_core")
pytest.importorskip("langchain_tests")

from langchain_core.stores import InMemoryByteStore
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from koe5_integrations.errors import (
    ConfigError,
    EmptyTextError,
    InvalidUnicodeError,
    ModelLoadError,
    PrefixedTextError,
    PrefixedTextWarning,
    TextTypeError,
    TruncationError,
    TruncationWarning,
    UnknownModelError,
)
from koe5_integrations.langchain import KoE5Embeddings

QUERY, DOCUMENTS = KOREAN[0], KOREAN[1:5]


class _OnOurModels:
    """Runs a suite of langchain-tests on each small model and on the bundled one."""

    _params: dict[str, Any]

    @pytest.fixture(autouse=True, params=["static_model", "xlm_roberta", "koe5-mini"])
    def _pick_model(self, request: pytest.FixtureRequest) -> None:
        bundled = request.param == "koe5-mini"
        model = "koe5-mini" if bundled else request.getfixturevalue(request.param)
        self._params = {"model": model}

    @property
    def embeddings_class(self) -> type[KoE5Embeddings]:
        return KoE5Embeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return self._params


class TestUnitSuite(_OnOurModels, EmbeddingsUnitTests):
    """LangChain's own unit suite for embeddings."""


class TestIntegrationSuite(_OnOurModels, EmbeddingsIntegrationTests):
    """LangChain's own integration suite for embeddings."""


@pytest.fixture
def embeddings(static_model: Path) -> KoE5Embeddings:
    return KoE5Embeddings(model=static_model)


def test_model_and_model_name_are_the_same_argument(static_model: Path) -> None:
    """A model is given as model or as model_name, as a Path or as text."""
    given = [
        KoE5Embeddings(model=static_model),
        KoE5Embeddings(model=str(static_model)),
        KoE5Embeddings(model_name=static_model),
        KoE5Embeddings(model_name=str(static_model)),
    ]
    assert all(embeddings == given[0] for embeddings in given)
    assert len({tuple(embeddings.embed_query(QUERY)) for embeddings in given}) == 1


def test_options_of_other_wrappers_reach_the_encoder(static_model: Path, tmp_path: Path) -> None:
    """The device, the cache folder and the batch size given here are the encoder's."""
    embeddings = KoE5Embeddings(
        model=static_model, device="cpu", cache_folder=tmp_path, batch_size=2, show_progress=False
    )
    assert embeddings.encoder.config() == {
        "model": str(static_model),
        "device": "cpu",
        "cache_folder": str(tmp_path),
        "batch_size": 2,
    }
    plain = KoE5Embeddings(model=static_model)
    np.testing.assert_allclose(
        embeddings.embed_documents(DOCUMENTS), plain.embed_documents(DOCUMENTS), atol=1e-6
    )


@pytest.mark.parametrize("show_progress", [True, False])
def test_progress_is_drawn_when_asked_for(
    static_model: Path, capsys: pytest.CaptureFixture[str], show_progress: bool
) -> None:
    """A progress bar counts the documents on stderr with show_progress=True, and none without."""
    KoE5Embeddings(model=static_model, show_progress=show_progress).embed_documents(DOCUMENTS)
    assert ("4/4" in capsys.readouterr().err) is show_progress


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encode_kwargs": {"prompt": "query: "}}, "encode_kwargs= is not taken: pass batch_size="),
        ({"query_encode_kwargs": {}}, "query_encode_kwargs= is not taken: .*query_prompt="),
        ({"model_kwargs": {"device": "cpu"}}, "model_kwargs= is not taken: pass device="),
        ({"multi_process": True}, "multi_process= is not taken: loaded models are shared"),
        ({"normalise": True}, "normalise= is no option of KoE5Embeddings; there are .*batch_size"),
        ({"model_name": "koe5-mini"}, "model_name= is another name .*: give one"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"batch_size": "4"}, "batch_size='4': .*integer"),
        ({"truncate_dim": True}, "truncate_dim=True: .*integer"),
        ({"device": 3}, "device=3: .*string"),
        ({"precision": "int4"}, "precision='int4': .*'fp32', 'bf16', 'fp16' or 'int8'"),
        ({"profile": "koe5"}, "profile='koe5' is not in the table"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_impossible_option_is_a_config_error(
    static_model: Path, options: dict[str, Any], message: str
) -> None:
    """An option that is unknown, elsewhere or impossible raises our error with what to do."""
    with pytest.raises(ConfigError, match=message):
        KoE5Embeddings(**{"model": static_model, **options})


def test_a_model_that_is_not_known_is_an_error_at_once(tmp_path: Path) -> None:
    """A folder that is not there and a name without prompts are refused when constructing."""
    with pytest.raises(ConfigError, match="there is no such folder"):
        KoE5Embeddings(model=tmp_path / "nowhere")
    with pytest.raises(UnknownModelError, match="did you mean 'nlpai-lab/KoE5'"):
        KoE5Embeddings(model="nlpai-lab/KoE6")


def test_a_model_that_cannot_be_had_is_an_error_at_first_use(tmp_path: Path) -> None:
    """Constructing with KoE5 needs no network; embedding without it says what to do."""
    embeddings = KoE5Embeddings(cache_folder=tmp_path)
    with pytest.raises(ModelLoadError, match="koe5-mini"):
        embeddings.embed_query(QUERY)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ("", EmptyTextError),
        (" \u200b\n", EmptyTextError),
        ("파이썬\ud800", InvalidUnicodeError),
        (None, TextTypeError),
        (3, TextTypeError),
        (["파이썬"], TextTypeError),
    ],
    ids=["empty", "invisible", "surrogate", "None", "number", "list"],
)
async def test_a_bad_text_is_an_error_with_its_position(
    embeddings: KoE5Embeddings, bad: Any, error: type[Exception]
) -> None:
    """A text that can't be embedded raises our error with its position, sync and async."""
    with pytest.raises(error) as caught:
        embeddings.embed_documents(["파이썬", bad])
    assert caught.value.position == 1
    with pytest.raises(error) as caught:
        await embeddings.aembed_documents(["파이썬", "빵", bad])
    assert caught.value.position == 2
    with pytest.raises(error) as caught:
        embeddings.embed_query(bad)
    assert caught.value.position == 0
    with pytest.raises(error):
        await embeddings.aembed_query(bad)


def test_one_text_is_no_list_of_texts(embeddings: KoE5Embeddings) -> None:
    """A bare string as documents is refused instead of embedding its letters."""
    with pytest.raises(TextTypeError, match="not a single one"):
        embeddings.embed_documents("파이썬")  # type: ignore[arg-type]  # the mistake


def test_on_prefixed_and_on_truncation_are_followed(xlm_roberta: Path) -> None:
    """Prefixed and overlong texts warn, or raise our errors where that is asked for."""
    embeddings = KoE5Embeddings(model=xlm_roberta)
    with pytest.warns(PrefixedTextWarning):
        embeddings.embed_query("query: " + QUERY)
    with pytest.warns(TruncationWarning):
        embeddings.embed_documents([QUERY * 20])
    strict = KoE5Embeddings(model=xlm_roberta, on_prefixed="error", on_truncation="error")
    with pytest.raises(PrefixedTextError):
        strict.embed_query("query: " + QUERY)
    with pytest.raises(TruncationError):
        strict.embed_documents([QUERY, QUERY * 20])


def test_warnings_point_at_the_callers_line(xlm_roberta: Path) -> None:
    """A warning names the line that called the adapter, not one of the package."""
    with pytest.warns(TruncationWarning) as caught:
        KoE5Embeddings(model=xlm_roberta).embed_documents([QUERY * 20])
    assert caught[0].filename == __file__


def test_questions_and_documents_get_their_own_prompt(embeddings: KoE5Embeddings) -> None:
    """The same text is another vector as a question than as a document, and both are floats."""
    query = embeddings.embed_query(QUERY)
    (document,) = embeddings.embed_documents([QUERY])
    assert query != document
    assert query == embeddings.encoder.encode_queries([QUERY])[0].tolist()
    assert document == embeddings.encoder.encode_passages([QUERY])[0].tolist()
    assert {type(number) for number in [*query, *document]} == {float}


async def test_no_documents_are_no_vectors(embeddings: KoE5Embeddings) -> None:
    """An empty list of documents gives an empty list."""
    assert embeddings.embed_documents([]) == []
    assert await embeddings.aembed_documents([]) == []


async def test_async_gives_the_same_vectors(embeddings: KoE5Embeddings) -> None:
    """The async twins give what the sync methods give."""
    assert await embeddings.aembed_query(QUERY) == embeddings.embed_query(QUERY)
    assert await embeddings.aembed_documents(DOCUMENTS) == embeddings.embed_documents(DOCUMENTS)


async def test_async_does_not_go_through_the_sync_methods(static_model: Path) -> None:
    """The async methods are native, not LangChain's wrapper of the sync ones in a thread."""

    class SyncRefused(KoE5Embeddings):
        def embed_query(self, text: str) -> list[float]:
            raise AssertionError("sync method called")

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise AssertionError("sync method called")

    embeddings = SyncRefused(model=static_model)
    assert len(await embeddings.aembed_query(QUERY)) == 16
    assert len(await embeddings.aembed_documents(DOCUMENTS)) == 4


async def test_many_tasks_wait_without_a_thread_each(embeddings: KoE5Embeddings) -> None:
    """Three hundred concurrent questions are answered, in order, by one thread."""
    with ThreadPoolExecutor(1) as one_thread:
        asyncio.get_running_loop().set_default_executor(one_thread)
        questions = [f"{i}번째 질문" for i in range(300)]
        vectors = await asyncio.gather(*map(embeddings.aembed_query, questions))
    np.testing.assert_allclose(vectors, embeddings.encoder.encode_queries(questions), atol=1e-6)


@pytest.mark.usefixtures("fresh_models")
async def test_the_event_loop_turns_while_the_model_loads_and_works(xlm_roberta: Path) -> None:
    """Other tasks go on while a model is loaded and while it embeds."""
    embeddings = KoE5Embeddings(model=xlm_roberta)
    documents = [f"{document} {number}" for document in DOCUMENTS for number in range(200)]
    for work in (embeddings.aembed_query(QUERY), embeddings.aembed_documents(documents)):
        task = asyncio.create_task(work)
        turns = 0
        while not task.done():
            await asyncio.sleep(0.001)
            turns += 1
        await task
        assert turns > 3


async def test_a_cancelled_task_leaves_the_model_usable(embeddings: KoE5Embeddings) -> None:
    """Cancelling a task stops its work, and the next question is answered."""
    task = asyncio.create_task(embeddings.aembed_documents(DOCUMENTS * 2000))
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await embeddings.aembed_query(QUERY) == embeddings.embed_query(QUERY)


def test_pickling_carries_the_settings_without_the_model(xlm_roberta: Path) -> None:
    """A pickle holds settings, not weights, and the copy gives the same vectors."""
    embeddings = KoE5Embeddings(model=xlm_roberta, batch_size=2)
    before = embeddings.embed_query(QUERY)
    pickled = pickle.dumps(embeddings)
    assert len(pickled) < 4096
    for twin in (pickle.loads(pickled), copy.copy(embeddings), copy.deepcopy(embeddings)):
        assert twin == embeddings
        assert repr(twin) == repr(embeddings)
        assert twin.embed_query(QUERY) == pytest.approx(before, abs=1e-6)


def test_a_pickle_works_in_a_new_process_without_torch(static_model: Path) -> None:
    """Another process unpickles the adapter, which embeds there alike and loads no torch."""
    embeddings = KoE5Embeddings(model=static_model)
    script = """
import json, pickle, sys
embeddings = pickle.loads(sys.stdin.buffer.read())
unloaded = "koe5_integrations.backends.static" not in sys.modules
vectors = [embeddings.embed_query("파이썬"), *embeddings.embed_documents(["파이썬"])]
print(json.dumps([unloaded, "torch" not in sys.modules, vectors]))
"""
    command = [sys.executable, "-X", "utf8", "-c", script]
    done = subprocess.run(
        command, input=pickle.dumps(embeddings), check=True, stdout=subprocess.PIPE
    )
    unloaded, without_torch, vectors = json.loads(done.stdout)
    assert unloaded
    assert without_torch
    assert vectors == [embeddings.embed_query("파이썬"), *embeddings.embed_documents(["파이썬"])]


def test_repr_shows_what_was_set(static_model: Path) -> None:
    """The repr holds the arguments given, and none of the defaults."""
    embeddings = KoE5Embeddings(model_name=static_model, batch_size=2)
    assert repr(embeddings) == f"KoE5Embeddings(batch_size=2, model={str(static_model)!r})"
    assert repr(KoE5Embeddings()) == "KoE5Embeddings()"


def test_equal_settings_are_equal_and_hash_alike(static_model: Path) -> None:
    """Adapters are equal, and one dictionary key, exactly if their settings are."""
    embeddings = KoE5Embeddings(model=static_model)
    assert len({embeddings, KoE5Embeddings(model=static_model)}) == 1
    embeddings.embed_query(QUERY)
    assert embeddings == KoE5Embeddings(model=static_model)
    assert embeddings != KoE5Embeddings(model=static_model, query_prompt="")
    assert embeddings != KoE5Embeddings(model="koe5-mini")


def test_settings_change_only_through_a_copy(static_model: Path) -> None:
    """Fields can't be assigned; model_copy(update=…) gives an adapter that follows the change."""
    embeddings = KoE5Embeddings(model=static_model)
    with pytest.raises(ValueError, match="frozen"):
        embeddings.query_prompt = ""
    bare = embeddings.model_copy(update={"query_prompt": ""})
    assert bare.embed_query(QUERY) == KoE5Embeddings(
        model=static_model, query_prompt=""
    ).embed_query(QUERY)
    assert bare.embed_query(QUERY) != embeddings.embed_query(QUERY)
    with pytest.raises(ConfigError, match="batch_size=0"):
        embeddings.model_copy(update={"batch_size": 0})


def test_constructing_loads_no_model_and_no_torch(static_model: Path) -> None:
    """Constructing, printing and comparing adapters reads no weights."""
    script = """
import sys
from koe5_integrations.langchain import KoE5Embeddings
for model in ("nlpai-lab/KoE5", "koe5-mini", sys.argv[1]):
    for _ in range(200):
        repr(KoE5Embeddings(model=model)) == KoE5Embeddings(model=model)
print(sorted({"torch", "transformers", "safetensors"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", script, str(static_model)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.strip() == "[]"


async def test_in_memory_vector_store_scores_are_our_cosines(embeddings: KoE5Embeddings) -> None:
    """LangChain's own store ranks by the dot products of our vectors, sync and async."""
    store = InMemoryVectorStore.from_texts(DOCUMENTS, embeddings)
    cosines = embeddings.encoder.encode_passages(DOCUMENTS) @ embeddings.encoder.encode_queries(
        [QUERY]
    ).reshape(-1)
    expected = sorted(zip(cosines, DOCUMENTS, strict=True), reverse=True)
    for found in (
        store.similarity_search_with_score(QUERY, k=4),
        await store.asimilarity_search_with_score(QUERY, k=4),
    ):
        assert [document.page_content for document, _ in found] == [text for _, text in expected]
        assert [score for _, score in found] == pytest.approx([c for c, _ in expected], abs=1e-5)


async def test_cache_backed_embeddings_keep_roles_and_models_apart(static_model: Path) -> None:
    """With the fingerprint as namespace and a store per role, no vector is shared by mistake."""
    pytest.importorskip("langchain_classic")
    from langchain_classic.embeddings import CacheBackedEmbeddings

    documents, questions = InMemoryByteStore(), InMemoryByteStore()
    for embeddings in (
        KoE5Embeddings(model=static_model),
        KoE5Embeddings(model=static_model, query_prompt="", passage_prompt=""),
    ):
        cached = CacheBackedEmbeddings.from_bytes_store(
            embeddings,
            documents,
            namespace=str(embeddings.encoder.fingerprint),
            query_embedding_cache=questions,
            key_encoder="sha256",
        )
        for _ in range(2):
            assert cached.embed_query(QUERY) == embeddings.embed_query(QUERY)
            assert cached.embed_documents([QUERY]) == embeddings.embed_documents([QUERY])
            assert await cached.aembed_query(QUERY) == embeddings.embed_query(QUERY)
            assert await cached.aembed_documents([QUERY]) == embeddings.embed_documents([QUERY])
    assert len(list(documents.yield_keys())) == len(list(questions.yield_keys())) == 2
