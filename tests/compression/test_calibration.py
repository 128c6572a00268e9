"""Vectors to int8 and bits, and the file that says how."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from koe5_integrations import KoE5Encoder
from koe5_integrations.compression import Compression
from koe5_integrations.errors import (
    ConfigError,
    FingerprintMismatchError,
    KoE5Warning,
    MissingExtraError,
)
from koe5_integrations.evaluation import load_dataset

SCALARS = ("int8", "uint8")
BITS = ("binary", "ubinary")


@pytest.fixture(scope="module", autouse=True)
def _compresses() -> None:
    pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def fingerprint():
    return KoE5Encoder("koe5-mini").fingerprint


@pytest.fixture(scope="module")
def vectors():
    """Of the FAQ's 136 answers, dim 1024."""
    return KoE5Encoder("koe5-mini").encode_passages(load_dataset("python_faq_ko").corpus.values())


def random_vectors(n: int = 200, dim: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@pytest.mark.parametrize("per_dimension", [False, True])
@pytest.mark.parametrize("precision", SCALARS)
def test_a_round_trip_stays_within_half_a_step(vectors, fingerprint, precision, per_dimension):
    """Values within the range come back within half a step, in a quarter of the bytes."""
    compress = Compression.calibrate(
        vectors, precision=precision, fingerprint=fingerprint, per_dimension=per_dimension
    )
    codes = compress(vectors)
    assert codes.dtype == precision
    assert codes.shape == vectors.shape
    assert codes.nbytes * 4 == vectors.nbytes
    assert compress.per_dimension is per_dimension
    inside = (vectors >= compress.lows) & (vectors <= compress.highs)
    assert inside.mean() > 0.999
    error = np.abs(compress.decompress(codes) - vectors)
    assert (error <= compress.steps * 0.501)[inside].all()


def test_one_range_makes_codes_multiples_of_one_step(vectors, fingerprint):
    """An int8 code times the step is the value, so that codes rank as vectors in any index."""
    compress = Compression.calibrate(vectors, fingerprint=fingerprint)
    codes = compress(vectors)
    assert np.ptp(compress.steps) == 0
    np.testing.assert_allclose(codes * compress.steps, compress.decompress(codes), atol=1e-6)


@pytest.mark.parametrize("precision", SCALARS)
def test_values_out_of_range_become_the_nearest_code(fingerprint, precision):
    """Nothing wraps around: beyond the range lies the lowest or the highest code."""
    compress = Compression.calibrate(
        random_vectors(), precision=precision, fingerprint=fingerprint, per_dimension=True
    )
    huge = np.float32(1e30)
    codes = compress(np.stack([compress.lows * 0 - huge, compress.highs * 0 + huge]))
    limits = np.iinfo(precision)
    assert (codes[0] == limits.min).all()
    assert (codes[1] == limits.max).all()
    ends = compress(np.stack([compress.lows, compress.highs]))
    assert (ends == codes).all()


@pytest.mark.parametrize("dim", [1, 7, 8, 9, 20])
def test_the_first_dimension_is_the_highest_bit(fingerprint, dim):
    """Bits stand in order from the highest of the first byte, each vector in bytes of its own."""
    vectors = random_vectors(dim=dim)
    ubinary = Compression.calibrate(vectors, precision="ubinary", fingerprint=fingerprint)
    codes = ubinary(vectors)
    assert ubinary.bytes_per_vector == codes.shape[1] == (dim + 7) // 8
    for vector, code in zip(vectors, codes, strict=True):
        written = "".join(f"{byte:08b}" for byte in code)
        assert written[:dim] == "".join("1" if value > 0 else "0" for value in vector)
        assert set(written[dim:]) <= {"0"}
    np.testing.assert_array_equal(ubinary.decompress(codes), vectors > 0)


@pytest.mark.parametrize(("signed", "unsigned"), [SCALARS, BITS])
def test_signed_codes_are_unsigned_ones_less_128(fingerprint, signed, unsigned):
    """Both conventions say the same."""
    vectors = random_vectors()
    one, other = (
        Compression.calibrate(vectors, precision=p, fingerprint=fingerprint)
        for p in (signed, unsigned)
    )
    np.testing.assert_array_equal(one(vectors).astype(int) + 128, other(vectors))
    np.testing.assert_array_equal(one.decompress(one(vectors)), other.decompress(other(vectors)))


@pytest.mark.parametrize("precision", [*SCALARS, *BITS])
def test_no_vectors_make_no_codes(fingerprint, precision):
    """An empty array gives an empty array of the right width and type, there and back."""
    compress = Compression.calibrate(
        random_vectors(dim=9), precision=precision, fingerprint=fingerprint
    )
    codes = compress(np.empty((0, 9), np.float32))
    assert codes.shape == (0, compress.bytes_per_vector)
    assert codes.dtype == compress.dtype
    assert compress.decompress(codes).shape == (0, 9)


def test_what_can_not_be_compressed_is_named(fingerprint):
    """Wrong shapes, types and numbers are refused, with the row."""
    compress = Compression.calibrate(random_vectors(), fingerprint=fingerprint)
    for wrong in (np.zeros(12), np.zeros((3, 11)), np.zeros((3, 12), int), compress.steps):
        with pytest.raises(ConfigError, match=r"must be floats of the shape \(n, 12\)"):
            compress(wrong)
    for value in (np.nan, np.inf):
        broken = random_vectors()
        broken[7, 3] = value
        with pytest.raises(ConfigError, match=r"vectors\[7\] holds NaN or infinity"):
            compress(broken)
        with pytest.raises(ConfigError, match=r"vectors\[7\]"):
            Compression.calibrate(broken, fingerprint=fingerprint)
    with pytest.raises(ConfigError, match=r"vectors\[0\]"):
        compress(np.full((1, 12), 1e300))
    with pytest.raises(ConfigError, match=r"need the type int8 and the shape \(n, 12\)"):
        compress.decompress(np.zeros((2, 12), np.uint8))
    with pytest.raises(ConfigError, match="precision='int4' must be one of 'int8', 'uint8'"):
        Compression.calibrate(random_vectors(), precision="int4", fingerprint=fingerprint)


def test_small_samples(fingerprint):
    """One vector calibrates nothing; fewer than a hundred do, with a warning."""
    with pytest.raises(ConfigError, match="give 2 vectors at least"):
        Compression.calibrate(random_vectors(1), fingerprint=fingerprint)
    with pytest.warns(KoE5Warning, match="calibrated with 99 vectors only"):
        few = Compression.calibrate(random_vectors(99), fingerprint=fingerprint)
    many = Compression.calibrate(random_vectors(12_000), fingerprint=fingerprint)
    np.testing.assert_allclose(few.highs, many.highs, rtol=0.3)


def test_a_dimension_that_never_changes(fingerprint):
    """It is kept as it is, and the others with it."""
    vectors = random_vectors()
    vectors[:, 4] = 0.25
    for per_dimension in (False, True):
        compress = Compression.calibrate(
            vectors, fingerprint=fingerprint, per_dimension=per_dimension
        )
        back = compress.decompress(compress(vectors))
        assert np.abs(back - vectors)[:, 4].max() <= compress.steps[4]


def test_a_dimension_far_beyond_the_others_is_said(fingerprint):
    """One range for all would then be coarse, and the remedy is named."""
    vectors = random_vectors()
    vectors[:, 5] += 100
    with pytest.warns(KoE5Warning, match="per_dimension=True"):
        Compression.calibrate(vectors, fingerprint=fingerprint)
    Compression.calibrate(vectors, fingerprint=fingerprint, per_dimension=True)


def test_bits_of_crowded_vectors_are_cut_at_their_mean(vectors, fingerprint):
    """Where all vectors point one way a bit says on which side of the mean; else of 0."""
    plain = Compression.calibrate(vectors, precision="ubinary", fingerprint=fingerprint)
    assert not plain.lows.any()
    moved = vectors + 0.1
    crowded = Compression.calibrate(moved, precision="ubinary", fingerprint=fingerprint)
    np.testing.assert_allclose(crowded.lows, moved.mean(axis=0), atol=1e-5)
    ones = crowded.decompress(crowded(moved)).mean(axis=0)
    assert ((ones > 0.3) & (ones < 0.7)).mean() > 0.99


@pytest.mark.parametrize("precision", [*SCALARS, *BITS])
def test_a_saved_file_gives_the_same_codes(vectors, fingerprint, precision, tmp_path):
    """Saving and loading changes no byte of a code."""
    saved = Compression.calibrate(vectors + 0.1, precision=precision, fingerprint=fingerprint)
    saved.save(tmp_path / "c.json")
    # The name of a model does not decide its vectors.
    loaded = Compression.load(tmp_path / "c.json", fingerprint=replace(fingerprint, model="copy"))
    np.testing.assert_array_equal(loaded(vectors), saved(vectors))
    assert repr(loaded).startswith(f"Compression({precision}, dim=1024, ")


def test_another_models_file_is_refused(vectors, fingerprint, tmp_path):
    """What was calibrated with other settings is not used, and the difference is said."""
    Compression.calibrate(vectors, fingerprint=fingerprint).save(tmp_path / "c.json")
    other = replace(fingerprint, passage_prompt="document: ")
    with pytest.raises(
        FingerprintMismatchError, match="passage_prompt: 'passage: ' there, 'document: ' here"
    ):
        Compression.load(tmp_path / "c.json", fingerprint=other)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: json.dumps({**json.loads(text), "precision": "int4"}),
        lambda text: json.dumps({**json.loads(text), "lows": [0.0]}),
        lambda text: json.dumps({**json.loads(text), "highs": json.loads(text)["lows"]}),
        lambda text: json.dumps({**json.loads(text), "lows": [float("nan")] * 12}),
        lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "fingerprint"}),
    ],
)
def test_damaged_files_are_refused(fingerprint, tmp_path, change):
    """A file that is not as it was written is named with what to do."""
    file = tmp_path / "c.json"
    Compression.calibrate(random_vectors(), fingerprint=fingerprint).save(file)
    file.write_text(change(file.read_text()))
    with pytest.raises(ConfigError, match=r"c\.json' can't be read .*calibrate and save it again"):
        Compression.load(file, fingerprint=fingerprint)


def test_a_missing_file_is_named(fingerprint, tmp_path):
    """A path without a file is one clear error."""
    with pytest.raises(ConfigError, match=r"none\.json' can't be read \(FileNotFoundError"):
        Compression.load(tmp_path / "none.json", fingerprint=fingerprint)


def test_without_sentence_transformers_the_extra_is_named(fingerprint, monkeypatch):
    """Calibrating needs numpy only; compressing says what to install."""
    compress = Compression.calibrate(random_vectors(), fingerprint=fingerprint)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"compressing vectors needs .*\[torch\]"):
        compress(random_vectors())
