"""Tests of who shares cached vectors: models that change, encoders, processes and threads."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_models import make_static, numbered

from koe5_integrations import KoE5Encoder, release_models

WAIT = 20
Cached = Callable[..., KoE5Encoder]

pytestmark = pytest.mark.usefixtures("nothing_in_memory")

# Models that change


def test_a_changed_model_finds_nothing_of_the_old(cached: Cached, tmp_path: Path) -> None:
    """When its files are written again, an encoder that reloads them returns new vectors only."""
    path = make_static(tmp_path / "model")
    encoder = cached(path)
    old = encoder.encode_passages(["헌법", "서울"])
    table = load_file(path / "model.safetensors")["embedding.weight"]
    release_models()
    save_file({"embedding.weight": table[::-1].copy()}, path / "model.safetensors")
    new = encoder.encode_passages(["헌법", "서울", "빵"])  # the last one needs the model
    np.testing.assert_array_equal(new, KoE5Encoder(path).encode_passages(["헌법", "서울", "빵"]))
    assert not np.allclose(new[:2], old)
    assert encoder.fingerprint == KoE5Encoder(path).fingerprint


def test_a_model_written_again_before_it_is_loaded(tmp_path: Path) -> None:
    """New weights are not stored as the old ones' that were fingerprinted before."""
    path = make_static(tmp_path / "model")
    KoE5Encoder(path, embedding_cache=tmp_path / "cache").encode_passages(["헌법"])
    release_models()
    encoder = KoE5Encoder(path, embedding_cache=tmp_path / "cache")
    encoder.encode_passages(["헌법"])  # from disk: the model is not loaded
    table = load_file(path / "model.safetensors")["embedding.weight"]
    save_file({"embedding.weight": table[::-1].copy()}, path / "model.safetensors")
    os.utime(path / "model.safetensors", ns=(1, 1))  # as if a coarse clock had ticked
    vectors = encoder.encode_passages(["헌법", "서울"])
    np.testing.assert_array_equal(vectors, KoE5Encoder(path).encode_passages(["헌법", "서울"]))
    assert encoder.fingerprint == KoE5Encoder(path).fingerprint


def test_a_fingerprint_is_taken_once(static_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading samples of the weights is not repeated by calls."""
    encoder = KoE5Encoder(static_model, embedding_cache_size=10)
    assert encoder.fingerprint is encoder.fingerprint
    encoder.encode_queries(["헌법"])
    assert encoder.fingerprint is encoder.fingerprint


# Encoders, processes and threads


def test_encoders_of_one_fingerprint_share_what_is_in_memory(static_model: Path) -> None:
    """What one has computed, another of the same vectors need not, whatever else differs."""
    one = KoE5Encoder(static_model, embedding_cache_size=10)
    two = KoE5Encoder(static_model, embedding_cache_size=5, batch_size=1, on_prefixed="keep")
    one.encode_queries(["헌법"])
    two.encode_queries(["헌법"])
    assert (one.computed, two.computed) == (1, 0)
    copied = copy.deepcopy(two)
    copied.encode_queries(["헌법"])
    assert copied.computed == 0


def test_another_process_finds_what_was_kept(static_model: Path, tmp_path: Path) -> None:
    """What one process computed, the next has, without loading the model."""
    code = """
import sys
import numpy as np
from koe5_integrations import KoE5Encoder, scheduling
encoder = KoE5Encoder(sys.argv[1], embedding_cache=sys.argv[2])
np.save(sys.argv[3], encoder.encode_queries(["헌법", "서울"]))
print(encoder.computed, len(scheduling._workers))
"""
    said = []
    for i in range(2):
        arguments = [static_model, tmp_path / "cache", tmp_path / f"{i}.npy"]
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        said.append(done.stdout.split())
    assert said == [["2", "1"], ["0", "0"]]
    vectors = [np.load(tmp_path / f"{i}.npy") for i in range(2)]
    np.testing.assert_array_equal(*vectors)


def test_pickles_carry_no_vectors(cached: Cached, static_model: Path) -> None:
    """An encoder that has cached thousands of vectors pickles as small as a new one, and equal."""
    encoder = cached(static_model)
    encoder.encode_passages(numbered(900))
    pickled = pickle.dumps(encoder)
    assert len(pickled) < 5000
    again = pickle.loads(pickled)
    assert again == encoder
    assert (again.computed, again.config()) == (0, encoder.config())
    np.testing.assert_array_equal(again.encode_queries(["빵"]), encoder.encode_queries(["빵"]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_forked_child_has_caches_of_its_own(
    cached: Cached, static_model: Path, tmp_path: Path
) -> None:
    """A child forgets what was in memory, shares what is on disk, and its parent goes on."""
    encoder = cached(static_model)
    expected = encoder.encode_queries(["헌법", "서울"])
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            before = encoder.computed
            np.save(tmp_path / "child.npy", encoder.encode_queries(["헌법", "서울"]))
            computed = encoder.computed - before
            encoder.encode_queries(["빵"])
            status = 10 + computed
        finally:
            os._exit(status)
    on_disk = "embedding_cache" in encoder.config()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (10 if on_disk else 12)
    np.testing.assert_array_equal(np.load(tmp_path / "child.npy"), expected)
    np.testing.assert_array_equal(encoder.encode_queries(["헌법", "서울"]), expected)
    encoder.encode_queries(["빵"])
    assert encoder.computed == (2 if on_disk else 3)


def test_threads_get_their_own_vectors(cached: Cached, static_model: Path) -> None:
    """Sixty-four threads, queries and passages, new and known: every vector is right."""
    texts = numbered(120)
    plain = KoE5Encoder(static_model)
    expected = {"query": plain.encode_queries(texts), "passage": plain.encode_passages(texts)}
    encoder = cached(static_model)
    start = threading.Barrier(64)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        start.wait(WAIT)
        for _ in range(4):
            picks = rng.integers(0, len(texts), size=rng.integers(1, 30))
            chosen = [texts[i] for i in picks]
            role = "query" if rng.integers(2) else "passage"
            if role == "query":
                vectors = encoder.encode_queries(chosen)
            else:
                vectors = encoder.encode_passages(chosen)
            np.testing.assert_array_equal(vectors, expected[role][picks])

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(work, range(64)))
