"""Tests of the encoder's caches: the same vectors as without, computed once."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tiny_models import KOREAN, make_static

import koe5_integrations.embedding
import koe5_integrations.handle
from koe5_integrations import KoE5Encoder, release_models
from koe5_integrations.backends import Tokens
from koe5_integrations.backends.static import StaticBackend
from koe5_integrations.caching import text_keys
from koe5_integrations.caching.disk import DiskCache
from koe5_integrations.errors import (
    ConfigError,
    EmptyTextError,
    EncodingError,
    ModelLoadError,
    PrefixedTextError,
    PrefixedTextWarning,
    TruncationError,
    TruncationWarning,
)
from koe5_integrations.truncation import Truncation
from koe5_integrations.types import Role, Vectors

WAIT = 20
LONG = "서울의 겨울은 춥고 건조하며 여름은 덥고 습하다. " * 10
Cached = Callable[..., KoE5Encoder]


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """Leave out what was there before: looking through all frameworks takes half a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_in_memory() -> None:
    """Caches in memory end with their encoders, which errors that were caught may still hold."""
    gc.collect()


@pytest.fixture(params=["memory", "disk", "both"])
def cached(request: pytest.FixtureRequest, tmp_path: Path) -> Cached:
    """Make an encoder with a cache of each kind."""
    size = {"embedding_cache_size": 1000} if request.param != "disk" else {}
    folder = {"embedding_cache": tmp_path / "cache"} if request.param != "memory" else {}
    return lambda path, **options: KoE5Encoder(path, **size, **folder, **options)


@pytest.fixture
def loads(fresh_models: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of which a model has been loaded."""
    seen: list[str] = []
    load = koe5_integrations.handle.load_backend

    def counted(folder: Any, *args: Any, **options: Any) -> Any:
        seen.append(str(folder.path))
        return load(folder, *args, **options)

    monkeypatch.setattr(koe5_integrations.handle, "load_backend", counted)
    return seen


def watch_passes(
    monkeypatch: pytest.MonkeyPatch, then: Callable[[int], None] | None = None
) -> list[list[int]]:
    """Return the lengths of the texts of each pass of a static model, as they come.

    Before the nth, ``then(n)`` is called.
    """
    seen: list[list[int]] = []
    forward = StaticBackend.forward

    def watched(self: StaticBackend, batch: Sequence[Tokens]) -> Vectors:
        seen.append([len(text.ids) for text in batch])
        if then is not None:
            then(len(seen))
        return forward(self, batch)

    monkeypatch.setattr(StaticBackend, "forward", watched)
    return seen


def numbered(n: int) -> list[str]:
    """Texts of which each has another length than its neighbours."""
    return [f"{KOREAN[i % 5] * (1 + i % 3)} {i}" for i in range(n)]


# The same vectors


@pytest.mark.parametrize("kind", ["transformer", "static"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_what_was_embedded_is_found_again_bit_for_bit(
    cached: Cached, kind: str, asynchronous: bool, xlm_roberta: Path, static_model: Path
) -> None:
    """The first call equals one without a cache, the second the first, and only one computes."""
    path = xlm_roberta if kind == "transformer" else static_model
    encoder, plain = cached(path), KoE5Encoder(path)
    texts = [*KOREAN[:5], KOREAN[0]]

    def encode() -> Vectors:
        if asynchronous:
            return asyncio.run(encoder.aencode_passages(texts))
        return encoder.encode_passages(texts)

    first = encode()
    np.testing.assert_array_equal(first, plain.encode_passages(texts))
    assert encoder.computed == plain.computed == 5
    second = encode()
    np.testing.assert_array_equal(second, first)
    assert (second.dtype, second.flags.c_contiguous) == (np.float32, True)
    assert encoder.computed == 5
    np.testing.assert_array_equal(encoder.encode_passages(texts[::-1]), first[::-1])
    second[:] = 0
    np.testing.assert_array_equal(encode(), first)


def test_only_what_is_new_is_computed(cached: Cached, static_model: Path) -> None:
    """New texts among known ones are computed alone, and each vector is its text's own."""
    encoder, plain = cached(static_model), KoE5Encoder(static_model)
    texts = numbered(60)
    for part in (texts[::2], texts[10:30], texts):
        np.testing.assert_array_equal(encoder.encode_passages(part), plain.encode_passages(part))
    assert encoder.computed == 60


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[KoE5Encoder, KoE5Encoder]]:
    """Encoders that share their caches, each with one that has none.

    Of models of their own, because what is in memory lasts as long as they do.
    """
    place = tmp_path_factory.mktemp("family")
    one, other = make_static(place / "one", seed=1), make_static(place / "other", seed=2)
    options: list[dict[str, Any]] = [
        {"model": one},
        {"model": one, "on_prefixed": "keep"},
        {"model": one, "normalize_unicode": False},
        {"model": one, "query_prompt": "passage: "},
        {"model": one, "query_prompt": "", "passage_prompt": ""},
        {"model": one, "max_seq_length": 6},
        {"model": one, "truncate_dim": 8},
        {"model": other},
    ]
    with warnings.catch_warnings(action="ignore"):
        return [
            (
                KoE5Encoder(**each, embedding_cache=place / "cache", embedding_cache_size=20),
                KoE5Encoder(**each),
            )
            for each in options
        ]


TEXT = st.builds(
    lambda prefix, text, form: unicodedata.normalize(form, prefix + text),
    st.sampled_from(["", "", "query: ", "passage: ", "query: query: "]),
    st.sampled_from([*KOREAN[:3], "헌법", "0", "q", "\0헌법"]),
    st.sampled_from(["NFC", "NFD"]),
)
CALL = st.tuples(
    st.integers(0, 7), st.sampled_from(["query", "passage"]), st.lists(TEXT, max_size=5)
)


@pytest.mark.filterwarnings("ignore::koe5_integrations.errors.KoE5Warning")
@settings(derandomize=True, deadline=None, max_examples=60)
@given(calls=st.lists(CALL, min_size=1, max_size=8))
def test_no_vector_is_taken_for_anothers(
    family: list[tuple[KoE5Encoder, KoE5Encoder]], calls: list[tuple[int, Role, list[str]]]
) -> None:
    """Whatever was asked of whichever encoder before: the vectors, counts and errors are its own.

    Models, prefixes, lengths, dimensions, roles, prefixed and decomposed texts in any order.
    """
    for number, role, texts in calls:
        answers: list[Any] = []
        for encoder in family[number]:
            before = encoder.truncation
            encode = encoder.encode_queries if role == "query" else encoder.encode_passages
            try:
                vectors = encode(texts).tolist()
            except PrefixedTextError as error:
                answers.append((type(error), error.position))
                continue
            after = encoder.truncation
            cut = (after.texts - before.texts, after.tokens - before.tokens)
            answers.append((vectors, cut))
        assert answers[0] == answers[1]


@settings(derandomize=True, max_examples=300)
@given(
    a=st.tuples(st.sampled_from(["a" * 32, "b" * 32]), st.sampled_from(["query", "passage"]), TEXT),
    b=st.tuples(st.sampled_from(["a" * 32, "b" * 32]), st.sampled_from(["query", "passage"]), TEXT),
)
def test_keys_are_equal_only_for_the_same(
    a: tuple[str, Role, str], b: tuple[str, Role, str]
) -> None:
    """Two keys are one exactly if fingerprint, role and text are."""
    assert (text_keys(*a[:2], [a[2]]) == text_keys(*b[:2], [b[2]])) == (a == b)


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


# What is said and counted stays the same


def test_cut_texts_are_counted_though_cached(cached: Cached, static_model: Path) -> None:
    """A cached text that was cut is warned of and counted as if it were embedded again."""
    encoder = cached(static_model, max_seq_length=30)
    counts = []
    for texts in ([LONG], ["헌법", LONG], [LONG, LONG]):
        with pytest.warns(TruncationWarning, match=rf"positions {texts.index(LONG)}"):
            encoder.encode_passages(texts)
        counts.append(encoder.truncation)
    beyond = encoder.count_tokens([LONG], "passage")[0] - 30
    assert counts == [Truncation(n, n * beyond) for n in (1, 2, 4)]
    assert encoder.computed == 2


def test_cut_texts_are_refused_though_cached(cached: Cached, static_model: Path) -> None:
    """A text that another encoder was content to cut is refused all the same."""
    cached(static_model, max_seq_length=30, on_truncation="ignore").encode_passages(["헌법", LONG])
    strict = cached(static_model, max_seq_length=30, on_truncation="error")
    with pytest.raises(TruncationError, match="the model reads 30") as caught:
        strict.encode_passages(["헌법", LONG])
    assert caught.value.position == 1
    assert strict.computed == 0


def test_texts_are_checked_though_cached(cached: Cached, static_model: Path) -> None:
    """A bad text beside cached ones is an error at its place; a prefixed one is warned of again."""
    encoder = cached(static_model)
    for _ in range(2):
        with pytest.warns(PrefixedTextWarning, match="positions 1"):
            encoder.encode_queries(["헌법", "query: 헌법"])
    with pytest.raises(EmptyTextError) as caught:
        encoder.encode_queries(["헌법", " "])
    assert caught.value.position == 1


def test_the_progress_bar_counts_what_was_cached(
    cached: Cached, static_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends at the number of texts the caller gave."""
    encoder = cached(static_model)
    for texts in (numbered(4), numbered(6) * 2, numbered(6)):
        encoder.encode_passages(texts, show_progress=True)
        assert f"{len(texts)}/{len(texts)}" in capsys.readouterr().err


# What a cached text spares


def test_a_cached_question_loads_no_model(
    loads: list[str], cached: Cached, static_model: Path
) -> None:
    """After the model was released, a known question is answered without it."""
    encoder = cached(static_model)
    before = encoder.encode_queries(["헌법"])
    release_models()
    np.testing.assert_array_equal(encoder.encode_queries(["헌법"]), before)
    np.testing.assert_array_equal(asyncio.run(encoder.aencode_queries(["헌법"])), before)
    assert loads == [str(static_model)]


class CountingExecutor(ThreadPoolExecutor):
    submitted = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.submitted += 1
        return super().submit(*args, **kwargs)


async def test_what_is_in_memory_needs_no_thread(static_model: Path) -> None:
    """A question served from memory doesn't leave the event loop; a bulk of texts does."""
    executor = CountingExecutor(4)
    asyncio.get_running_loop().set_default_executor(executor)
    encoder = KoE5Encoder(static_model, embedding_cache_size=500)
    await encoder.aencode_queries(["헌법"])
    before = executor.submitted
    assert before > 0
    for _ in range(3):
        await encoder.aencode_queries(["헌법"])
    assert executor.submitted == before
    await encoder.aencode_queries(numbered(400))
    assert executor.submitted > before


async def test_the_disk_is_never_touched_on_the_event_loop(
    static_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening, reading and writing the file happen in other threads."""
    threads = set()
    use = DiskCache._run

    def watched(self: DiskCache, work: Any) -> Any:
        threads.add(threading.get_ident())
        return use(self, work)

    monkeypatch.setattr(DiskCache, "_run", watched)
    encoder = KoE5Encoder(
        static_model, embedding_cache=tmp_path, embedding_cache_size=5, batch_tokens=64
    )
    for texts in (["헌법"], numbered(200), ["헌법"], ["서울"], numbered(200)):
        await encoder.aencode_queries(texts)
    assert encoder.computed == 202
    assert threads
    assert threading.get_ident() not in threads


# Bulk jobs


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed is written to disk every other pass."""
    monkeypatch.setattr(koe5_integrations.embedding, "_PASSES_IN_PART", 2)


def test_a_bulk_job_is_sorted_by_length_as_a_whole(
    small_parts: None, static_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same texts share passes as without a cache, though parts are written in between."""
    texts = numbered(300)
    seen = watch_passes(monkeypatch)
    plain = KoE5Encoder(static_model, batch_tokens=256, batch_size=9)
    expected = plain.encode_passages(texts)
    without = sorted(seen)
    seen.clear()
    encoder = plain.with_cache(tmp_path)
    np.testing.assert_array_equal(encoder.encode_passages(texts), expected)
    assert len(seen) > 10
    assert sorted(seen) == without


DYING = """
import os, sys
import koe5_integrations.embedding
from koe5_integrations import KoE5Encoder
from koe5_integrations.backends.static import StaticBackend
from test_caching import numbered
koe5_integrations.embedding._PASSES_IN_PART = 2
forward, passes = StaticBackend.forward, []
def die_at_last(self, batch):
    passes.append(batch)
    if len(passes) == 12:
        os.kill(os.getpid(), 9)
    return forward(self, batch)
StaticBackend.forward = die_at_last
KoE5Encoder(sys.argv[1], embedding_cache=sys.argv[2], batch_size=10).encode_passages(numbered(300))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
def test_a_killed_job_goes_on_where_it_was(
    static_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After kill -9 all but the parts that were being computed or written is there."""
    command = [sys.executable, "-c", DYING, str(static_model), str(tmp_path)]
    died = subprocess.run(command, cwd=Path(__file__).parent, check=False, timeout=60)
    assert died.returncode == -9
    encoder = KoE5Encoder(static_model, embedding_cache=tmp_path)
    vectors = encoder.encode_passages(numbered(300))
    assert 300 - 110 <= encoder.computed <= 300 - 40
    np.testing.assert_array_equal(vectors, KoE5Encoder(static_model).encode_passages(numbered(300)))


async def test_a_cancelled_job_goes_on_where_it_was(
    small_parts: None, static_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is cancelled stops soon, and what it had written is not computed again."""
    reached, may_go_on = threading.Event(), threading.Event()

    def hold(n: int) -> None:
        if n == 12:
            reached.set()
            assert may_go_on.wait(WAIT)

    seen = watch_passes(monkeypatch, hold)
    encoder = KoE5Encoder(static_model, embedding_cache=tmp_path, batch_size=10)
    task = asyncio.create_task(encoder.aencode_passages(numbered(300)))
    assert await asyncio.to_thread(reached.wait, WAIT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_go_on.set()
    again = KoE5Encoder(static_model, embedding_cache=tmp_path, batch_size=10)
    await again.aencode_passages(numbered(300))
    assert again.computed <= 300 - 40
    assert sum(map(len, seen)) <= 300 + 3 * 40  # the parts that were under way
    assert encoder.computed == 0


def test_what_came_before_a_failure_is_kept(
    small_parts: None, static_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vector that is not finite is named at its place; the parts before it are not lost."""
    texts = [*numbered(100), "헌"]
    forward = StaticBackend.forward

    def spoil(self: StaticBackend, batch: Sequence[Tokens]) -> Vectors:
        vectors = forward(self, batch)
        vectors[[len(text.ids) == shortest for text in batch]] = np.nan
        return vectors

    encoder = KoE5Encoder(static_model, embedding_cache=tmp_path, batch_size=10)
    counts = encoder.count_tokens(texts, "passage")
    shortest = min(counts)
    assert counts.index(shortest) == 100
    with monkeypatch.context() as patch:
        patch.setattr(StaticBackend, "forward", spoil)
        with pytest.raises(EncodingError, match=r"texts\[100\]"):
            encoder.encode_passages(texts)
    encoder.encode_passages(texts)
    assert 1 <= encoder.computed <= 61


# Models that change, processes and threads


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


def test_a_fingerprint_is_taken_once(static_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading samples of the weights is not repeated by calls."""
    encoder = KoE5Encoder(static_model, embedding_cache_size=10)
    assert encoder.fingerprint is encoder.fingerprint
    encoder.encode_queries(["헌법"])
    assert encoder.fingerprint is encoder.fingerprint


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


# Options


def test_another_cache_or_none(static_model: Path, tmp_path: Path) -> None:
    """with_cache() changes the caches alone, and counts anew."""
    plain = KoE5Encoder(static_model, on_prefixed="keep", max_seq_length=9)
    plain.encode_queries(["헌법"])
    cached = plain.with_cache(tmp_path / "cache", embedding_cache_size=3)
    assert cached.config() == plain.config() | {
        "embedding_cache": str(tmp_path / "cache"),
        "embedding_cache_size": 3,
    }
    assert cached == KoE5Encoder(**cached.config())
    assert cached.fingerprint == plain.fingerprint
    for _ in range(2):
        cached.encode_queries(["헌법"])
    assert (plain.computed, cached.computed) == (1, 1)
    without = cached.with_cache()
    assert without == plain
    without.encode_queries(["헌법"])
    assert without.computed == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"embedding_cache_size": 0}, "embedding_cache_size=0 must be at least 1"),
        ({"embedding_cache_size": True}, "embedding_cache_size=True"),
        ({"embedding_cache": 7}, "embedding_cache=7 must be"),
        ({"embedding_cache": __file__}, "test_caching.py' must be a folder"),
        ({"embedding_cache": ""}, "embedding_cache='' must be a folder"),
    ],
)
def test_impossible_values_are_refused_when_made(
    static_model: Path, options: dict[str, Any], expected: str
) -> None:
    """The value is named before anything is loaded, also by with_cache()."""
    with pytest.raises(ConfigError, match=expected):
        KoE5Encoder(static_model, **options)
    encoder = KoE5Encoder(static_model)
    with pytest.raises(ConfigError, match=expected):
        encoder.with_cache(**options)


def test_an_unusable_folder_is_found_before_the_model_is_loaded(
    loads: list[str], static_model: Path, tmp_path: Path
) -> None:
    """A folder that can't be made is an error of the cache, and nothing was loaded for it."""
    (tmp_path / "file").touch()
    encoder = KoE5Encoder(static_model, embedding_cache=tmp_path / "file" / "below")
    with pytest.raises(ConfigError, match="choose another folder"):
        encoder.encode_queries(["헌법"])
    assert loads == []


def test_a_missing_model_is_not_blamed_on_the_cache(tmp_path: Path) -> None:
    """An error of finding the model comes through as it is."""
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelLoadError):
        KoE5Encoder(tmp_path / "model", embedding_cache=tmp_path / "c").encode_queries(["글"])


# Adapters


def langchain(options: dict[str, Any]) -> tuple[KoE5Encoder, Callable[[str], Any]]:
    pytest.importorskip("langchain_core")
    from koe5_integrations.langchain import KoE5Embeddings

    made = KoE5Embeddings(**options)
    return made.encoder, made.embed_query


def llama_index(options: dict[str, Any]) -> tuple[KoE5Encoder, Callable[[str], Any]]:
    pytest.importorskip("llama_index.core")
    from koe5_integrations.llama_index import KoE5Embedding

    made = KoE5Embedding(**options)
    return made.encoder, made.get_query_embedding


def chroma(options: dict[str, Any]) -> tuple[KoE5Encoder, Callable[[str], Any]]:
    pytest.importorskip("chromadb")
    from koe5_integrations.chroma import KoE5EmbeddingFunction

    made = KoE5EmbeddingFunction(**options)
    return made.encoder, lambda text: made.embed_query([text])[0].tolist()


def haystack(options: dict[str, Any]) -> tuple[KoE5Encoder, Callable[[str], Any]]:
    pytest.importorskip("haystack")
    from koe5_integrations.haystack import KoE5TextEmbedder

    made = KoE5TextEmbedder(**options)
    return made.encoder, lambda text: made.run(text)["embedding"]


@pytest.mark.parametrize("adapter", [langchain, llama_index, chroma, haystack])
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_adapters_pass_the_caches_on(
    adapter: Callable[[dict[str, Any]], tuple[KoE5Encoder, Callable[[str], Any]]],
    kind: str,
    static_model: Path,
    tmp_path: Path,
) -> None:
    """Through every framework a question asked twice is embedded once."""
    options: dict[str, Any] = {"model": str(static_model)}
    if kind == "memory":
        options["embedding_cache_size"] = 1000
    else:
        options["embedding_cache"] = str(tmp_path)
    encoder, embed_query = adapter(options)
    first = embed_query("헌법")
    assert embed_query("헌법") == first
    assert encoder.computed == 1
    encoder.encode_passages(["헌법"])
    assert encoder.computed == 2


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
