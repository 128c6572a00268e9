"""Compressed and shortened vectors as systems."""

from __future__ import annotations

import json
import sys

import pytest

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError, KoE5Warning, MissingExtraError, TruncateDimWarning
from koe5_integrations.evaluation import evaluate, load_dataset
from koe5_integrations.evaluation.systems.dense import DenseSystem
from koe5_integrations.evaluation.systems.specs import parse_spec

FORMS = ("int8", "binary-float", "binary-int8", "binary", "hamming")
RECALL = "recall_against_float@10"


@pytest.fixture(scope="module", autouse=True)
def _compresses() -> None:
    pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def result():
    """The FAQ by floats and by every form."""
    specs = ["dense:koe5-mini", *(f"dense:koe5-mini@{form}" for form in FORMS)]
    return evaluate(
        "python_faq_ko",
        specs,
        top_k=10,
        lexical_floor=False,
        latency_queries=3,
        encoder_options={"on_prefixed": "keep"},
    )


def test_the_harness_measures_what_compression_loses(result):
    """Measures stand beside the floats', and the share of their nearest ten found."""
    facts = {form: result.systems[f"dense:koe5-mini@{form}"].facts for form in FORMS}
    shares = [facts[form][RECALL] for form in FORMS]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.99
    assert shares[-1] < 0.8
    floats, int8 = (
        result.systems[spec].measures["ndcg@10"].value
        for spec in ("dense:koe5-mini", "dense:koe5-mini@int8")
    )
    assert int8 == pytest.approx(floats, abs=0.01)
    assert {found.facts.get("form") for found in result.systems.values()} == {None, *FORMS}
    json.dumps(facts)


def test_the_size_of_the_index_is_that_of_the_codes(result):
    """Floats take 32 times the bytes of bits and 4 times those of int8."""
    size = {spec.rpartition("@")[2]: each.index.bytes for spec, each in result.systems.items()}
    floats = size["dense:koe5-mini"]
    assert size["int8"] * 4 == floats
    assert size["binary"] * 32 == size["binary-float"] * 32 == size["hamming"] * 32 == floats
    assert size["binary-int8"] == size["binary"] + size["int8"]


def test_the_first_answer_does_not_depend_on_how_many_are_asked_for(result):
    """The harness's own check of that has nothing to warn of."""
    assert [each.warnings for each in result.systems.values()] == [[]] * len(result.systems)


def test_shortened_vectors_beside_whole_ones():
    """A number keeps so many dimensions, with or without compression, whatever the options say."""
    with pytest.warns(TruncateDimWarning, match="koe5-mini is not known to be trained"):
        short = parse_spec("dense:koe5-mini@64", truncate_dim=128)
    assert short.encoder.dim == 64
    assert short.spec == "dense:koe5-mini@64"
    with pytest.warns(TruncateDimWarning):
        both = parse_spec("dense:koe5-mini@64@int8")
    corpus = load_dataset("python_faq_ko").corpus
    assert both.index(corpus).bytes * 4 == short.index(corpus).bytes
    assert both.facts()["dim"] == 64
    pytest.importorskip("chromadb")
    with pytest.warns(TruncateDimWarning):
        assert parse_spec("chroma:koe5-mini@64").encoder.dim == 64


def test_another_encoder_keeps_the_form():
    """An ablation of a compressed system is compressed too."""
    system = parse_spec("dense:koe5-mini@int8")
    changed = system.with_encoder(KoE5Encoder("koe5-mini", query_prompt=""), "changed")
    assert changed.facts()["form"] == "int8"
    assert DenseSystem(changed.encoder, form="int8").spec == "dense:koe5-mini@int8"


def test_corpora_too_small_to_calibrate(static_model):
    """One document is compared as it is; a few are compressed, with a warning."""
    system = DenseSystem(KoE5Encoder(static_model), form="binary")
    for corpus in ({}, {"a": "글"}):
        system.index(corpus)
        assert len(system.search({"q": "문서", "r": "글"}, 5)["q"]) == len(corpus)
    with pytest.warns(KoE5Warning, match="2 vectors only"):
        system.index({"a": "글", "b": "문서"})
    assert [hit.doc_id for hit in system.search({"q": "문서"}, 1)["q"]] == ["b"]


def test_a_folder_with_an_at_in_its_name(static_model, tmp_path):
    """A folder that is there is taken as it is named."""
    folder = tmp_path / "model@256"
    folder.symlink_to(static_model)
    system = parse_spec(f"dense:{folder}")
    assert system.encoder.dim == 16
    assert "form" not in system.facts()
    assert parse_spec(f"dense:{folder}@int8").facts()["form"] == "int8"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("dense:koe5-mini@int4", "@int4 is neither a number of dimensions nor one of int8, binary"),
        ("dense:koe5-mini@int8@256", "both are given as @256@int8"),
        ("dense:koe5-mini@int8@binary", "both are given as @256@int8"),
        ("dense:koe5-mini@64@256", "both are given as @256@int8"),
        ("dense:@int8", "model='' must be a model's name"),
        ("dense:koe5-mini@9999", "truncate_dim=9999 is more than the 1024 dimensions"),
        ("dense:koe5-mini@0", "truncate_dim=0 must be at least 1"),
        ("chroma:koe5-mini@int8", "Chroma keeps float32 only, not int8"),
    ],
)
def test_forms_that_are_none(spec, said):
    """What is neither dimensions nor a compression, or can't be had, is refused."""
    with pytest.raises(ConfigError, match=said):
        parse_spec(spec)


def test_without_sentence_transformers(monkeypatch):
    """The missing extra is named before anything is embedded."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"\[torch\]"):
        parse_spec("dense:koe5-mini@binary")
    with pytest.raises(ConfigError, match="form='int4' must be one of int8"):
        DenseSystem(KoE5Encoder("koe5-mini"), form="int4")
