"""Tests of koe5_integrations.backends.bag: the model in the form of koe5-mini."""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_models import make_bag
from tokenizers import Tokenizer

from koe5_integrations import KoE5Encoder
from koe5_integrations.backends import Tokens
from koe5_integrations.backends.bag import BagBackend
from koe5_integrations.backends.bag_features import BigramRows, bigrams
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import ConfigError, ModelLoadError

TEXTS = [
    "파이썬 파이썬 문자열은 왜 불변인가요?",
    "헌 법",
    "模型 unknown ☃ characters_1 𝔘𠀀",
    "ㄱ",
    "☃☃",
    "서울의 겨울은 춥고 건조하다. " * 100,
    "줄\n바꿈\r\n\t파일",
    "\ud55c글",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bag(tmp_path_factory.mktemp("bag") / "model")


def spelt(text: str) -> list[str]:
    """Return the in-word bigrams of a text, written down plainly."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower())
    return [word[i : i + 2] for word in words for i in range(max(1, len(word) - 1))]


def expected(folder: Path, text: str, prompt: str) -> np.ndarray:
    """Return a text's vector by the definition, feature by feature, in float64."""
    weights = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    known = {code: i for i, code in enumerate(weights["bigrams"].tolist())}
    pieces = tokenizer.get_vocab_size()
    rows = Counter(tokenizer.encode(prompt + text, add_special_tokens=False).ids)
    for pair in spelt(text):
        code = int("".join(f"{ord(c):021b}" for c in pair), 2)
        hashed = (code * 0x9E3779B97F4A7C15 % 2**64 >> 40) % config["buckets"]
        rows[pieces + known.get(code, len(known) + hashed)] += 1
    signs = np.unpackbits(weights["bits"], axis=1)[:, :-1] * 2.0 - 1
    total = np.zeros(signs.shape[1])
    for row, count in rows.items():
        total += signs[row] * float(weights["scales"][row]) * count * 3 / (count + 2)
    length = np.linalg.norm(total)
    if prompt != "passage: ":
        return np.append(total / length, 0)
    kept = min(1, length / config["longest"]) ** 0.25
    return np.append(total / length * kept, np.sqrt(1 - kept**2))


@pytest.mark.parametrize("prompt", ["query: ", "passage: "])
def test_vectors_are_those_of_the_definition(folder: Path, prompt: str) -> None:
    """A text's vector is the weighted sum of its features' signs; passages are stretched."""
    backend = BagBackend(ModelFolder.read(folder))
    vectors = backend.forward(backend.tokenize([prompt + text for text in TEXTS]))
    assert vectors.dtype == np.float32
    for vector, text in zip(vectors, TEXTS, strict=True):
        np.testing.assert_allclose(vector, expected(folder, text, prompt), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_bigrams_are_those_of_words() -> None:
    """They are what BM25's tokenizer finds, each of its own text, nothing across two texts."""
    owners, codes = bigrams(TEXTS)
    mask = (1 << 21) - 1
    found = [
        [(chr(code >> 21) if code >> 21 else "") + chr(code & mask) for code in codes[owners == i]]
        for i in range(len(TEXTS))
    ]
    assert found == [spelt(text) for text in TEXTS]
    assert BigramRows(np.array([7]), 3, 0)([]) == []
    assert [len(rows) for rows in BigramRows(np.array([7]), 3, 0)(["", "가", " "])] == [0, 1, 0]


def test_a_text_has_the_same_vector_in_any_company(folder: Path) -> None:
    """Batch mates and their order change no bit of a vector."""
    encoder = KoE5Encoder(folder)
    together = encoder.encode_passages(TEXTS)
    for vector, text in zip(together, TEXTS, strict=True):
        np.testing.assert_array_equal(encoder.encode_passages([text])[0], vector)
    np.testing.assert_array_equal(encoder.encode_passages(TEXTS[::-1])[::-1], together)


def test_longer_passages_keep_more(folder: Path) -> None:
    """The last dimension is 0 in a question, and smaller in a passage the longer it is."""
    encoder = KoE5Encoder(folder)
    texts = [
        "문자열",
        "문자열 불변 이유",
        "제빵사는 밀가루와 물과 소금으로 빵을 굽는다. 서울의 겨울",
    ]
    assert not encoder.encode_queries(texts)[:, -1].any()
    missing = encoder.encode_passages(texts)[:, -1]
    assert missing[0] > missing[1] > missing[2] > 0


def test_a_cut_text_is_read_as_far_as_its_tokens(folder: Path) -> None:
    """With a maximum length neither tokens nor bigrams beyond it change the vector."""
    start = "헌법은 국민의 기본권을"
    encoder = KoE5Encoder(folder, max_seq_length=4, on_truncation="ignore")
    vectors = encoder.encode_passages(
        [f"{start} 보장하고 국가의 조직", f"{start} 정한다 여름은 덥고"]
    )
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_no_tokens_are_a_zero_vector_in_their_place(folder: Path) -> None:
    """What has no feature shifts no other row."""
    backend = BagBackend(ModelFolder.read(folder))
    full = backend.tokenize(["헌법", "파이썬"])
    none = Tokens(np.array([], dtype=np.int32), 0)
    mixed = backend.forward([none, full[0], none, full[1], none])
    assert not mixed[[0, 2, 4]].any()
    np.testing.assert_array_equal(mixed[[1, 3]], backend.forward(full))


def test_counts_the_tokenizers_tokens(folder: Path) -> None:
    """Bigrams are no tokens: counts are the same before and after the weights are loaded."""
    encoder = KoE5Encoder(folder)
    before = encoder.count_tokens(TEXTS, "passage")
    encoder.load()
    assert encoder.count_tokens(TEXTS, "passage") == before


def test_what_changes_vectors_changes_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    """Another saturation is another model, though the weights are the same."""
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text("utf-8"))
    (other / "config.json").write_text(json.dumps(config | {"saturation": 1.0}), encoding="utf-8")
    assert KoE5Encoder(other).fingerprint != KoE5Encoder(folder).fingerprint


def test_runs_in_numpy_only(folder: Path) -> None:
    """Torch and the graphs' engines are refused by name, as for every static model."""
    with pytest.raises(ConfigError, match="use backend='static'"):
        KoE5Encoder(folder, backend="torch").load()


def test_damaged_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    """A table whose parts don't fit each other raises as it is loaded."""
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    save_file(weights | {"scales": weights["scales"][1:]}, broken / "model.safetensors")
    with pytest.raises(ModelLoadError, match="is damaged"):
        KoE5Encoder(broken).load()
