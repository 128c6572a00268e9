"""What a diagnosis says of collections made in right and wrong ways, all of them real."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import KOREAN, make_static, make_xlm_roberta

pytest.importorskip("chromadb")

from diagnosed import TEXTS, N, Store, kinds, sentences, stored_by_hand

from koe5_integrations import KoE5Encoder
from koe5_integrations.evaluation import load_dataset
from koe5_integrations.ingestion.diagnosis import diagnose
from koe5_integrations.ingestion.diagnosis.sampling import Repeated, chance_of_seeing


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Put vectors and texts into a collection of their own, as one would by hand."""
    with stored_by_hand(tmp_path_factory.mktemp("diagnosis") / "db") as make:
        yield make


@pytest.fixture(scope="module")
def encoder(xlm_roberta: Path) -> KoE5Encoder:
    return KoE5Encoder(xlm_roberta)


@pytest.fixture(scope="module")
def raw(encoder: KoE5Encoder) -> Callable[..., Any]:
    """Embed texts as they are, with whatever stands in front of them."""
    bare = KoE5Encoder(encoder.model, query_prompt="", passage_prompt="", normalize_unicode=False)
    return bare.encode_passages


# Models and texts


def test_another_model_is_named_so(
    store: Store, encoder: KoE5Encoder, tmp_path: Path, xlm_roberta: Path
) -> None:
    """Vectors of the same length from other weights are another model's in every row."""
    other = KoE5Encoder(make_xlm_roberta(tmp_path / "other", seed=7))
    diagnosis = diagnose(store(other.encode_passages(TEXTS)), encoder)
    assert kinds(diagnosis) == {"wrong_model"}
    assert diagnosis.made == {"another model": N}
    assert "another model's" in diagnosis.findings[0].sentence


def test_a_model_akin_is_told_from_a_stranger(tmp_path: Path, store: Store) -> None:
    """A model that differs, but puts each text near where this one does, is called akin."""
    encoder = KoE5Encoder(make_static(tmp_path / "one", dim=64))
    vectors = encoder.encode_passages(TEXTS)
    noise = np.random.default_rng(0).normal(size=vectors.shape) * 0.06
    diagnosis = diagnose(store(vectors + noise), encoder)
    finding = next(f for f in diagnosis.findings if f.kind == "wrong_model")
    assert "a model akin to it" in finding.sentence


def test_other_dimensions_are_another_model(store: Store, encoder: KoE5Encoder) -> None:
    """Longer vectors, and shorter ones that fit nothing, are reported with the models of the size.

    Of longer ones nothing is embedded.
    """
    longer = np.random.default_rng(0).normal(size=(N, 384))
    diagnosis = diagnose(store(longer), encoder)
    assert "wrong_dimension" in kinds(diagnosis)
    assert "all-MiniLM-L6-v2" in diagnosis.findings[0].sentence
    assert "multilingual-e5-small" in diagnosis.findings[0].sentence
    assert diagnosis.compared == 0
    assert "wrong_dimension" in kinds(diagnose(store(longer[:, :8]), encoder))


def test_cut_vectors_are_recognised(store: Store) -> None:
    """The first dimensions of the model's vectors are no other model's."""
    encoder = KoE5Encoder("koe5-mini")
    vectors = encoder.encode_passages(TEXTS)[:, :256]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    diagnosis = diagnose(store(vectors), encoder)
    assert diagnosis.made == {"right": N}
    assert kinds(diagnosis) == {"fewer_dimensions"}


def test_a_mixed_collection_is_counted(
    store: Store, encoder: KoE5Encoder, raw: Callable[..., Any]
) -> None:
    """Each part of a mixed collection is counted, and ids of the wrong rows are shown."""
    vectors = encoder.encode_passages(TEXTS)
    vectors[10:20] = raw(TEXTS[10:20])
    vectors[30:33] = raw(["document: " + text for text in TEXTS[30:33]])
    diagnosis = diagnose(store(vectors), encoder)
    assert diagnosis.made == {"right": 35, "no prefix": 10, "document prefix": 3}
    found = {finding.kind: finding for finding in diagnosis.findings}
    assert found["mixed"].count == 13
    assert "35 right, 10 no prefix, 3 document prefix" in found["mixed"].sentence
    assert set(found["document_prefix"].examples) == {"r30", "r31", "r32"}
    assert found["no_prefix"].share == pytest.approx(10 / N)


def test_stale_vectors_are_found(store: Store, encoder: KoE5Encoder) -> None:
    """A vector of another text of this model is not taken for another model's."""
    vectors = encoder.encode_passages(TEXTS)
    vectors[5:9] = encoder.encode_passages(sentences(4, seed=9))
    diagnosis = diagnose(store(vectors), encoder)
    assert diagnosis.made == {"right": N - 4, "another text": 4}
    assert kinds(diagnosis) == {"stale"}
    assert set(diagnosis.findings[0].examples) == {"r5", "r6", "r7", "r8"}


def test_a_second_model_is_told_from_stale_vectors(store: Store, encoder: KoE5Encoder) -> None:
    """Vectors that do not lie where this model's do are another model's."""
    vectors = encoder.encode_passages(TEXTS)
    strange = np.random.default_rng(0).normal(size=(12, encoder.dim))
    vectors[20:32] = strange / np.linalg.norm(strange, axis=1, keepdims=True)
    diagnosis = diagnose(store(vectors), encoder)
    assert diagnosis.made == {"right": N - 12, "another model": 12}
    assert kinds(diagnosis) == {"mixed", "wrong_model"}


def test_with_few_rows_it_stays_open_which(store: Store, encoder: KoE5Encoder) -> None:
    """Of a handful of rows nobody can say what a vector that fits nothing is of."""
    vectors = encoder.encode_passages(TEXTS[:6])
    vectors[2] = np.random.default_rng(0).normal(size=encoder.dim)
    diagnosis = diagnose(store(vectors, TEXTS[:6]), encoder)
    assert diagnosis.made == {"right": 5, "another text or model": 1}
    assert "unfit" in kinds(diagnosis)


# Spaces and forms of the text


@pytest.mark.parametrize(
    ("space", "scale", "severity"),
    [("l2", 1, "warning"), ("ip", 1, "warning"), ("l2", 3, "fault"), ("ip", 3, "fault")],
)
def test_another_space_is_explained(
    space: str, scale: int, severity: str, store: Store, encoder: KoE5Encoder
) -> None:
    """Unit vectors rank alike in every space, others don't; both is said."""
    diagnosis = diagnose(store(encoder.encode_passages(TEXTS) * scale, space=space), encoder)
    found = {finding.kind: finding for finding in diagnosis.findings}
    assert found["wrong_space"].severity == severity
    assert ("not_unit_length" in found) is (scale != 1)
    assert diagnosis.made == {"right": N}


def test_other_forms_of_the_text_are_recognised(
    store: Store, encoder: KoE5Encoder, raw: Callable[..., Any]
) -> None:
    """Line breaks made spaces, and Hangul in pieces, are neither stale nor another model."""
    no_newlines = raw(["passage: " + text.replace("\n", " ") for text in TEXTS])
    diagnosis = diagnose(store(no_newlines), encoder)
    assert diagnosis.made == {"right": N}
    assert kinds(diagnosis) == {"newlines_as_spaces"}
    assert diagnosis.healthy
    pieces = [unicodedata.normalize("NFD", text) for text in TEXTS]
    assert diagnose(store(encoder.encode_passages(TEXTS), pieces), encoder).made == {"right": N}


def test_texts_that_were_cut_shorter_are_found(store: Store) -> None:
    """Vectors of the first 128 tokens only are recognised where a text has up to 512."""
    encoder = KoE5Encoder("koe5-mini")
    answers = list(load_dataset("python_faq_ko").corpus.values())
    tokens = encoder.count_tokens(answers, "passage")
    texts = [text for text, count in zip(answers, tokens, strict=True) if 128 < count <= 512]
    vectors = KoE5Encoder("koe5-mini", max_seq_length=128, on_truncation="ignore").encode_passages(
        texts
    )
    diagnosis = diagnose(store(vectors, texts), encoder)
    assert diagnosis.made == {"right": len(texts)}
    assert kinds(diagnosis) == {"read_less"}
    (finding,) = (f for f in diagnosis.findings if f.kind == "read_less")
    assert finding.count == len(texts) > 50
    assert "128 tokens, though the model reads all of them" in finding.sentence


def test_texts_longer_than_the_model_reads_are_counted(store: Store, encoder: KoE5Encoder) -> None:
    """A text beyond the model's limit is a warning, with the share of tokens lost."""
    long = [" ".join(KOREAN[:5] * 2), *sentences(30, words=2)]
    quiet = KoE5Encoder(encoder.model, on_truncation="ignore")
    (finding,) = (
        f
        for f in diagnose(store(quiet.encode_passages(long), long), encoder).findings
        if f.kind == "too_long"
    )
    assert (finding.count, finding.of, list(finding.examples)) == (1, 31, ["r0"])
    assert "longer than the 64 tokens" in finding.sentence


def test_stored_prefixes_are_seen_through(
    store: Store, encoder: KoE5Encoder, raw: Callable[..., Any]
) -> None:
    """A prefix that is part of the stored text counts once, and is mentioned."""
    texts = ["passage: " + text for text in TEXTS]
    diagnosis = diagnose(store(raw(texts), texts), encoder)
    assert diagnosis.made == {"right": N}
    assert kinds(diagnosis) == {"prefix_in_text"}
    doubled = diagnose(store(raw(["passage: " + text for text in texts]), texts), encoder)
    assert doubled.made == {"doubled prefix": N}


# Rows


def test_rows_that_cannot_be_compared_are_counted(store: Store, encoder: KoE5Encoder) -> None:
    """Vectors without text, blank texts and zero vectors are findings, and the rest is compared."""
    vectors = encoder.encode_passages(TEXTS)
    vectors[3] = 0
    texts: list[str | None] = list(TEXTS)
    texts[7], texts[8], texts[9] = None, None, " \u3164"
    diagnosis = diagnose(store(vectors, texts), encoder)
    found = {finding.kind: finding for finding in diagnosis.findings}
    assert found["zero_vector"].examples == ["r3"]
    assert found["no_text"].count == 3
    assert "2 none at all, 1 nothing visible" in found["no_text"].sentence
    assert list(found["no_text"].examples) == ["r7", "r8", "r9"]
    assert diagnosis.compared == N - 4


def test_duplicates_are_counted_over_all_rows(store: Store, encoder: KoE5Encoder) -> None:
    """Equal texts under different ids are counted in the whole collection, not in the sample."""
    texts = [*TEXTS, *TEXTS[:10], unicodedata.normalize("NFD", TEXTS[0])]
    diagnosis = diagnose(store(encoder.encode_passages(texts), texts), encoder, sample=5)
    (finding,) = (f for f in diagnosis.findings if f.kind == "duplicates")
    assert (finding.count, finding.of) == (11, N + 11)
    assert finding.examples[0] == f"r0 = r{N}"
    unread = diagnose(store(encoder.encode_passages(texts), texts), encoder, read_all=False)
    assert "duplicates" not in kinds(unread)
    assert not unread.scanned


def test_repeated_texts_are_counted_in_constant_memory() -> None:
    """Beyond so many texts a sample of them is kept, and the share of repetitions stays right."""
    repeated = Repeated(most=500)
    for i in range(40_000):
        repeated.add(str(i), f"글 {i // 2}" if i < 20_000 else f"글 {i}")
    assert len(repeated._rows) <= 500
    assert repeated.superfluous / repeated.counted == pytest.approx(0.25, abs=0.06)


def test_the_probability_of_seeing_a_fault_is_stated(store: Store, encoder: KoE5Encoder) -> None:
    """The report says what a sample of its size can't miss; all rows miss nothing."""
    assert chance_of_seeing(0.05, 200, 20_000) == pytest.approx(1 - 0.95**200)
    collection = store(encoder.encode_passages(TEXTS))
    diagnosis = diagnose(collection, encoder, sample=30)
    assert diagnosis.sureness == (
        "30 of 48 rows were compared: a fault in 5% of the rows is seen with a probability of "
        "78.53% or more."
    )
    assert diagnose(collection, encoder).sureness == "All 48 rows were compared."
