"""KoE5Encoder.supplying(): vectors that are known are not computed."""

from __future__ import annotations

import asyncio
import pickle
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny_models import KOREAN

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError, EmptyTextError
from koe5_integrations.types import Vectors

TEXTS = KOREAN[:3]


@pytest.fixture
def encoder(static_model: Path) -> KoE5Encoder:
    return KoE5Encoder(static_model)


@pytest.fixture
def marked(encoder: KoE5Encoder) -> Vectors:
    """Vectors that the model would not give, so that theirs can be told apart."""
    return np.eye(len(TEXTS), encoder.dim, dtype=np.float32)


def test_known_texts_are_not_computed(encoder: KoE5Encoder, marked: Vectors) -> None:
    """Within the block known texts get their vectors, in any order and number, uncounted."""
    with encoder.supplying(TEXTS, marked):
        got = encoder.encode_passages([TEXTS[2], TEXTS[0], TEXTS[2]])
    np.testing.assert_array_equal(got, marked[[2, 0, 2]])
    assert encoder.computed == 0


def test_other_texts_are_computed(encoder: KoE5Encoder, marked: Vectors) -> None:
    """A text that was not supplied is computed beside those that were, and counted."""
    with encoder.supplying(TEXTS, marked):
        got = encoder.encode_passages([KOREAN[4], TEXTS[1], KOREAN[3]])
    assert encoder.computed == 2
    np.testing.assert_array_equal(got[1], marked[1])
    np.testing.assert_allclose(got[[0, 2]], encoder.encode_passages([KOREAN[4], KOREAN[3]]))


def test_roles_stay_apart(encoder: KoE5Encoder, marked: Vectors) -> None:
    """A question in the words of a supplied passage is computed, and the other way round."""
    plain = encoder.encode_queries(TEXTS)
    with encoder.supplying(TEXTS, marked):
        np.testing.assert_array_equal(encoder.encode_queries(TEXTS), plain)
    with encoder.supplying(TEXTS, marked, role="query"):
        np.testing.assert_array_equal(encoder.encode_queries(TEXTS), marked)


@pytest.mark.parametrize("options", [{}, {"embedding_cache_size": 10}], ids=["plain", "cached"])
def test_nothing_remains_after_the_block(
    static_model: Path, marked: Vectors, options: dict[str, int], tmp_path: Path
) -> None:
    """What was supplied is computed again afterwards, and no cache has kept it."""
    encoder = KoE5Encoder(static_model, embedding_cache=tmp_path, **options)
    with encoder.supplying(TEXTS, marked):
        encoder.encode_passages(TEXTS)
    with pytest.raises(EmptyTextError), encoder.supplying(TEXTS, marked):
        encoder.encode_passages([*TEXTS, ""])
    expected = KoE5Encoder(static_model).encode_passages(TEXTS)
    np.testing.assert_array_equal(encoder.encode_passages(TEXTS), expected)


def test_other_encoders_know_nothing_of_it(
    encoder: KoE5Encoder, static_model: Path, marked: Vectors
) -> None:
    """An equal encoder, one with another cache and a pickled one compute."""
    plain = encoder.encode_passages(TEXTS)
    with encoder.supplying(TEXTS, marked):
        for other in (
            KoE5Encoder(static_model),
            encoder.with_cache(embedding_cache_size=5),
            pickle.loads(pickle.dumps(encoder)),
        ):
            np.testing.assert_array_equal(other.encode_passages(TEXTS), plain)


def test_it_holds_in_every_thread(encoder: KoE5Encoder, marked: Vectors) -> None:
    """Calls from other threads and from event loops get the supplied vectors too."""
    with encoder.supplying(TEXTS, marked), ThreadPoolExecutor(2) as threads:
        got = [threads.submit(encoder.encode_passages, TEXTS) for _ in range(4)]
        in_loop = threads.submit(asyncio.run, encoder.aencode_passages(TEXTS))
        for future in [*got, in_loop]:
            np.testing.assert_array_equal(future.result(), marked)
    assert encoder.computed == 0


def test_blocks_of_several_threads_do_not_disturb_each_other(encoder: KoE5Encoder) -> None:
    """Of blocks that overlap, each supplies its texts until its own end."""
    rows = np.eye(8, encoder.dim, dtype=np.float32)

    def supply(number: int) -> None:
        text, row = [f"{number}번 글"], rows[number : number + 1]
        for _ in range(25):
            with encoder.supplying(text, row):
                np.testing.assert_array_equal(encoder.encode_passages(text), row)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(supply, range(8)))
    assert encoder.computed == 0


def test_text_is_recognised_in_its_normal_form(encoder: KoE5Encoder, marked: Vectors) -> None:
    """Decomposed Hangul is the same text, as it is for the model."""
    with encoder.supplying([unicodedata.normalize("NFD", text) for text in TEXTS], marked):
        np.testing.assert_array_equal(encoder.encode_passages(TEXTS), marked)


def test_what_can_be_no_vectors_is_refused(encoder: KoE5Encoder, marked: Vectors) -> None:
    """Too few vectors, of another length or not finite, or a text that is none, are refused."""
    for wrong in (marked[:2], marked[:, :5], marked * np.nan):
        with pytest.raises(ConfigError, match="one for each text"), encoder.supplying(TEXTS, wrong):
            pass
    with pytest.raises(EmptyTextError), encoder.supplying(["", *TEXTS[1:]], marked):
        pass
    assert encoder.encode_passages(TEXTS).shape == (3, encoder.dim)
