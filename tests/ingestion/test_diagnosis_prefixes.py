"""What a diagnosis says of right, wrong and missing prefixes, and of rounding that hides them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_models import make_bag, make_static

pytest.importorskip("chromadb")

from diagnosed import TEXTS, N, Store, kinds, sentences, stored_by_hand

from koe5_integrations import KoE5Encoder
from koe5_integrations.ingestion.diagnosis import diagnose


@pytest.fixture(scope="module")
def encoder(xlm_roberta: Path) -> KoE5Encoder:
    return KoE5Encoder(xlm_roberta)


@pytest.fixture(scope="module")
def unmoved(tmp_path_factory: pytest.TempPathFactory) -> KoE5Encoder:
    """A static model of 768 dimensions that a prefix hardly moves: by a cosine of 0.998."""
    model = make_static(
        tmp_path_factory.mktemp("models") / "unmoved", dim=768, prompt_weight=0.15, seed=1
    )
    return KoE5Encoder(model, profile="nlpai-lab/KoE5", max_seq_length=4096)


@pytest.fixture(scope="module")
def stretched(tmp_path_factory: pytest.TempPathFactory) -> KoE5Encoder:
    """A model in koe5-mini's form, a dimension of which is large in passages and 0 otherwise."""
    model = make_bag(tmp_path_factory.mktemp("models") / "stretched", dim=1024, longest=4000.0)
    return KoE5Encoder(model, profile="nlpai-lab/KoE5", max_seq_length=4096)


def without_prompts(encoder: KoE5Encoder, passage_prompt: str = "") -> KoE5Encoder:
    """The same model, with another prefix or none."""
    given = {"query_prompt": "", "passage_prompt": passage_prompt, "on_prefixed": "keep"}
    return KoE5Encoder(**encoder.config() | given)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Put vectors and texts into a collection of their own, as one would by hand."""
    with stored_by_hand(tmp_path_factory.mktemp("diagnosis") / "db") as make:
        yield make


@pytest.mark.parametrize(
    ("prefix", "made", "found"),
    [
        ("passage: ", "right", None),
        ("", "no prefix", "no_prefix"),
        ("query: ", "query prefix", "query_prefix"),
        ("document: ", "document prefix", "document_prefix"),
        ("passage: passage: ", "doubled prefix", "doubled_prefix"),
        ("query: passage: ", "doubled prefix", "doubled_prefix"),
    ],
)
@pytest.mark.parametrize("model", ["encoder", "unmoved", "stretched", "koe5-mini"])
def test_each_prefix_is_recognised(
    model: str,
    prefix: str,
    made: str,
    found: str | None,
    store: Store,
    request: pytest.FixtureRequest,
) -> None:
    """Right and wrong prefixes are told apart in every row, for a transformer and static models.

    In one a prefix moves all vectors by little, in another by so much that a second is near it.
    """
    encoder: KoE5Encoder = (
        KoE5Encoder(model) if model == "koe5-mini" else request.getfixturevalue(model)
    )
    texts = sentences(24)
    vectors = without_prompts(encoder).encode_passages([prefix + text for text in texts])
    diagnosis = diagnose(store(vectors, texts), encoder)
    assert diagnosis.made == {made: 24}
    assert kinds(diagnosis) == ({found} if found else set())
    assert diagnosis.healthy is (found is None)
    assert (diagnosis.compared, diagnosis.dim) == (24, encoder.dim)


def test_a_model_without_prompts_misses_none(static_model: Path, store: Store) -> None:
    """Where the model has no prefixes, plain vectors are right and E5's prefixes are foreign."""
    encoder = KoE5Encoder(static_model, query_prompt="", passage_prompt="")
    assert diagnose(store(encoder.encode_passages(TEXTS)), encoder).made == {"right": N}
    prefixed = encoder.encode_passages(["passage: " + text for text in TEXTS])
    assert kinds(diagnose(store(prefixed), encoder)) == {"foreign_prefix"}


@pytest.mark.parametrize(
    ("model", "prefix"), [("unmoved", "문서: "), ("koe5-mini", "search_document: ")]
)
def test_a_prefix_nobody_knows_is_seen_to_be_one(
    model: str, prefix: str, store: Store, unmoved: KoE5Encoder
) -> None:
    """Vectors that are all moved in one direction are neither called right nor another model's."""
    encoder = unmoved if model == "unmoved" else KoE5Encoder(model)
    vectors = without_prompts(encoder, prefix).encode_passages(TEXTS)
    assert diagnose(store(vectors), encoder).made == {"unknown prefix": N}


# Rounding


@pytest.mark.parametrize("rounding", ["fp16", "bf16", "int8 by range", "int8 codes", "noise"])
def test_rounding_is_no_other_prefix(rounding: str, store: Store, unmoved: KoE5Encoder) -> None:
    """Vectors kept or made in fewer bits are recognised, though a prefix moves them no farther."""
    prefixes = ["passage: ", ""] * (N // 2)
    vectors = without_prompts(unmoved).encode_passages(list(map(str.__add__, prefixes, TEXTS)))
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    steps = (high - low) / 255
    noise = np.random.default_rng(0).normal(size=vectors.shape)
    rounded = {
        "fp16": vectors.astype(np.float16),
        "bf16": (vectors.view(np.uint32) & 0xFFFF0000).view(np.float32),
        "int8 by range": np.round((vectors - low) / steps) * steps + low,
        "int8 codes": np.round(vectors / np.abs(vectors).max() * 127),
        # As far off as the prefix is: a cosine of about 0.999.
        "noise": vectors + noise * np.sqrt(2e-3 / vectors.shape[1]),
    }[rounding]
    diagnosis = diagnose(store(rounded), unmoved)
    hidden = diagnosis.made.pop("can't tell", 0)
    assert diagnosis.made.keys() == {"right", "no prefix"}
    assert max(diagnosis.made.values()) <= N // 2
    assert hidden <= 0.2 * N
    assert ("not_unit_length" in kinds(diagnosis)) is (rounding == "int8 codes")


def test_what_cannot_be_told_is_not_guessed(store: Store, unmoved: KoE5Encoder) -> None:
    """Where rounding hides the prefix, the diagnosis says so and claims no fault."""
    texts = sentences(words=60)
    vectors = unmoved.encode_passages(texts)
    noise = np.random.default_rng(0).normal(size=vectors.shape)
    diagnosis = diagnose(store(vectors + noise * np.sqrt(2e-2 / vectors.shape[1]), texts), unmoved)
    assert diagnosis.made.get("can't tell", 0) >= 0.9 * N
    assert "cannot_tell" in kinds(diagnosis)
    assert diagnosis.made.keys() <= {"can't tell", "right"}


def test_a_prefix_that_changes_nothing_is_not_missed(store: Store, unmoved: KoE5Encoder) -> None:
    """In texts of so many tokens that a prefix is lost in their mean, int8 hides it."""
    texts = sentences(5, words=1000)
    vectors = without_prompts(unmoved).encode_passages(texts)
    diagnosis = diagnose(store(np.round(vectors / np.abs(vectors).max() * 127), texts), unmoved)
    assert diagnosis.made == {"can't tell": 5}
    assert diagnosis.healthy
