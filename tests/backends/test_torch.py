"""Tests of koe5_integrations.backends.torch."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import KOREAN, make_xlm_roberta

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends import Tokens
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import ConfigError, DeviceMemoryError, ModelLoadError
from koe5_integrations.types import Vectors

torch = pytest.importorskip("torch")
backend_module = pytest.importorskip("koe5_integrations.backends.torch")
torch_load = pytest.importorskip("koe5_integrations.backends.torch_load")

TEXTS = ["파이썬 문자열이 불변인 이유는 무엇입니까?", "서울의 겨울은 춥다.", "헌법"]


@pytest.fixture(scope="module")
def odd_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose sizes (36 and 72) fill no register evenly."""
    return make_xlm_roberta(tmp_path_factory.mktemp("models") / "odd", dim=36, seed=5)


@pytest.fixture(params=["torch's layers", "packed layers"])
def layers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of linear layer in turn, whichever is faster here."""
    packed = request.param == "packed layers"
    if packed and not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(backend_module, "packing_pays", lambda model: packed)
    return str(request.param)


def load(folder: Path, precision: str = "fp32", **options: Any) -> Any:
    """Load a model on the CPU as the package does."""
    return backend_module.TorchBackend(
        ModelFolder.read(folder),
        **{"device": "cpu", "max_seq_length": 64, "pooling": None, **options},
        precision=precision,
    )


def one_at_a_time(folder: Path) -> Vectors:
    """Return what sentence-transformers makes of each text of KOREAN alone, in fp32."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    return np.vstack([model.encode([text], prompt="") for text in KOREAN])


def in_forked_child(work: Callable[[], Any]) -> Any:
    """Return what the work gives in a forked child, or raise what it raised there."""
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
    if isinstance(result, BaseException):
        raise result
    return result


def test_half_precision_is_close(xlm_roberta: Path) -> None:
    """bf16 gives float32 unit vectors near those of fp32, under a fingerprint of its own."""
    full = KoE5Encoder(xlm_roberta, device="cpu")
    half = KoE5Encoder(xlm_roberta, device="cpu", precision="bf16")
    expected, vectors = full.encode_passages(TEXTS), half.encode_passages(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similarity = (expected * vectors).sum(axis=1)
    assert similarity.min() > 0.999
    # Not the fp32 model again under another name.
    assert np.abs(expected - vectors).max() > 1e-5
    assert half.fingerprint.digest != full.fingerprint.digest


@pytest.mark.parametrize("device", ["cuda:99", "cud", "tpu"])
def test_refuses_a_device_that_is_not_there(xlm_roberta: Path, device: str) -> None:
    """A device that can't be used is an error of configuration that names the one that works."""
    with pytest.raises(ConfigError, match=f"device='{device}'.*device='cpu' always works"):
        KoE5Encoder(xlm_roberta, device=device).encode_queries(["가"])


def test_what_transformers_cannot_load_is_a_load_error(
    xlm_roberta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the loading library is reported as ours, with the folder's path."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise KeyError("model_type")

    monkeypatch.setattr(torch_load, "SentenceTransformer", fail)
    with pytest.raises(ModelLoadError, match="can't be loaded: 'model_type'") as caught:
        backend_module.TorchBackend(
            ModelFolder.read(xlm_roberta),
            device="cpu",
            precision="fp32",
            max_seq_length=64,
            pooling=None,
        )
    assert str(xlm_roberta) in str(caught.value)


def test_never_runs_code_from_the_folder(
    xlm_roberta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is loaded offline, from safetensors, without its code."""
    seen: dict[str, Any] = {}
    real = torch_load.SentenceTransformer

    def record(path: str, **kwargs: Any) -> Any:
        seen.update(kwargs)
        return real(path, **kwargs)

    monkeypatch.setattr(torch_load, "SentenceTransformer", record)
    backend_module.TorchBackend(
        ModelFolder.read(xlm_roberta),
        device="cpu",
        precision="fp32",
        max_seq_length=64,
        pooling=None,
    )
    assert seen["trust_remote_code"] is False
    assert seen["local_files_only"] is True
    assert seen["model_kwargs"]["use_safetensors"] is True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_works_in_a_forked_child(xlm_roberta: Path, layers: str) -> None:
    """A child forked from a process that has used the model reloads it and agrees."""
    encoder = KoE5Encoder(xlm_roberta, device="cpu")
    expected = encoder.encode_passages(TEXTS * 50)
    vectors, threads = in_forked_child(
        lambda: (encoder.encode_passages(TEXTS * 50), torch.get_num_threads())
    )
    # The parent's OpenMP threads are not there, and would be waited for.
    assert threads == 1
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_passages(TEXTS), expected[:3], atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_grandchild_works_too(xlm_roberta: Path) -> None:
    """Forking again from a forked child is no different."""
    encoder = KoE5Encoder(xlm_roberta, device="cpu")
    expected = encoder.encode_queries(TEXTS)

    def child() -> Any:
        encoder.encode_queries(TEXTS)
        return in_forked_child(lambda: encoder.encode_queries(TEXTS))

    np.testing.assert_allclose(in_forked_child(child), expected, atol=1e-5)


def test_agrees_with_sentence_transformers(odd_model: Path, layers: str) -> None:
    """A batch of texts has the vectors each has alone in sentence-transformers."""
    backend = load(odd_model)
    kinds = {type(module).__name__ for module in backend._transformer.modules()}
    assert ("PackedLinear" in kinds) == (layers == "packed layers")
    assert ("Linear" in kinds) == (layers != "packed layers")
    vectors = backend.forward(backend.tokenize(KOREAN))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, one_at_a_time(odd_model), atol=1e-5)


def test_a_folder_without_modules_is_pooled_as_told(odd_model: Path, layers: str) -> None:
    """The transformer alone, mean-pooled and normalised, has the vectors of the whole."""
    backend = load(odd_model.with_name("odd-base"), pooling="mean")
    vectors = backend.forward(backend.tokenize(KOREAN))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, one_at_a_time(odd_model), atol=1e-5)


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.999), ("fp16", 0.999), ("int8", 0.99)])
def test_lower_precisions_are_close(odd_model: Path, precision: str, least: float) -> None:
    """Fewer bits give float32 vectors near those of fp32, and not those of fp32."""
    backend = load(odd_model, precision)
    vectors = backend.forward(backend.tokenize(KOREAN))
    expected = one_at_a_time(odd_model)
    assert vectors.dtype == np.float32
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((vectors * expected).sum(axis=1) / norms).min() > least
    assert np.abs(vectors - expected).max() > 1e-5


def test_8_bits_do_not_depend_on_the_batch(odd_model: Path) -> None:
    """A text has the same vector alone as among others of its length, also in int8."""
    backend = load(odd_model, "int8")
    rng = np.random.default_rng(0)
    batch = [Tokens(rng.integers(5, 200, 20).astype(np.int32), 20) for _ in range(5)]
    alone = np.vstack([backend.forward([tokens]) for tokens in batch])
    np.testing.assert_allclose(backend.forward(batch), alone, atol=1e-6)


def test_a_model_that_handles_its_own_weights_keeps_its_layers(
    odd_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where packed weights can't be used, the model runs as it came; in int8 that is an error."""
    from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaIntermediate

    def forward(self: Any, states: Any) -> Any:
        product = torch.nn.functional.linear(states, self.dense.weight, self.dense.bias)
        return self.intermediate_act_fn(product)

    monkeypatch.setattr(XLMRobertaIntermediate, "forward", forward)
    monkeypatch.setattr(backend_module, "packing_pays", lambda model: True)
    backend = load(odd_model)
    vectors = backend.forward(backend.tokenize(KOREAN))
    np.testing.assert_allclose(vectors, one_at_a_time(odd_model), atol=1e-5)
    with pytest.raises(ConfigError, match=r"int8.*can't run in 8 bits"):
        load(odd_model, "int8")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_copies_of_a_model_run_at_the_same_time(
    odd_model: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that each have a copy get the vectors one copy gives alone."""
    monkeypatch.setattr(backend_module, "packing_pays", lambda model: True)
    copies = [load(odd_model, precision) for _ in range(3)]
    tokens = copies[0].tokenize(KOREAN)
    expected = copies[0].forward(tokens)
    results: list[list[Vectors]] = [[] for _ in copies]

    def work(at: int) -> None:
        results[at].extend(copies[at].forward(tokens) for _ in range(20))

    threads = [threading.Thread(target=work, args=(at,)) for at in range(len(copies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(found) for found in results] == [20, 20, 20]
    for found in results:
        np.testing.assert_allclose(found, [expected] * 20, atol=1e-6)


def test_what_overflows_in_half_precision_is_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Texts too large for fp16 get their fp32 vectors, the others stay as they are."""
    from safetensors.torch import load_file, save_file

    folder = make_xlm_roberta(tmp_path / "large", dim=36, seed=5, pooling="cls", normalize=False)
    # The last layer is enlarged until some texts' vectors are more than fp16 can hold.
    largest = np.sort(np.abs(one_at_a_time(folder)).max(axis=1))
    gap = int(np.diff(largest).argmax())
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if "layer.1.output.LayerNorm" in name]:
        weights[name] *= 65504 / (largest[gap] + largest[gap + 1]) * 2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    expected = one_at_a_time(folder)
    overflown = np.abs(expected).max(axis=1) > 65504
    assert 0 < overflown.sum() < len(KOREAN)
    backend = load(folder, "fp16")
    tokens = backend.tokenize(KOREAN)
    backend.forward([text for text, over in zip(tokens, overflown, strict=True) if not over])
    assert "_in_fp32" not in vars(backend)  # costs memory only from the first overflow on
    with caplog.at_level("INFO", logger="koe5_integrations"):
        vectors = backend.forward(tokens)
    assert "overflows in fp16" in caplog.text
    error = np.abs(vectors - expected).max(axis=1) / np.abs(expected).max(axis=1)
    assert error[overflown].max() < 1e-5
    assert 1e-5 < error[~overflown].max() < 1e-2


@pytest.mark.parametrize(
    "options", [{"device": "meta"}, {"compile": True}], ids=["not on the CPU", "compiled"]
)
def test_8_bits_are_for_the_cpu(odd_model: Path, options: dict[str, Any]) -> None:
    """On another device, or compiled, int8 is refused before the model is loaded."""
    with pytest.raises(ConfigError, match=r"precision='int8' with device.*precision='bf16'"):
        load(odd_model, "int8", **options)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_what_does_not_fit_into_memory_says_so(odd_model: Path) -> None:
    """An allocation that fails is a DeviceMemoryError, after which smaller batches still work."""
    resource = pytest.importorskip("resource")

    def child() -> tuple[str, Vectors]:
        backend = load(odd_model, single_thread=True)
        few = backend.tokenize(KOREAN)
        expected = backend.forward(few)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 64 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        many = [Tokens(np.full(64, 7, dtype=np.int32), 64)] * 20_000
        with pytest.raises(DeviceMemoryError) as caught:
            backend.forward(many)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        np.testing.assert_allclose(backend.forward(few), expected, atol=1e-6)
        return str(caught.value), expected

    if not Path("/proc/self/statm").exists():
        pytest.skip("this system doesn't tell how much memory a process uses")
    message, _ = in_forked_child(child)
    assert message.startswith("20000 texts of up to 64 tokens do not fit into the memory of cpu (")


@pytest.mark.parametrize("problem", ["CUDA out of memory. Tried to allocate", "shapes differ"])
def test_other_errors_are_not_taken_for_it(
    odd_model: Path, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    """Of a device's errors only those of memory are translated."""
    backend = load(odd_model)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(problem)

    monkeypatch.setattr(backend._transformer, "forward", fail)
    wanted = DeviceMemoryError if "memory" in problem else RuntimeError
    with pytest.raises(wanted, match=problem) as caught:
        backend.forward(backend.tokenize(["가"]))
    assert type(caught.value) is wanted


OF_TORCH_ITSELF = pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")


@OF_TORCH_ITSELF
def test_a_compiled_model_agrees(odd_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transformer runs as graphs of torch.compile, and no vector changes."""
    # Generating and compiling C++ of the graphs takes half a minute and is torch's own business.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    graphs = torch._dynamo.utils.counters["stats"]
    graphs.clear()
    backend = load(odd_model, compile=True)
    made = graphs["unique_graphs"]
    assert made > 0
    expected = one_at_a_time(odd_model)
    tokens = backend.tokenize(KOREAN)
    for size in (6, 3, 1):
        np.testing.assert_allclose(backend.forward(tokens[:size]), expected[:size], atol=1e-5)
    assert graphs["unique_graphs"] == made  # for other lengths and sizes too


@OF_TORCH_ITSELF
def test_compiling_without_a_compiler_says_what_is_needed(odd_model: Path) -> None:
    """A missing compiler is an error of configuration when the model is loaded."""
    from torch._inductor import config

    missing = {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    torch._dynamo.reset()
    with (
        config.patch(missing),
        pytest.raises(ConfigError, match=r"compile=True can't be done here .* C\+\+ compiler"),
    ):
        load(odd_model, compile=True)
