"""Search over codes."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from koe5_integrations import KoE5Encoder
from koe5_integrations.compression import CompressedIndex, Compression
from koe5_integrations.compression.index import _ONES
from koe5_integrations.errors import ConfigError, MissingExtraError
from koe5_integrations.evaluation import load_dataset
from koe5_integrations.evaluation.search import exact_search

TOP_K = 10
ENGINES = {"usearch": ("int8", "binary", "ubinary"), "faiss": ("ubinary",)}


@pytest.fixture(scope="module", autouse=True)
def _compresses() -> None:
    pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def fingerprint():
    return KoE5Encoder("koe5-mini").fingerprint


@pytest.fixture(scope="module")
def faq():
    """Vectors of the FAQ's 136 answers and 135 questions, and the nearest ten by floats."""
    encoder = KoE5Encoder("koe5-mini", on_prefixed="keep")
    data = load_dataset("python_faq_ko")
    passages = encoder.encode_passages(data.corpus.values())
    queries = encoder.encode_queries(data.queries[query_id] for query_id in data.qrels)
    return passages, queries, exact_search(queries, passages, TOP_K)[0]


def compressed(passages, precision, fingerprint, **options) -> CompressedIndex:
    compression = Compression.calibrate(passages, precision=precision, fingerprint=fingerprint)
    return CompressedIndex(compression, compression(passages), **options)


def recall(nearest, rows) -> float:
    pairs = zip(nearest.tolist(), rows.tolist(), strict=True)
    return float(np.mean([len(set(one) & set(other)) / TOP_K for one, other in pairs]))


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_int8_finds_what_floats_find(faq, fingerprint, precision):
    """Of the nearest ten by floats, int8 finds 99% and scores them alike."""
    passages, queries, nearest = faq
    rows, scores = compressed(passages, precision, fingerprint).search(queries, TOP_K)
    assert rows.shape == scores.shape == (len(queries), TOP_K)
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32)
    assert recall(nearest, rows) > 0.99
    products = np.einsum("qd,qkd->qk", queries, passages[rows])
    np.testing.assert_allclose(scores, products, atol=0.01)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_rescoring_bits_beats_bits(faq, fingerprint, precision):
    """Each closer look finds more: no second one, by bits, by int8, by floats."""
    passages, queries, nearest = faq
    int8 = compressed(passages, "int8", fingerprint)
    shares = [
        recall(
            nearest,
            compressed(passages, precision, fingerprint, originals=originals).search(
                queries, TOP_K, rescore_multiplier=multiplier
            )[0],
        )
        for originals, multiplier in ((None, 0), (None, 4), (int8, 4), (passages, 4), (passages, 8))
    ]
    assert shares == sorted(shares)
    hamming, by_bits, by_int8, by_floats, by_more_floats = shares
    assert by_bits > hamming + 0.05
    assert by_int8 > by_bits + 0.1
    assert by_floats >= by_int8
    assert by_more_floats > 0.99


def test_the_first_pass_counts_differing_bits(faq, fingerprint):
    """Without rescoring the score is the number of equal bits; ties keep the passages' order."""
    passages, queries, _ = faq
    rows, scores = compressed(passages, "ubinary", fingerprint).search(
        queries, len(passages), rescore_multiplier=0
    )
    equal = ((queries > 0)[:, None] == (passages > 0)[None]).sum(axis=2)
    expected = np.argsort(-equal, axis=1, kind="stable")
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, np.take_along_axis(equal, expected, axis=1))


def test_originals_give_true_scores(faq, fingerprint, tmp_path):
    """Candidates rescored by floats, left in a file, have the floats' inner products."""
    passages, queries, nearest = faq
    file = np.memmap(tmp_path / "floats", np.float32, "w+", shape=passages.shape)
    file[:] = passages
    index = compressed(passages, "binary", fingerprint, originals=file)
    rows, scores = index.search(queries, TOP_K, rescore_multiplier=len(passages))
    np.testing.assert_array_equal(rows, nearest)
    products = np.einsum("qd,qkd->qk", queries, passages[rows])
    np.testing.assert_allclose(scores, products, rtol=1e-5)


@pytest.mark.parametrize("precision", ["int8", "ubinary"])
def test_equal_passages_keep_their_order(fingerprint, precision):
    """Copies of a passage come in their order, wherever they stand."""
    rng = np.random.default_rng(0)
    passages = rng.normal(size=(5_000, 16)).astype(np.float32)
    copies = [3, 700, 4_100, 4_999]
    passages[copies] = 2 * passages[3]
    index = compressed(passages, precision, fingerprint)
    rows, scores = index.search(passages[[3]], 4, rescore_multiplier=40)
    assert rows[0].tolist() == copies
    assert len(set(scores[0].tolist())) == 1


def test_fewer_passages_than_asked_for(faq, fingerprint):
    """A small index is returned whole; no passages or no questions give empty answers."""
    passages, queries, _ = faq
    compression = Compression.calibrate(passages, fingerprint=fingerprint)
    index = CompressedIndex(compression, compression(passages[:3]))
    rows, scores = index.search(queries[:2], 10)
    assert sorted(rows[0].tolist()) == [0, 1, 2]
    assert index.search(queries[:0], 10)[0].shape == (0, 3)
    nothing = CompressedIndex(compression, compression(passages[:0]))
    rows, scores = nothing.search(queries[:2], 10)
    assert rows.shape == scores.shape == (2, 0)


def test_what_an_index_holds_in_memory(faq, fingerprint):
    """Codes count, and int8 behind bits; floats behind them lie elsewhere."""
    passages, _, _ = faq
    int8 = compressed(passages, "int8", fingerprint)
    assert int8.nbytes == passages.nbytes // 4
    assert compressed(passages, "binary", fingerprint).nbytes * 32 == passages.nbytes
    both = compressed(passages, "binary", fingerprint, originals=int8)
    assert both.nbytes == passages.nbytes // 32 + passages.nbytes // 4
    floats = compressed(passages, "binary", fingerprint, originals=passages)
    assert floats.nbytes * 32 == passages.nbytes


def test_what_does_not_fit_together_is_refused(faq, fingerprint):
    """Codes, originals, questions, numbers and engines are checked before any search."""
    passages, queries, _ = faq
    int8 = Compression.calibrate(passages, fingerprint=fingerprint)
    bits = compressed(passages, "binary", fingerprint)
    with pytest.raises(ConfigError, match="need the type int8"):
        CompressedIndex(int8, passages)
    with pytest.raises(ConfigError, match="135 originals for 136 codes"):
        CompressedIndex(int8, int8(passages), originals=passages[1:])
    with pytest.raises(ConfigError, match="give int8 or floats"):
        CompressedIndex(bits.compression, bits.codes, originals=bits)
    with pytest.raises(ConfigError, match=r"engine='faiss' with precision 'int8'"):
        CompressedIndex(int8, int8(passages), engine="faiss")
    with pytest.raises(ConfigError, match="engine='annoy'"):
        CompressedIndex(int8, int8(passages), engine="annoy")
    with pytest.raises(ConfigError, match=r"shape \(n, 1024\)"):
        bits.search(queries[:, :8], 1)
    with pytest.raises(ConfigError, match=r"vectors\[0\] holds NaN"):
        bits.search(queries * np.nan, 1)
    with pytest.raises(ConfigError, match="top_k=0"):
        bits.search(queries, 0)
    with pytest.raises(ConfigError, match="rescore_multiplier=-1"):
        bits.search(queries, 1, rescore_multiplier=-1)
    own = Compression.calibrate(passages, fingerprint=fingerprint, per_dimension=True)
    with pytest.raises(ConfigError, match="calibrate without it"):
        CompressedIndex(own, own(passages), engine="usearch")


def test_an_engine_that_is_not_installed_is_named(faq, fingerprint, monkeypatch):
    """The message says what to install, before anything is searched."""
    passages, _, _ = faq
    monkeypatch.setitem(sys.modules, "usearch", None)
    with pytest.raises(ConfigError, match="pip install usearch, or take engine='numpy'"):
        compressed(passages, "int8", fingerprint, engine="usearch")
    bits = compressed(passages, "ubinary", fingerprint)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"engine='faiss' needs .*\[torch\]"):
        CompressedIndex(bits.compression, bits.codes, engine="faiss")


def test_ones_are_counted_alike_with_every_numpy():
    """The table that serves numpy 1 says what numpy 2 counts."""
    bytes_ = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(_ONES[bytes_], np.unpackbits(bytes_[:, None], axis=1).sum(axis=1))


@pytest.mark.parametrize(
    ("engine", "precision"), [(e, p) for e, reads in ENGINES.items() for p in reads]
)
def test_engines_find_what_numpy_finds(faq, fingerprint, engine, precision):
    """sentence-transformers' searches, exact, agree with ours, whatever rescores."""
    pytest.importorskip(engine)
    passages, queries, _ = faq
    for originals in (None, passages):
        ours, theirs = (
            compressed(passages, precision, fingerprint, originals=originals, engine=name)
            for name in ("numpy", engine)
        )
        for _ in range(2):  # the second search takes the index built by the first
            rows, scores = theirs.search(queries, TOP_K, rescore_multiplier=8)
        expected, expected_scores = ours.search(queries, TOP_K, rescore_multiplier=8)
        assert recall(expected, rows) > 0.99
        np.testing.assert_allclose(scores, expected_scores, atol=0.02, rtol=0.01)
    rows, _ = theirs.search(queries, 1_000, rescore_multiplier=0)
    assert rows.shape == (len(queries), len(passages))


@pytest.mark.parametrize("engine", ENGINES)
def test_graphs_may_find_fewer(faq, fingerprint, engine):
    """An approximate search gives rows and scores of the same shape."""
    pytest.importorskip(engine)
    passages, queries, nearest = faq
    index = compressed(
        passages, "ubinary", fingerprint, originals=passages, engine=engine, exact=False
    )
    rows, scores = index.search(queries, TOP_K, rescore_multiplier=8)
    assert recall(nearest, rows) > 0.9
    assert (np.isfinite(scores) == (rows >= 0)).all()
