"""Tests of koe5_integrations.backends.static."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends import Tokens
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.static import StaticBackend
from koe5_integrations.errors import ConfigError

TEXTS = [
    "파이썬 문자열이 불변인 이유는 무엇입니까?",
    "query: 헌법",
    "模型 unknown ☃ characters",
    "a",
    "서울의 겨울은 춥고 건조하다. " * 300,
]


def test_equals_sentence_transformers(static_model: Path, tmp_path: Path) -> None:
    """The vectors are those of sentence-transformers' StaticEmbedding on the same folder."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    # In fp32, because sentence-transformers would add up in the file's own fp16.
    path = Path(shutil.copytree(static_model, tmp_path / "fp32"))
    table = load_file(path / "model.safetensors")["embedding.weight"].astype(np.float32)
    save_file({"embedding.weight": table}, path / "model.safetensors")
    expected = sentence_transformers.SentenceTransformer(str(path), device="cpu").encode(TEXTS)
    backend = StaticBackend(ModelFolder.read(path))
    np.testing.assert_allclose(backend.forward(backend.tokenize(TEXTS)), expected, atol=1e-5)


def test_half_precision_tables_are_added_up_in_single(static_model: Path) -> None:
    """An fp16 table gives the mean of its rows in fp32."""
    backend = StaticBackend(ModelFolder.read(static_model))
    tokens = backend.tokenize(TEXTS)
    table = load_file(static_model / "model.safetensors")["embedding.weight"].astype(np.float64)
    expected = [table[t.ids].mean(axis=0) for t in tokens]
    vectors = backend.forward(tokens)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_a_text_without_tokens_is_a_zero_vector_in_its_place(static_model: Path) -> None:
    """No tokens leave a row of zeros and shift no other row."""
    backend = StaticBackend(ModelFolder.read(static_model))
    full = backend.tokenize(["파이썬", "헌법"])
    none = Tokens(np.array([], dtype=np.int32), 0)
    mixed = backend.forward([none, full[0], none, full[1], none])
    np.testing.assert_array_equal(mixed[[0, 2, 4]], np.zeros((3, 16)))
    np.testing.assert_allclose(mixed[[1, 3]], backend.forward(full), atol=1e-6)
    np.testing.assert_array_equal(backend.forward([none]), np.zeros((1, 16)))


def test_reads_no_more_tokens_than_asked(static_model: Path) -> None:
    """max_seq_length= cuts a text and counts what it was."""
    backend = StaticBackend(ModelFolder.read(static_model), max_seq_length=3)
    (tokens,) = backend.tokenize([TEXTS[0]])
    (whole,) = StaticBackend(ModelFolder.read(static_model)).tokenize([TEXTS[0]])
    np.testing.assert_array_equal(tokens.ids, whole.ids[:3])
    assert tokens.uncut == whole.uncut == len(whole.ids) > 3


@pytest.mark.parametrize(
    ("option", "value"), [("device", "cuda"), ("precision", "fp16"), ("precision", "bf16")]
)
def test_refuses_devices_and_precisions(static_model: Path, option: str, value: str) -> None:
    """A static embedding runs on the CPU in fp32, and says so."""
    encoder = KoE5Encoder(static_model, **{option: value})
    with pytest.raises(ConfigError, match=f"{option}='{value}'.*run on the CPU in fp32"):
        encoder.encode_queries(["가"])


def test_refuses_the_other_kind_of_model(static_model: Path, xlm_roberta: Path) -> None:
    """A backend that can't run the folder names the one that can."""
    with pytest.raises(ConfigError, match="a transformer model: use backend='torch'"):
        KoE5Encoder(xlm_roberta, backend="static").encode_queries(["가"])
    with pytest.raises(ConfigError, match="a static model: use backend='static'"):
        KoE5Encoder(static_model, backend="torch").encode_queries(["가"])


def test_loads_no_torch(static_model: Path) -> None:
    """A static model is embedded, counted and fingerprinted without torch or transformers."""
    code = f"""
import sys
from koe5_integrations import KoE5Encoder
encoder = KoE5Encoder({str(static_model)!r})
encoder.encode_queries(["파이썬"])
encoder.count_tokens(["파이썬"], "query")
encoder.fingerprint
print(sorted({{"torch", "transformers", "sentence_transformers"}} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
