"""Embeddings kept between runs."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from tiny_models import make_static

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError, ModelLoadError
from koe5_integrations.evaluation import cache as module
from koe5_integrations.evaluation.cache import CacheWarning, EmbeddingCache, default_cache_folder

TEXTS = ["문자열은 불변이다", "서울의 겨울은 춥다", "빵을 굽는다", "문자열은 불변이다"]


@pytest.fixture
def encoder(static_model):
    return KoE5Encoder(static_model)


def rows(cache, encoder):
    with sqlite3.connect(cache.file(encoder)) as database:
        return database.execute("SELECT count(*) FROM vectors").fetchone()[0]


def test_computes_only_what_is_new(tmp_path, encoder):
    """A second run computes nothing, a third only the text it has not seen; all bit for bit."""
    cache = EmbeddingCache(tmp_path)
    first, new = cache.encode(encoder, TEXTS, "passage")
    assert new == 3
    np.testing.assert_array_equal(first, encoder.encode_passages(TEXTS))
    assert first.dtype == np.float32
    again, new = EmbeddingCache(tmp_path).encode(encoder, TEXTS, "passage")
    assert new == 0
    np.testing.assert_array_equal(again, first)
    more, new = cache.encode(encoder, ["새 글", *TEXTS], "passage")
    assert new == 1
    np.testing.assert_array_equal(more, encoder.encode_passages(["새 글", *TEXTS]))


def test_roles_do_not_mix(tmp_path, encoder):
    """The same words as a query and as a passage are two entries."""
    cache = EmbeddingCache(tmp_path)
    cache.encode(encoder, TEXTS, "passage")
    queries, new = cache.encode(encoder, TEXTS, "query")
    assert new == 3
    np.testing.assert_array_equal(queries, encoder.encode_queries(TEXTS))


def test_models_and_settings_do_not_mix(tmp_path, encoder, static_model):
    """Another model, prefix or dimension finds nothing of this one's."""
    cache = EmbeddingCache(tmp_path / "cache")
    cache.encode(encoder, TEXTS, "passage")
    others = [
        KoE5Encoder(make_static(tmp_path / "other", seed=1)),
        KoE5Encoder(static_model, passage_prompt=""),
        KoE5Encoder(static_model, max_seq_length=4, on_truncation="ignore"),
        KoE5Encoder(static_model, on_prefixed="keep"),
    ]
    for other in others:
        vectors, new = cache.encode(other, TEXTS, "passage")
        assert new == 3, other
        np.testing.assert_array_equal(vectors, other.encode_passages(TEXTS))


def test_no_texts(tmp_path, encoder):
    """No texts give no rows of the right width."""
    vectors, new = EmbeddingCache(tmp_path).encode(encoder, [], "query")
    assert (vectors.shape, new) == ((0, encoder.dim), 0)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE vectors SET vector = zeroblob(length(vector))",
        "UPDATE vectors SET vector = substr(vector, 1, 7)",
        "UPDATE vectors SET vector = x''",
        "UPDATE vectors SET vector = 'text'",
    ],
)
def test_damaged_entries_are_computed_again(tmp_path, encoder, damage):
    """An entry that fails its checksum is replaced, and the others are kept."""
    cache = EmbeddingCache(tmp_path)
    before, _ = cache.encode(encoder, TEXTS, "passage")
    with sqlite3.connect(cache.file(encoder)) as database:
        database.execute(f"{damage} WHERE rowid = 2")
    after, new = cache.encode(encoder, TEXTS, "passage")
    assert new == 1
    np.testing.assert_array_equal(after, before)
    assert cache.encode(encoder, TEXTS, "passage")[1] == 0


def test_swapped_entries_are_noticed(tmp_path, encoder):
    """A sound vector under another text's key is not taken for its own."""
    cache = EmbeddingCache(tmp_path)
    cache.encode(encoder, TEXTS, "passage")
    with sqlite3.connect(cache.file(encoder)) as database:
        database.execute("UPDATE vectors SET vector = (SELECT vector FROM vectors WHERE rowid = 1)")
    vectors, new = cache.encode(encoder, TEXTS, "passage")
    assert new == 2
    np.testing.assert_array_equal(vectors, encoder.encode_passages(TEXTS))


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_damaged_file_is_set_aside(tmp_path, encoder, keep):
    """A file that is no database any more is kept under another name, and all is computed again."""
    cache = EmbeddingCache(tmp_path)
    many = [f"{text} {i}" for i in range(100) for text in TEXTS]
    before, _ = cache.encode(encoder, many, "passage")
    file = cache.file(encoder)
    file.write_bytes(file.read_bytes()[:keep] + b"damage" * 3000)
    with pytest.warns(CacheWarning, match="set aside"):
        after, new = cache.encode(encoder, many, "passage")
    assert new == len(set(many))
    np.testing.assert_array_equal(after, before)
    assert file.with_suffix(".damaged").exists()
    assert cache.encode(encoder, many, "passage")[1] == 0


def test_an_interrupted_run_goes_on(tmp_path, encoder, monkeypatch):
    """What was computed before an interruption is there afterwards."""
    monkeypatch.setattr(module, "_SLICE", 2)
    cache = EmbeddingCache(tmp_path)
    texts = [f"{TEXTS[0]} {i}" for i in range(6)]
    encode = encoder.encode_passages

    def interrupted(slice_, **options):
        if texts[4] in slice_:
            raise KeyboardInterrupt
        return encode(slice_, **options)

    with monkeypatch.context() as patch:
        patch.setattr(encoder, "encode_passages", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.encode(encoder, texts, "passage")
    vectors, new = cache.encode(encoder, texts, "passage")
    assert new == 2
    np.testing.assert_array_equal(vectors, encode(texts))


KILLED = """
import os, sys
from koe5_integrations import KoE5Encoder
from koe5_integrations.evaluation import cache
cache._SLICE = 2
encoder = KoE5Encoder(sys.argv[1])
encode, calls = encoder.encode_passages, []
def encode_and_die(texts, **options):
    calls.append(texts)
    if len(calls) == 3:
        os._exit(9)
    return encode(texts, **options)
encoder.encode_passages = encode_and_die
cache.EmbeddingCache(sys.argv[2]).encode(encoder, [f"글 {i}" for i in range(20)], "passage")
"""


def test_a_killed_process_leaves_whole_entries(tmp_path, encoder, static_model):
    """After a sudden death the file is sound and holds the finished slices."""
    died = subprocess.run([sys.executable, "-c", KILLED, static_model, tmp_path], check=False)
    assert died.returncode == 9
    cache = EmbeddingCache(tmp_path)
    assert rows(cache, encoder) == 4
    assert cache.encode(encoder, [f"글 {i}" for i in range(20)], "passage")[1] == 16


def test_two_processes_may_share_a_file(tmp_path, encoder):
    """A cache that is being written by another can be read and written."""
    cache = EmbeddingCache(tmp_path)
    cache.encode(encoder, TEXTS[:1], "passage")
    other = sqlite3.connect(cache.file(encoder))
    other.execute("SELECT * FROM vectors").fetchone()
    assert cache.encode(encoder, TEXTS, "passage")[1] == 2
    other.close()


def test_a_file_is_no_folder(tmp_path):
    """A file where the folder should be is named."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file.*is a file"):
        EmbeddingCache(tmp_path / "file")


def test_an_unusable_folder(tmp_path, encoder):
    """A folder that can't be made is an error that names it."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="choose another folder"):
        EmbeddingCache(tmp_path / "file" / "below").encode(encoder, TEXTS, "passage")


def test_a_missing_model_is_not_blamed_on_the_cache(tmp_path):
    """An error of loading the model comes through as it is."""
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelLoadError):
        EmbeddingCache(tmp_path / "cache").encode(KoE5Encoder(tmp_path / "model"), ["글"], "query")


def test_default_folder(monkeypatch):
    """The default folder follows XDG_CACHE_HOME."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(default_cache_folder()) == "/somewhere/koe5/embeddings"
