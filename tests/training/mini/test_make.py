from dataclasses import replace

import numpy as np
import pytest
from made_up_pairs import made_up_pairs, made_up_sentences
from tokenizers import Tokenizer, models

pytest.importorskip("torch", reason="training needs torch")

# After the check above, which skips this file where the extra is not installed.
from koe5_integrations.backends.bag import stretched
from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, DatasetError
from koe5_integrations.training.mini.bag import BagSums
from koe5_integrations.training.mini.data import PASSAGE, QUERY, hold_out
from koe5_integrations.training.mini.features import FeatureReader
from koe5_integrations.training.mini.make import make_model
from koe5_integrations.training.mini.recipe import Recipe
from koe5_integrations.training.mini.save import save_model

RECIPE = Recipe(
    pieces=60, bigrams=500, buckets=16, dim=64, steps=80, batch_size=64, similarity_pairs=64
)


@pytest.fixture(scope="module")
def made():
    return make_model(
        made_up_pairs(1200),
        RECIPE,
        similar=made_up_sentences(400, seed=1),
        similar_held_out=made_up_sentences(100, seed=2),
    )


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "model"
    save_model(folder, made.model, {"rows": 1})
    return folder


def test_training_lowers_the_loss(made):
    """The loss of the last steps is far below that of the first."""
    assert np.mean(made.losses[-10:]) < 0.5 * np.mean(made.losses[:10])


def test_held_out_passages_are_found_after_training_only(made):
    """The one-bit table finds the passages of both sources that the start can't find."""
    for source in ("headings", "parakqc_paraphrase"):
        assert made.untrained[source] < 0.3
        assert made.trained[source] > 0.6
    assert made.held_out == {"headings": 30, "parakqc_paraphrase": 30}


def test_sentence_pairs_come_to_score_as_people_score_them(made):
    """Held-out sentences' cosines follow their scores after training, and did not before."""
    assert made.untrained["sentence pairs, Spearman"] < 0.3
    assert made.trained["sentence pairs, Spearman"] > 0.6


def test_the_saved_model_gives_the_vectors_of_the_trainers_table(made, folder):
    """KoE5Encoder's vectors of both roles are those of the trainer's one-bit table."""
    model = made.model
    reader = FeatureReader(
        Tokenizer.from_str(model.tokenizer),
        model.bigrams,
        RECIPE.buckets,
        max_characters=RECIPE.max_characters,
    )
    texts = ["가나 다라 마바?", "고노 도로.", "본 적이 없는 낱말 XYZ 3.11", "가나 " * 100]
    sums = BagSums(RECIPE.saturation)
    values = model.table.values()
    asked = sums.vectors(values, reader(texts, QUERY))
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    written = sums.vectors(values, reader(texts, PASSAGE))
    encoder = KoE5Encoder(folder)
    questions = encoder.encode_queries(texts)
    assert questions.shape == (4, 64)
    np.testing.assert_allclose(questions, np.pad(asked, ((0, 0), (0, 1))), atol=1e-5)
    np.testing.assert_allclose(
        encoder.encode_passages(texts),
        stretched(written, RECIPE.length_exponent, model.longest),
        atol=1e-5,
    )


def test_only_the_shortest_passages_are_stretched(made, folder):
    """About a seventh has something in the last dimension, by which others would look alike."""
    passages = KoE5Encoder(folder).encode_passages(made_up_pairs(400).passages)
    assert 0.05 < (passages[:, -1] > 0).mean() < 0.3


@pytest.mark.parametrize("change", [{"question_share": 0.0}, {"similarity_weight": 0.0}])
def test_questions_and_sentence_pairs_can_be_left_out(made, change):
    """Without them the losses are others, so they had a part in it."""
    again = make_model(
        made_up_pairs(1200),
        replace(RECIPE, steps=20, **change),
        similar=made_up_sentences(400, seed=1),
        tokenizer=made.model.tokenizer,
    )
    full = make_model(
        made_up_pairs(1200),
        replace(RECIPE, steps=20),
        similar=made_up_sentences(400, seed=1),
        tokenizer=made.model.tokenizer,
    )
    assert again.losses != full.losses
    assert np.all(np.isfinite(again.losses))


def test_equal_texts_are_no_negatives():
    """Where one source has one passage and the other one query, nothing can be wrong."""
    pairs = made_up_pairs(100)
    for row, source in enumerate(pairs.sources):
        texts = pairs.passages if source == "headings" else pairs.queries
        texts[row] = texts[["headings", "parakqc_paraphrase"].index(source)]
    made = make_model(pairs, replace(RECIPE, steps=10, held_out=0))
    assert made.losses == [0.0] * 10
    assert made.trained == {}


def test_held_out_pairs_are_few_of_a_small_source():
    """At most a twentieth of a source is held out, of one below 20 pairs nothing."""
    sources = ["a"] * 1000 + ["b"] * 60 + ["c"] * 19
    held = hold_out(sources, 30, 100, np.random.default_rng(0))
    assert [(each.source, len(each.rows), len(each.pool)) for each in held] == [
        ("a", 30, 100),
        ("b", 3, 60),
    ]
    assert all(np.array_equal(each.pool[: len(each.rows)], each.rows) for each in held)


def test_too_few_pairs_say_so():
    """Pairs among which no source has two raise."""
    with pytest.raises(DatasetError, match="at least 2 pairs"):
        make_model(made_up_pairs(2), RECIPE)


def test_wrong_tokenizers_are_refused():
    """A tokenizer that doesn't know the prompt as a token raises, as one that is none does."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    with pytest.raises(ConfigError, match="'query: ' as one token"):
        make_model(made_up_pairs(100), RECIPE, tokenizer=tokenizer.to_str())
    with pytest.raises(ConfigError, match="can't be read"):
        make_model(made_up_pairs(100), RECIPE, tokenizer="{}")
