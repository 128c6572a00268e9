"""Korean ablations."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from tiny_models import KOREAN

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError, InputError
from koe5_integrations.evaluation.ablations import ABLATIONS, ablate, truncation_share
from koe5_integrations.evaluation.systems.bm25 import BM25System
from koe5_integrations.evaluation.systems.dense import DenseSystem
from koe5_integrations.evaluation.systems.hybrid import HybridSystem

pytest.importorskip("bm25s")

CORPUS = {f"d{i}": text for i, text in enumerate(KOREAN[:5])}
QUERIES = {f"q{i}": text for i, text in enumerate(KOREAN[:5])}


class Asked:
    """A system that remembers what it was asked and how often it was indexed."""

    spec = "asked"

    def __init__(self):
        self.indexed = 0
        self.queries = []

    def index(self, corpus):
        from koe5_integrations.evaluation.results import IndexStats

        self.indexed += 1
        return IndexStats(1.0, 5, len(corpus))

    def search(self, queries, top_k):
        self.queries.append(dict(queries))
        return {query_id: [] for query_id in queries}

    def facts(self):
        return {"kind": "asked"}


@pytest.fixture
def dense(static_model, tmp_path):
    encoder = KoE5Encoder(static_model, on_prefixed="keep")
    return DenseSystem(encoder, spec="dense:tiny", cache=tmp_path)


def by_spec(system, *ablations, **options):
    return {variant.spec: variant for variant in ablate(system, ablations, **options)}


def test_prefixes_are_none_swapped_and_doubled(dense):
    """Each variant embeds with the prefixes its name says, under its own fingerprint."""
    variants = by_spec(dense, "prefix")
    prompts = {
        spec: (system.encoder.profile.query_prompt, system.encoder.profile.passage_prompt)
        for spec, system in variants.items()
    }
    assert prompts == {
        "dense:tiny[prefix=none]": ("", ""),
        "dense:tiny[prefix=swapped]": ("passage: ", "query: "),
        "dense:tiny[prefix=doubled]": ("query: query: ", "passage: passage: "),
    }
    fingerprints = {system.encoder.fingerprint.digest for system in variants.values()}
    assert len(fingerprints | {dense.encoder.fingerprint.digest}) == 4


def test_a_prefix_variant_embeds_what_its_name_says(dense, static_model):
    """Doubled prefixes give the vectors of a text that carries one already."""
    doubled = by_spec(dense, "prefix")["dense:tiny[prefix=doubled]"].encoder
    plain = KoE5Encoder(static_model, query_prompt="", passage_prompt="")
    np.testing.assert_array_equal(
        doubled.encode_queries(["글"]), plain.encode_queries(["query: query: 글"])
    )


def test_variants_of_a_dense_system_run(dense):
    """All variants search; those of the queries share the index and the cached vectors."""
    dense.index(CORPUS)
    for variant in ablate(dense, ABLATIONS):
        stats = variant.index(CORPUS)
        assert variant.search(QUERIES, 3).keys() == QUERIES.keys()
        if "prefix" in variant.spec or "unicode" in variant.spec:
            assert stats.embedded == 5
        else:
            assert stats.embedded == 0
            assert variant.facts()["fingerprint"] == dense.encoder.fingerprint.digest


def test_decomposed_queries_with_and_without_normalisation(dense):
    """The encoder's NFC makes NFD queries harmless; the other variant is one without it."""
    dense.index(CORPUS)
    right = dense.search(QUERIES, 5)
    variants = by_spec(dense, "unicode")
    assert set(variants) == {"dense:tiny[queries=nfd]", "dense:tiny[unicode=none]"}
    for variant in variants.values():
        variant.index(CORPUS)
    assert variants["dense:tiny[queries=nfd]"].search(QUERIES, 5) == right
    facts = variants["dense:tiny[unicode=none]"].facts()
    assert (facts["fingerprint_fields"]["unicode"], facts["ablation"]) == ("none", "queries=nfd")


def test_queries_are_spoilt_as_the_name_says():
    """Each variant asks its own version of the queries."""
    system = Asked()
    variants = by_spec(system, "unicode", "spacing", seed=3)
    assert list(variants) == ["asked[queries=nfd]", "asked[spaces=none]", "asked[spaces=random]"]
    for variant in variants.values():
        variant.search(QUERIES, 1)
    nfd, none, random = system.queries
    for query_id, text in QUERIES.items():
        assert nfd[query_id] == unicodedata.normalize("NFD", text)
        assert none[query_id] == text.replace(" ", "")
        assert random[query_id].replace(" ", "") == text.replace(" ", "")
    assert random != QUERIES
    assert variants["asked[spaces=random]"].facts() == {
        "kind": "asked",
        "ablation": "spaces=random",
        "seed": 3,
    }


def test_random_spaces_follow_the_seed_and_the_text_alone():
    """The same query is spoilt alike in other company and other systems, but not by other seeds."""
    asked = []
    for seed in (0, 0, 1):
        system = Asked()
        (variant,) = [v for v in ablate(system, ["spacing"], seed=seed) if "random" in v.spec]
        variant.search(QUERIES if not asked else {"q1": QUERIES["q1"]}, 1)
        asked.append(system.queries[0]["q1"])
    assert asked[0] == asked[1] != asked[2]


def test_variants_of_the_queries_share_one_index():
    """The corpus is indexed once for all of them, and again only when it is another."""
    system = Asked()
    variants = ablate(system, ["unicode", "spacing"])
    stats = [variant.index(CORPUS) for variant in variants]
    assert system.indexed == 1
    assert [(each.seconds, each.bytes, each.embedded) for each in stats] == [
        (1.0, 5, 5),
        (0.0, 5, 0),
        (0.0, 5, 0),
    ]
    variants[0].index(dict(CORPUS))
    assert system.indexed == 2


def test_without_an_encoder_only_the_queries_change(dense):
    """BM25 and hybrids have no prefix to get wrong."""
    for system in (BM25System(), HybridSystem([BM25System(), dense])):
        specs = [variant.spec for variant in ablate(system, ABLATIONS)]
        assert specs == [
            f"{system.spec}[{variant}]"
            for variant in ("queries=nfd", "spaces=none", "spaces=random")
        ]


def test_spaces_are_what_whitespace_tokens_live_by():
    """Without spaces whole words find nothing while bigrams still do."""
    for tokenizer, found in (("whitespace", False), ("bigram", True)):
        (variant, _) = ablate(BM25System(tokenizer), ["spacing"])
        variant.index(CORPUS)
        run = variant.search({"q": "파이썬 문자열이 불변인"}, 3)
        assert bool(run["q"]) is found


def test_unknown_ablation():
    """An ablation that does not exist is answered with those that do."""
    with pytest.raises(ConfigError, match="'colour' must be one of 'prefix', 'unicode', 'spacing'"):
        ablate(BM25System(), ["colour"])


def test_truncation_share_counts_like_the_encoder(static_model):
    """The share is what the encoder itself would cut at that length."""
    texts = [KOREAN[0], KOREAN[0] * 20, KOREAN[1] * 30]
    encoder = KoE5Encoder(static_model)
    share = truncation_share(encoder, texts, limit=100)
    cut = KoE5Encoder(static_model, max_seq_length=100, on_truncation="ignore")
    cut.encode_passages(texts)
    assert (share.texts, share.tokens) == (cut.truncation.texts, cut.truncation.tokens)
    assert (share.limit, share.of_texts) == (100, 3)
    assert share.share == pytest.approx(share.texts / 3)
    assert share.of_tokens == sum(encoder.count_tokens(texts, "passage"))


def test_truncation_share_of_nothing(static_model):
    """No texts have a share of 0."""
    assert truncation_share(KoE5Encoder(static_model), []).share == 0.0


def test_truncation_share_refuses_the_impossible(static_model):
    """A limit below 1 and a blank text are refused."""
    encoder = KoE5Encoder(static_model)
    with pytest.raises(ConfigError, match="limit=0"):
        truncation_share(encoder, ["글"], limit=0)
    with pytest.raises(InputError):
        truncation_share(encoder, [" "])
