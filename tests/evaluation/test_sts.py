import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, EncodingError
from koe5_integrations.evaluation.datasets import StsDataset, load_sts
from koe5_integrations.evaluation.sts import COLUMNS, evaluate_sts, pearson, spearman, sts_table

WORDS = ["나무", "바다", "하늘", "파이썬", "고양이", "서울", "문서", "검색"]


@pytest.fixture(scope="module")
def pairs():
    """Forty pairs of short sentences with scores that follow nothing in particular."""
    random = np.random.default_rng(4)
    first = [" ".join(random.choice(WORDS, 3)) for _ in range(40)]
    second = [" ".join(random.choice(WORDS, 3)) for _ in range(40)]
    return StsDataset("pairs", tuple(first), tuple(second), tuple(random.integers(0, 6, 40) * 1.0))


def lookup(sentences, dim=12, scale=3.0):
    """Return vectors that are not of unit length, the same for the same sentence."""
    return np.array(
        [np.random.default_rng(sum(map(ord, text))).normal(0, scale, dim) for text in sentences]
    )


def test_all_eight_columns_are_scipys(pairs):
    """Each similarity's correlation, of vectors of any length, is scipy's times 100."""
    distance = pytest.importorskip("scipy.spatial.distance", reason="the oracle is scipy")
    stats = pytest.importorskip("scipy.stats", reason="the oracle is scipy")
    (result,) = evaluate_sts(lookup, pairs)
    rows = list(zip(lookup(pairs.first), lookup(pairs.second), strict=True))
    similarities = {
        "cosine": [1 - distance.cosine(a, b) for a, b in rows],
        "euclidean": [-distance.euclidean(a, b) for a, b in rows],
        "manhattan": [-distance.cityblock(a, b) for a, b in rows],
        "dot": [float(a @ b) for a, b in rows],
    }
    for kind, values in similarities.items():
        expected = stats.pearsonr(values, pairs.scores)[0], stats.spearmanr(values, pairs.scores)[0]
        found = result.values[f"{kind}_pearson"], result.values[f"{kind}_spearman"]
        assert found == pytest.approx([100 * value for value in expected], abs=1e-4)
    assert tuple(result.values) == COLUMNS
    assert (result.pairs, result.dim, result.name) == (40, 12, "lookup")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=30))
def test_correlations_with_ties_are_scipys(rows):
    """Equal values share their mean rank; a side that is all the same has no correlation."""
    stats = pytest.importorskip("scipy.stats", reason="the oracle is scipy")
    a, b = zip(*rows, strict=True)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert np.isnan(spearman(a, b))
        assert np.isnan(pearson(a, b))
    else:
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b)[0], abs=1e-12)
        assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b)[0], abs=1e-12)


def test_no_prefix_is_the_default_and_a_role_puts_its_own(static_model, pairs):
    """Without a role the sentences are bare; with one both have that role's prefix."""
    encoder = KoE5Encoder(static_model)
    bare = KoE5Encoder(static_model, query_prompt="", passage_prompt="")
    default, query, passage = (
        evaluate_sts(encoder, pairs, role=role)[0] for role in (None, "query", "passage")
    )
    assert default.values == evaluate_sts(bare, pairs, role="query")[0].values
    assert query.values == evaluate_sts(encoder.encode_queries, pairs)[0].values
    assert passage.values == evaluate_sts(encoder.encode_passages, pairs)[0].values
    assert (default.role, query.role) == (None, "query")
    assert default.values != query.values


@pytest.mark.filterwarnings("ignore::koe5_integrations.errors.TruncateDimWarning")
def test_the_sweep_equals_encoders_that_truncate(static_model, pairs):
    """Each cut has the values of a KoE5Encoder made with that truncate_dim."""
    encoder = KoE5Encoder(static_model)
    results = evaluate_sts(encoder, pairs, role="query", truncate_dims=[8, 4])
    assert [result.dim for result in results] == [16, 8, 4]
    for result in results[1:]:
        cut = KoE5Encoder(static_model, truncate_dim=result.dim)
        (alone,) = evaluate_sts(cut, pairs, role="query")
        assert result.values == pytest.approx(alone.values, abs=1e-3)


def test_vectors_of_any_length_are_only_cut(pairs):
    """A function's vectors that are not of unit length are not made so by cutting."""
    cut = evaluate_sts(lookup, pairs, truncate_dims=[5])[1]
    (alone,) = evaluate_sts(lambda sentences: lookup(sentences)[:, :5], pairs)
    assert cut.values == pytest.approx(alone.values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"role": "query"}, "role='query' needs a KoE5Encoder"),
        ({"role": "document"}, "role='document' must be 'query', 'passage' or None"),
        ({"truncate_dims": [99]}, "truncate_dims has 99, but the vectors have 12 dimensions"),
        ({"truncate_dims": [0]}, "truncate_dims has 0; give whole numbers from 1 on"),
    ],
)
def test_impossible_options_are_named(pairs, options, message):
    """A role of a function, an unknown role, and cuts that can't be made raise."""
    with pytest.raises(ConfigError, match=message):
        evaluate_sts(lookup, pairs, **options)


def test_an_encoder_is_asked_for_no_more_than_it_has_before_it_encodes(static_model, pairs):
    """Too large a cut is refused without embedding anything."""
    encoder = KoE5Encoder(static_model)
    with pytest.raises(ConfigError, match="truncate_dims has 32, but the vectors have 16"):
        evaluate_sts(encoder, StsDataset("bad", ("",), ("",), (0.0,)), truncate_dims=[32])


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda s: lookup(s)[:-1], r"expected vectors of shape \(\d+, dim\), one per sentence"),
        (lambda s: lookup(s)[0], "expected vectors of shape"),
        (lambda s: np.full((len(s), 2), np.nan), "holds NaN or infinity"),
    ],
)
def test_vectors_that_are_none_are_refused(pairs, encode, message):
    """Too few, of one dimension, or not finite."""
    with pytest.raises(EncodingError, match=message):
        evaluate_sts(encode, pairs)


def test_the_table_has_the_seeds_rows_and_form(pairs):
    """The published rows come first, in two decimals, and measured ones say dim and prefix."""
    results = evaluate_sts(lookup, pairs, truncate_dims=[4], name="mine")
    lines = sts_table(results).splitlines()
    assert lines[0].startswith("| model | cosine pearson | cosine spearman | euclidean pearson |")
    assert lines[2] == (
        "| jhgan/ko-sroberta-multitask | 84.77 | 85.60 | 83.71 | 84.40 | 83.70 | 84.38 "
        "| 82.42 | 82.33 |"
    )
    assert [line.split(" |")[0] for line in lines[-2:]] == [
        "| mine (12 dim, no prefix)",
        "| mine (4 dim, no prefix)",
    ]
    alone = sts_table(results, with_published=False, style="text").splitlines()
    assert len(alone) == 3
    assert len({len(line) for line in alone}) == 1


def test_korsts_of_the_bundled_model(shared_data):
    """On the 1,379 test pairs without prefix the bundled model is a sentence encoder."""
    (result,) = evaluate_sts(KoE5Encoder("koe5-mini"), load_sts("korsts", data_dir=shared_data))
    assert result.pairs == 1379
    assert result.name == "koe5-mini"
    assert result.values["cosine_spearman"] > 65
    assert result.values["dot_pearson"] == pytest.approx(result.values["cosine_pearson"], abs=0.01)
