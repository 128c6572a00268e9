"""Tests of koe5_integrations.backends.onnx and openvino: exported graphs on their runtimes."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from exports import exported, tiny_koe5
from graph_samples import ENGINES, TEXTS, backend, expected_vectors, random_tokens, reference_model

from koe5_integrations import KoE5Encoder, release_models
from koe5_integrations.backends.hardware import this_machine
from koe5_integrations.errors import ConfigError, DeviceMemoryError, EncodingError
from koe5_integrations.exports import Engine

for name in ("sentence_transformers", "onnx", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(name)


@pytest.fixture(scope="module")
def reference() -> Any:
    """sentence-transformers in fp32."""
    return reference_model()


@pytest.fixture(scope="module")
def expected() -> Any:
    """The vectors of TEXTS as questions, each embedded on its own."""
    return expected_vectors()


def encoder(engine: Engine, *, int8: bool = False, **options: Any) -> KoE5Encoder:
    return KoE5Encoder(exported(engine, int8=int8), on_truncation="ignore", **options)


@pytest.mark.parametrize("engine", ENGINES)
def test_equals_sentence_transformers_one_text_at_a_time(engine: Engine, expected: Any) -> None:
    """In fp32 the vectors are those of sentence-transformers, a cut text's and twins' included."""
    vectors = encoder(engine).encode_queries(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_length_in_one_batch(engine: Engine, reference: Any) -> None:
    """Texts of 1 token up to the longest are right, alone and padded in company."""
    import torch

    batch = random_tokens(range(1, 65))
    vectors = backend(engine, exported(engine)).forward(batch)
    assert vectors.dtype == np.float32
    assert vectors.shape == (64, 32)
    for tokens, vector in zip(batch, vectors, strict=True):
        ids = torch.tensor(tokens.ids[None].astype(np.int64))
        features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with torch.inference_mode():
            for module in list(reference)[:2]:
                features = module(features)
        alone = features["sentence_embedding"][0].numpy()
        np.testing.assert_allclose(vector, alone, atol=1e-5)


@pytest.mark.parametrize(("engine", "least"), [("onnx", 0.99), ("openvino", 0.999)])
def test_int8_is_close_and_says_what_it_is(engine: Engine, least: float, expected: Any) -> None:
    """Eight bits give unit vectors near fp32's, under a fingerprint of their own."""
    small = encoder(engine, int8=True)
    vectors = small.encode_queries(TEXTS)
    assert (vectors * expected).sum(axis=1).min() > least
    assert np.abs(vectors - expected).max() > 2e-5  # not fp32 under another name
    assert small.fingerprint.precision == f"int8-{engine}"
    assert small.fingerprint.weights == KoE5Encoder(tiny_koe5()).fingerprint.weights


@pytest.mark.parametrize(("engine", "atol"), [("onnx", 2e-2), ("openvino", 1e-3)])
def test_company_hardly_changes_an_int8_vector(engine: Engine, atol: float) -> None:
    """OpenVINO scales activations by token; onnxruntime by batch, so that a vector shifts a bit."""
    batch = random_tokens([30, 17, 60, 4])
    model = backend(engine, exported(engine, int8=True), precision="int8")
    together = model.forward(batch)
    together /= np.linalg.norm(together, axis=1, keepdims=True)
    for tokens, vector in zip(batch, together, strict=True):
        (alone,) = model.forward([tokens])
        np.testing.assert_allclose(vector, alone / np.linalg.norm(alone), atol=atol)


def test_bf16_is_close_where_the_processor_knows_it(expected: Any) -> None:
    """OpenVINO computes an fp32 graph in bf16 if asked to, or says that it would gain nothing."""
    half = encoder("openvino", precision="bf16")
    if not this_machine(ask_for_gpu=False).bf16:
        with pytest.raises(ConfigError, match="no instructions for it"):
            half.encode_queries(TEXTS)
        return
    vectors = half.encode_queries(TEXTS)
    assert (vectors * expected).sum(axis=1).min() > 0.99
    assert np.abs(vectors - expected).max() > 2e-5  # not fp32 under another name
    assert half.fingerprint.precision == "bf16"


@pytest.mark.parametrize("engine", ENGINES)
def test_an_fp32_export_has_the_fingerprint_of_its_model(engine: Engine) -> None:
    """Vectors of an fp32 export and of the model itself may be compared."""
    model = KoE5Encoder(tiny_koe5(), backend="torch")
    assert encoder(engine).fingerprint.digest == model.fingerprint.digest


@pytest.mark.parametrize("engine", ENGINES)
def test_no_texts_and_many(engine: Engine, expected: Any) -> None:
    """No texts are no rows; more than a batch holds come back in order."""
    found = encoder(engine, batch_tokens=100)
    assert found.encode_queries([]).shape == (0, 32)
    many = found.encode_queries(TEXTS * 20)
    np.testing.assert_allclose(many, np.tile(expected, (20, 1)), atol=1e-5)


# Threads and processes


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_share_the_model(engine: Engine, expected: Any) -> None:
    """Callers in 16 threads each get their own vectors."""
    found = encoder(engine)
    with ThreadPoolExecutor(16) as pool:
        vectors = list(pool.map(lambda text: found.encode_queries([text])[0], TEXTS * 8))
    np.testing.assert_allclose(vectors, np.tile(expected, (8, 1)), atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pickled_encoder_loads_anew(engine: Engine) -> None:
    """Pickling carries the settings; the copy gives the same vectors."""
    found = encoder(engine)
    vectors = found.encode_queries(TEXTS)
    copy = pickle.loads(pickle.dumps(found))
    assert copy == found
    assert copy.engine == found.engine
    np.testing.assert_array_equal(copy.encode_queries(TEXTS), vectors)


def in_forked_child(work: Callable[[], Any]) -> Any:
    """Return what the work gives in a forked child, or the error it raised there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # rather than wait for ever
        try:
            result = work()
        except BaseException as error:
            result = error
        with os.fdopen(writer, "wb") as out:
            pickle.dump(result, out)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as result_file:
        result = pickle.load(result_file)
    os.waitpid(pid, 0)
    return result


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_onnxruntime_survives_a_fork() -> None:
    """A forked child loads the graph again and gets the same vectors."""
    found = encoder("onnx")
    vectors = found.encode_queries(TEXTS)
    np.testing.assert_array_equal(in_forked_child(lambda: found.encode_queries(TEXTS)), vectors)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_openvino_refuses_a_fork_rather_than_hang() -> None:
    """A child of a process that ran OpenVINO says how to start processes instead."""
    found = encoder("openvino")
    found.encode_queries(TEXTS)
    error = in_forked_child(lambda: found.encode_queries(TEXTS))
    assert isinstance(error, ConfigError)
    assert "'spawn' or 'forkserver'" in str(error)


@pytest.mark.parametrize("engine", ENGINES)
def test_runs_where_torch_cannot_be_imported(engine: Engine, expected: Any) -> None:
    """A process without torch, transformers or the exporter embeds, counts and fingerprints."""
    code = """
import importlib.abc, json, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

blocked = {"torch", "transformers", "sentence_transformers", "onnx", "onnxscript", "onnx_ir"}
sys.meta_path.insert(0, Block())
from koe5_integrations import KoE5Encoder
encoder = KoE5Encoder(sys.argv[1], on_truncation="ignore")
vectors = encoder.encode_queries(json.loads(sys.argv[2])).tolist()
counts = encoder.count_tokens(["파이썬"], "query")
print(json.dumps([vectors, counts, encoder.fingerprint.digest, encoder.engine.backend]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(exported(engine)), json.dumps(TEXTS)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    vectors, counts, digest, picked = json.loads(done.stdout)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    model = KoE5Encoder(tiny_koe5())
    assert counts == model.count_tokens(["파이썬"], "query")
    assert (digest, picked) == (model.fingerprint.digest, engine)
    assert done.stderr == ""


def test_nothing_is_left_behind() -> None:
    """Releasing the models ends the worker threads; loading again works."""
    found = encoder("onnx")
    found.encode_queries(["가"])
    release_models()
    assert found.encode_queries(["가"]).shape == (1, 32)


# Passes that fail


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_larger_than_memory_is_a_device_memory_error(engine: Engine) -> None:
    """Memory that can't be had is reported as such, and a smaller batch works afterwards."""
    code = """
import resource, sys
import numpy as np
from pathlib import Path
from koe5_integrations.backends import Tokens
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import DeviceMemoryError
engine, path = sys.argv[1:]
folder = ModelFolder.read(Path(path))
graph = folder.find_graph(engine, "fp32")
if engine == "onnx":
    from koe5_integrations.backends.onnx import OnnxBackend
    backend = OnnxBackend(folder, graph, max_seq_length=64, pooling=None)
else:
    from koe5_integrations.backends.openvino import OpenVinoBackend
    backend = OpenVinoBackend(folder, graph, precision="fp32", max_seq_length=64, pooling=None)
text = Tokens(np.full(64, 7, dtype=np.int32), 64)
first = backend.forward([text])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
try:
    backend.forward([text] * 40_000)
except DeviceMemoryError as error:
    print(error)
np.testing.assert_array_equal(backend.forward([text]), first)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs Linux' limit of address space")
    done = subprocess.run(
        [sys.executable, "-c", code, engine, str(exported(engine))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "40000 texts of up to 64 tokens don't fit into memory: ask for fewer with batch_tokens=\n"
    )


def test_other_failures_of_a_pass_are_encoding_errors() -> None:
    """A pass that fails, not for want of memory, names the graph; the next one works."""
    loaded = backend("onnx", exported("onnx"))
    beyond_the_positions = random_tokens([100])
    with pytest.raises(EncodingError, match=r"model\.onnx failed at 1 texts") as caught:
        loaded.forward(beyond_the_positions)
    assert not isinstance(caught.value, DeviceMemoryError)
    assert loaded.forward(random_tokens([3])).shape == (1, 32)
