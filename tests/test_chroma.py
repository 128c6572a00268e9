"""KoE5EmbeddingFunction and open_collection() on real Chroma: on disk, in new processes, served."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import KOREAN, make_static

pytest.importorskip("chromadb")

import chromadb
from chromadb.api import ClientAPI
from chromadb.api.types import DefaultEmbeddingFunction
from chromadb.errors import InvalidArgumentError
from chromadb.utils.embedding_functions import known_embedding_functions

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import KoE5EmbeddingFunction, open_collection
from koe5_integrations.errors import (
    CollectionError,
    ConfigError,
    EmptyTextError,
    FingerprintMismatchError,
    InvalidUnicodeError,
    UnknownModelError,
)

QUERY, TEXTS = KOREAN[0], KOREAN[1:5]
IDS = [f"doc-{i}" for i in range(len(TEXTS))]


@pytest.fixture
def client(tmp_path: Path) -> ClientAPI:
    return chromadb.PersistentClient(tmp_path / "chroma")


@pytest.fixture
def function(static_model: Path) -> KoE5EmbeddingFunction:
    return KoE5EmbeddingFunction(static_model)


def _distances(encoder: KoE5Encoder, query: str = QUERY) -> list[float]:
    """Cosine distance of each of the texts from a question."""
    return (1 - encoder.encode_passages(TEXTS) @ encoder.encode_queries([query])[0]).tolist()


def _found(collection: chromadb.Collection, query: str = QUERY) -> list[float]:
    """The same, as Chroma finds them for ``query_texts``."""
    found = collection.query(query_texts=[query], n_results=len(TEXTS), include=["distances"])
    by_id = dict(zip(found["ids"][0], found["distances"][0], strict=True))
    return [by_id[id_] for id_ in IDS]


def _run_python(script: str, *arguments: str) -> Any:
    """Run a script in a new process and return what it prints as JSON."""
    command = [sys.executable, "-X", "utf8", "-c", script, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


# The embedding function


def test_documents_are_passages_and_query_texts_are_queries(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """Distances of query_texts from added documents are those of our own vectors by role."""
    collection = open_collection(client, "docs", function)
    collection.add(ids=IDS, documents=TEXTS)
    assert _found(collection) == pytest.approx(_distances(function.encoder), abs=1e-5)
    stored = collection.get(IDS, include=["embeddings"])
    np.testing.assert_allclose(
        stored["embeddings"], function.encoder.encode_passages(TEXTS), atol=1e-6
    )


def test_the_roles_differ(function: KoE5EmbeddingFunction) -> None:
    """The same text is another vector as a question than as a document, both float32."""
    [document], [query] = function([QUERY]), function.embed_query([QUERY])
    assert document.dtype == query.dtype == np.float32
    assert document.shape == query.shape == (16,)
    assert np.dot(document, query) < 0.9999
    np.testing.assert_array_equal(document, function.encoder.encode_passages([QUERY])[0])
    np.testing.assert_array_equal(query, function.encoder.encode_queries([QUERY])[0])


def test_constructing_is_free() -> None:
    """Constructing any number of functions, of any model, loads none and reads no file of it."""
    script = """
import json, sys
from koe5_integrations.chroma import KoE5EmbeddingFunction
for _ in range(2000):
    KoE5EmbeddingFunction()
    KoE5EmbeddingFunction("koe5-mini").get_config()
    KoE5EmbeddingFunction.build_from_config({"model": "/nowhere/koe5"}).get_config()
print(json.dumps(sorted({"torch", "transformers", "safetensors"} & set(sys.modules))))
"""
    assert _run_python(script) == []


def test_the_name_is_registered_on_import() -> None:
    """Chroma knows the class by the name it stores."""
    assert KoE5EmbeddingFunction.name() == "koe5"
    assert known_embedding_functions["koe5"] is KoE5EmbeddingFunction


def test_model_and_model_name_are_the_same_argument(static_model: Path) -> None:
    """A model is given by position, as model_name or as model; two different ones are refused."""
    given = [
        KoE5EmbeddingFunction(static_model),  # type: ignore[arg-type]  # a Path works too
        KoE5EmbeddingFunction(str(static_model)),
        KoE5EmbeddingFunction(model_name=str(static_model)),
        KoE5EmbeddingFunction(model=str(static_model)),
        KoE5EmbeddingFunction(str(static_model), model=str(static_model)),
    ]
    assert [function.get_config() for function in given] == [{"model": str(static_model)}] * 5
    assert KoE5EmbeddingFunction().get_config() == {"model": "nlpai-lab/KoE5"}
    with pytest.raises(ConfigError, match="give one"):
        KoE5EmbeddingFunction("koe5-mini", model=str(static_model))


def test_an_impossible_option_is_an_error_at_once(static_model: Path) -> None:
    """Options are checked when constructing."""
    with pytest.raises(ConfigError, match="batch_size=0"):
        KoE5EmbeddingFunction(str(static_model), batch_size=0)
    with pytest.raises(UnknownModelError):
        KoE5EmbeddingFunction("nlpai-lab/KoE6")
    with pytest.raises(TypeError, match="normalise"):
        KoE5EmbeddingFunction(str(static_model), normalise=True)  # type: ignore[call-arg]  # no such


def test_progress_is_drawn_when_asked_for(
    static_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A progress bar counts documents on stderr with show_progress=True."""
    KoE5EmbeddingFunction(str(static_model), show_progress=True)(TEXTS)
    assert "4/4" in capsys.readouterr().err


def test_the_stored_configuration_decides_vectors_and_nothing_else(static_model: Path) -> None:
    """Prompts and lengths are stored; device, batch sizes and folders of the machine are not."""
    function = KoE5EmbeddingFunction(
        str(static_model),
        query_prompt="질문: ",
        max_seq_length=128,
        normalize_unicode=False,
        device="cpu",
        batch_size=8,
        cache_folder="/cache",
        on_truncation="ignore",
    )
    config = {
        "model": str(static_model),
        "query_prompt": "질문: ",
        "max_seq_length": 128,
        "normalize_unicode": False,
    }
    assert function.get_config() == config
    twin = KoE5EmbeddingFunction.build_from_config(json.loads(json.dumps(config)))
    assert twin.get_config() == config
    assert twin.encoder.fingerprint == function.encoder.fingerprint
    np.testing.assert_array_equal(twin.embed_query([QUERY]), function.embed_query([QUERY]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model": "koe5-mini", "normalise": True}, "unknown: normalise"),
        ({"model": "koe5-mini", "device": "cuda"}, "unknown: device"),
        ({"model": "koe5-mini", "trust_remote_code": True}, "unknown: trust_remote_code"),
        ({"query_prompt": "query: "}, "'model' is missing"),
        ({"model": 3}, "'model' is missing"),
        ({"model": "koe5-mini", "precision": "int4"}, "precision='int4'"),
        ({"model": "koe5-mini", "max_seq_length": "512"}, "max_seq_length='512'"),
    ],
    ids=["unknown", "machine", "code", "no model", "model", "choice", "type"],
)
def test_a_configuration_that_is_not_ours_is_refused(config: dict[str, Any], message: str) -> None:
    """Keys and values that get_config() never writes raise an error that names them."""
    with pytest.raises(ConfigError, match=message):
        KoE5EmbeddingFunction.validate_config(config)
    with pytest.raises(ConfigError, match=message):
        KoE5EmbeddingFunction.build_from_config(config)


def test_a_stored_configuration_cannot_be_changed(
    client: ClientAPI, function: KoE5EmbeddingFunction, static_model: Path
) -> None:
    """Giving a collection another configuration of our function is refused, the same one is not."""
    function.validate_config_update(function.get_config(), function.get_config())
    changed = KoE5EmbeddingFunction(str(static_model), passage_prompt="문서: ")
    with pytest.raises(ConfigError, match="can't go on with"):
        function.validate_config_update(function.get_config(), changed.get_config())
    with pytest.raises(ConfigError, match="unknown: device"):
        function.validate_config_update(function.get_config(), {"model": "x", "device": "cpu"})
    collection = open_collection(client, "docs", function)
    with pytest.raises(ConfigError, match="can't go on with"):
        collection.modify(configuration={"embedding_function": changed})


def test_cosine_is_the_default_space(client: ClientAPI, function: KoE5EmbeddingFunction) -> None:
    """A collection that Chroma itself creates with our function measures by cosine."""
    assert function.default_space() == "cosine"
    assert set(function.supported_spaces()) == {"cosine", "ip", "l2"}
    collection = client.create_collection("plain", embedding_function=function)
    assert collection.configuration_json["hnsw"]["space"] == "cosine"


# Collections


def test_a_new_process_reopens_and_queries_by_text(
    client: ClientAPI, tmp_path: Path, static_model: Path
) -> None:
    """Another process that imports us finds the same, with the function rebuilt from its config."""
    function = KoE5EmbeddingFunction(str(static_model), query_prompt="질문: ")
    open_collection(client, "docs", function).upsert(ids=IDS, documents=TEXTS)
    script = """
import json, sys
import chromadb
import koe5_integrations.chroma
collection = chromadb.PersistentClient(sys.argv[1]).get_collection("docs")
found = collection.query(query_texts=[sys.argv[2]], n_results=4, include=["distances"])
collection.upsert(ids=["new"], documents=[sys.argv[2]])
[new] = collection.get(["new"], include=["embeddings"])["embeddings"]
config = collection.configuration["embedding_function"].get_config()
print(json.dumps([found["ids"][0], found["distances"][0], config, new.tolist()]))
"""
    ids, distances, config, new = _run_python(script, str(tmp_path / "chroma"), QUERY)
    expected = dict(zip(IDS, _distances(function.encoder), strict=True))
    assert dict(zip(ids, distances, strict=True)) == pytest.approx(expected, abs=1e-5)
    assert config == function.get_config()
    assert new == pytest.approx(function.encoder.encode_passages([QUERY])[0], abs=1e-6)


def test_open_collection_creates_and_reopens(
    client: ClientAPI, function: KoE5EmbeddingFunction, static_model: Path
) -> None:
    """A new collection gets function, space, fingerprint and metadata, which re-opening keeps."""
    created = open_collection(client, "docs", function, metadata={"source": "faq", "year": 2026})
    created.add(ids=IDS, documents=TEXTS)
    same = KoE5EmbeddingFunction(str(static_model), device="cpu", batch_size=1)
    reopened = open_collection(client, "docs", same, metadata={"source": "other"})
    assert reopened.id == created.id
    assert reopened.count() == 4
    assert reopened.configuration_json["hnsw"]["space"] == "cosine"
    assert reopened.configuration_json["embedding_function"]["name"] == "koe5"
    metadata = dict(reopened.metadata)
    assert metadata.pop("koe5:fingerprint") == str(function.encoder.fingerprint)
    assert metadata.pop("koe5:fingerprint_fields") == function.encoder.fingerprint.to_json()
    assert metadata == {"source": "faq", "year": 2026}
    assert _found(reopened) == pytest.approx(_distances(function.encoder), abs=1e-5)


def test_open_collection_takes_an_encoder(client: ClientAPI, static_model: Path) -> None:
    """An encoder can be given instead of a function."""
    encoder = KoE5Encoder(static_model, query_prompt="질문: ", batch_size=3)
    collection = open_collection(client, "docs", encoder)
    collection.add(ids=IDS, documents=TEXTS)
    assert _found(collection) == pytest.approx(_distances(encoder), abs=1e-5)
    function = KoE5EmbeddingFunction(str(static_model), query_prompt="질문: ")
    assert open_collection(client, "docs", function).count() == 4


@pytest.mark.parametrize("given", ["koe5-mini", DefaultEmbeddingFunction(), object()])
def test_open_collection_takes_no_other_function(client: ClientAPI, given: Any) -> None:
    """Anything but our function or encoder is refused before a collection is made."""
    with pytest.raises(ConfigError, match="must be a KoE5EmbeddingFunction or a KoE5Encoder"):
        open_collection(client, "docs", given)
    assert client.list_collections() == []


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"query_prompt": "질문: "}, "query_prompt: 'query: ' there, '질문: ' here"),
        ({"passage_prompt": ""}, "passage_prompt: 'passage: ' there, '' here"),
        ({"max_seq_length": 128}, "max_seq_length: None there, 128 here"),
        ({"truncate_dim": 8}, "truncate_dim: None there, 8 here"),
        ({"precision": "bf16"}, "precision: 'fp32' there, 'bf16' here"),
        ({"normalize_unicode": False}, "unicode: 'NFC' there, 'none' here"),
        ({"profile": "jhgan/ko-sbert-sts"}, "normalize: True there, False here"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.filterwarnings("ignore::koe5_integrations.errors.TruncateDimWarning")  # meant here
def test_other_settings_are_refused_with_both_sides(
    client: ClientAPI,
    function: KoE5EmbeddingFunction,
    static_model: Path,
    options: dict[str, Any],
    difference: str,
) -> None:
    """A collection is not opened with any setting that makes other vectors, and stays as it is."""
    collection = open_collection(client, "docs", function)
    collection.add(ids=IDS, documents=TEXTS)
    other = KoE5EmbeddingFunction(str(static_model), **options)
    with pytest.raises(FingerprintMismatchError) as caught:
        open_collection(client, "docs", other)
    message = str(caught.value)
    assert difference in message
    assert message.count(" there, ") == (3 if "profile" in options else 1)
    assert str(function.encoder.fingerprint) in message
    assert str(other.encoder.fingerprint) in message
    assert open_collection(client, "docs", function).count() == 4


def test_another_model_is_refused_with_both_names(
    client: ClientAPI, function: KoE5EmbeddingFunction, tmp_path: Path
) -> None:
    """A collection is not opened with another model, and the error names both."""
    open_collection(client, "docs", function)
    other = KoE5EmbeddingFunction(str(make_static(tmp_path / "other", seed=1)))
    here, there = other.encoder.fingerprint, function.encoder.fingerprint
    with pytest.raises(FingerprintMismatchError) as caught:
        open_collection(client, "docs", other)
    assert f"embedded with {there.model!r}" in str(caught.value)
    assert f"not with {here.model!r}" in str(caught.value)
    assert f"weights: {there.weights!r} there, {here.weights!r} here" in str(caught.value)


def test_the_same_weights_elsewhere_open_the_collection(
    client: ClientAPI, static_model: Path, tmp_path: Path
) -> None:
    """A model folder may move: the collection opens, queries and shows its settings."""
    before, after = tmp_path / "before", tmp_path / "after"
    shutil.copytree(static_model, before)
    open_collection(client, "docs", KoE5EmbeddingFunction(str(before))).add(
        ids=IDS, documents=TEXTS
    )
    before.rename(after)
    moved = KoE5EmbeddingFunction(str(after))
    collection = open_collection(client, "docs", moved)
    assert _found(collection) == pytest.approx(_distances(moved.encoder), abs=1e-5)
    assert collection.configuration["hnsw"]["space"] == "cosine"
    by_chroma_alone = client.get_collection("docs")
    with pytest.raises(ConfigError, match="there is no such folder"):
        by_chroma_alone.query(query_texts=[QUERY])


def test_a_collection_without_fingerprint_is_refused(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """A collection of our function that was not made by open_collection() is refused."""
    client.create_collection("docs", embedding_function=function)
    with pytest.raises(CollectionError, match="has no fingerprint"):
        open_collection(client, "docs", function)
    opened = open_collection(client, "erased", function)
    opened.modify(metadata={"source": "faq"})
    with pytest.raises(CollectionError, match="has no fingerprint"):
        open_collection(client, "erased", function)


def test_a_collection_of_another_function_is_refused(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """A collection of Chroma's own function is refused by name, whatever its metadata says."""
    ours = open_collection(client, "ours", function)
    for name, metadata in (("theirs", None), ("copied", dict(ours.metadata))):
        client.create_collection(
            name, embedding_function=DefaultEmbeddingFunction(), metadata=metadata
        )
        with pytest.raises(CollectionError, match="the embedding function 'default', not 'koe5'"):
            open_collection(client, name, function)


@pytest.mark.parametrize("space", ["l2", "ip"])
def test_a_collection_in_another_space_is_refused(
    client: ClientAPI, function: KoE5EmbeddingFunction, space: str
) -> None:
    """A collection with our fingerprint that does not measure by cosine is refused."""
    metadata = dict(open_collection(client, "ours", function).metadata)
    client.create_collection(
        "docs",
        embedding_function=function,
        configuration={"hnsw": {"space": space}},
        metadata=metadata,
    )
    with pytest.raises(CollectionError, match=f"measures distance by '{space}', not 'cosine'"):
        open_collection(client, "docs", function)


def test_an_impossible_name_is_chromas_own_error(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """A name that Chroma does not allow raises Chroma's error, which says what it allows."""
    with pytest.raises(InvalidArgumentError, match="3-512 characters"):
        open_collection(client, "한글 이름", function)


def test_metadata_cannot_change_the_space_or_the_fingerprint(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """Entries of the user do not override what open_collection() promises."""
    metadata = {"hnsw:space": "l2", "koe5:fingerprint": "forged"}
    open_collection(client, "docs", function, metadata=metadata)
    collection = open_collection(client, "docs", function)
    assert collection.configuration_json["hnsw"]["space"] == "cosine"


def test_threads_that_create_one_collection_get_the_same(
    client: ClientAPI, static_model: Path
) -> None:
    """Of many threads that open a new name at once, one creates it and all can use it."""

    def work(number: int) -> tuple[object, int]:
        function = KoE5EmbeddingFunction(str(static_model))
        collection = open_collection(client, f"docs-{number // 8}", function)
        collection.upsert(ids=[str(number)], documents=[f"{number}번째 문서"])
        return collection.name, collection.id.int

    with ThreadPoolExecutor(8) as pool:
        opened = set(pool.map(work, range(40)))
    assert len(opened) == 5
    assert [client.get_collection(f"docs-{i}").count() for i in range(5)] == [8] * 5


def test_processes_that_create_one_collection_get_the_same(
    tmp_path: Path, static_model: Path
) -> None:
    """Two processes that open new names at the same moment agree on the collections."""
    chromadb.PersistentClient(tmp_path)  # the folder itself is made before the race
    script = """
import json, sys
import chromadb
from koe5_integrations.chroma import KoE5EmbeddingFunction, open_collection
client = chromadb.PersistentClient(sys.argv[1])
function = KoE5EmbeddingFunction(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
opened = [str(open_collection(client, f"docs-{i}", function).id) for i in range(20)]
print(json.dumps(opened))
"""
    command = [sys.executable, "-c", script, str(tmp_path), str(static_model)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    opened = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert opened[0] == opened[1]
    assert len(set(opened[0])) == 20


# What is stored


def test_upserting_an_id_again_replaces_its_vector(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """A changed text under the same id is found by its new vector, and there is still one of it."""
    collection = open_collection(client, "docs", function)
    collection.upsert(ids=IDS, documents=TEXTS)
    collection.upsert(ids=[IDS[0]], documents=[QUERY])
    assert collection.count() == 4
    stored = collection.get([IDS[0]], include=["embeddings", "documents"])
    assert stored["documents"] == [QUERY]
    np.testing.assert_allclose(
        stored["embeddings"], function.encoder.encode_passages([QUERY]), atol=1e-6
    )


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ("", EmptyTextError),
        ("\u200b \n", EmptyTextError),
        ("빵\ud800", InvalidUnicodeError),
    ],
    ids=["empty", "invisible", "surrogate"],
)
def test_a_bad_text_is_refused_before_anything_is_stored(
    client: ClientAPI, function: KoE5EmbeddingFunction, bad: str, error: type[Exception]
) -> None:
    """Documents and questions that can't be embedded raise our error with their position."""
    collection = open_collection(client, "docs", function)
    for write in (collection.add, collection.upsert):
        with pytest.raises(error) as caught:
            write(ids=[*IDS, "bad"], documents=[*TEXTS, bad])
        assert caught.value.position == 4
        assert collection.count() == 0
    collection.add(ids=IDS, documents=TEXTS)
    with pytest.raises(error) as caught:
        collection.update(ids=IDS[:2], documents=[QUERY, bad])
    assert caught.value.position == 1
    assert collection.get(IDS[:1])["documents"] == TEXTS[:1]
    with pytest.raises(error) as caught:
        collection.query(query_texts=[QUERY, bad])
    assert caught.value.position == 1


def test_nan_is_not_stored(client: ClientAPI, function: KoE5EmbeddingFunction) -> None:
    """Vectors of the user's own that are not finite are refused, with all that came along."""
    collection = open_collection(client, "docs", function)
    sound, broken = [1.0] * 16, [float("nan")] * 16
    with pytest.raises(InvalidArgumentError, match="NaN"):
        collection.upsert(ids=["sound", "broken"], embeddings=[sound, broken])
    assert collection.count() == 0


def test_more_documents_than_chroma_takes_at_once(
    client: ClientAPI, function: KoE5EmbeddingFunction
) -> None:
    """Six thousand texts go in by slices of get_max_batch_size(), each with its own vector."""
    collection = open_collection(client, "docs", function)
    texts = [f"{i}번째 문서" for i in range(6000)]
    size = client.get_max_batch_size()
    assert size < len(texts)
    for start in range(0, len(texts), size):
        ids = [str(i) for i in range(start, min(start + size, len(texts)))]
        collection.upsert(ids=ids, documents=texts[start : start + size])
    assert collection.count() == 6000
    some = ["0", "5460", "5461", "5999"]
    stored = collection.get(some, include=["embeddings"])
    expected = function.encoder.encode_passages([texts[int(id_)] for id_ in stored["ids"]])
    np.testing.assert_allclose(stored["embeddings"], expected, atol=1e-6)


# A server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Chroma server on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    chroma = Path(sys.executable).with_name("chroma")
    command = [chroma, "run", "--path", folder, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        heartbeat = f"http://127.0.0.1:{port}/api/v2/heartbeat"
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                with urllib.request.urlopen(heartbeat, timeout=1):
                    break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def test_a_served_collection_is_opened_filled_and_queried(
    server: int, function: KoE5EmbeddingFunction, static_model: Path
) -> None:
    """Over HTTP a collection is created, filled, re-opened and queried as on disk."""
    client = chromadb.HttpClient(host="127.0.0.1", port=server)
    open_collection(client, "docs", function, metadata={"source": "faq"}).upsert(
        ids=IDS, documents=TEXTS
    )
    another = chromadb.HttpClient(host="127.0.0.1", port=server)
    collection = open_collection(another, "docs", function)
    assert collection.metadata["source"] == "faq"
    assert collection.configuration_json["hnsw"]["space"] == "cosine"
    assert _found(collection) == pytest.approx(_distances(function.encoder), abs=1e-5)
    assert _found(another.get_collection("docs")) == pytest.approx(_found(collection))
    with pytest.raises(EmptyTextError):
        collection.upsert(ids=["bad"], documents=[""])
    with pytest.raises(FingerprintMismatchError, match="passage_prompt: 'passage: ' there, '' her"):
        open_collection(
            another, "docs", KoE5EmbeddingFunction(str(static_model), passage_prompt="")
        )


def test_clients_that_create_one_served_collection_get_the_same(
    server: int, function: KoE5EmbeddingFunction
) -> None:
    """Of several clients of a server that open a new name at once, all get the same collection."""

    def work(number: int) -> tuple[str, str]:
        client = chromadb.HttpClient(host="127.0.0.1", port=server)
        collection = open_collection(client, f"race-{number // 4}", function)
        return collection.name, str(collection.id)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(work, range(20)))) == 5
