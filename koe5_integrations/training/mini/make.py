"""From pairs to a model: vocabularies, features, training, the one-bit table."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.datasets import StsDataset
from koe5_integrations.training.mini.data import (
    PASSAGE,
    QUERY,
    PairFeatures,
    hold_out,
    read_similar,
)
from koe5_integrations.training.mini.features import FeatureReader, Ints, learn_bigrams
from koe5_integrations.training.mini.measuring import Measurer, longest_sum
from koe5_integrations.training.mini.quantise import quantise
from koe5_integrations.training.mini.recipe import Recipe
from koe5_integrations.training.mini.save import BagModel
from koe5_integrations.training.mini.tokenizer import train_tokenizer
from koe5_integrations.training.mini.training import initial_table, train_table
from koe5_integrations.training.pairs import Pairs

__all__ = ["Log", "Made", "make_model"]

Log = Callable[[str], None]

_REPORT_EVERY = 100


@dataclass(frozen=True)
class Made:
    """A model and what its making showed.

    Attributes:
        model: ready to be saved.
        losses: of every step.
        untrained: held-out figures at the start, by name.
        trained: the same of the finished model.
        held_out: pairs kept for measuring, by source.
    """

    model: BagModel
    losses: list[float]
    untrained: dict[str, float]
    trained: dict[str, float]
    held_out: dict[str, int]


def make_model(
    pairs: Pairs,
    recipe: Recipe,
    *,
    similar: StsDataset | None = None,
    similar_held_out: StsDataset | None = None,
    tokenizer: str | None = None,
    log: Log = lambda line: None,
) -> Made:
    """Make a bag model.

    Args:
        pairs: queries and their passages.
        recipe: how.
        similar: sentence pairs to train on beside.
        similar_held_out: sentence pairs to measure on.
        tokenizer: content of a ``tokenizer.json`` to use instead of learning one, which tokenizers
            does not repeat to the last digit (same pieces, but ids in another order).
        log: takes one line of progress at a time.

    Raises:
        ConfigError: the tokenizer can't be read, or doesn't read a prompt as one token.
        DatasetError: there are too few pairs to train on.
        TrainingError: training diverged.
    """
    rng = np.random.default_rng(recipe.seed)
    held = hold_out(pairs.sources, recipe.held_out, recipe.held_out_pool, rng)
    measured = np.concatenate([np.zeros(0, np.int64), *(some.rows for some in held)])
    kept = np.setdiff1d(np.arange(len(pairs)), measured)
    shuffled = rng.permutation(kept)
    if tokenizer is None:
        tokenizer = train_tokenizer(
            _texts(pairs.take(shuffled[: recipe.tokenizer_pairs])),
            vocab_size=recipe.pieces,
            prompts=(QUERY, PASSAGE),
        ).to_str()
    # Also the learnt one is read, as it will be: scores lose digits in the file.
    reading = _read_tokenizer(tokenizer)
    known = learn_bigrams(_texts(pairs.take(shuffled[: recipe.bigram_pairs])), recipe.bigrams)
    reader = FeatureReader(reading, known, recipe.buckets, max_characters=recipe.max_characters)
    log(f"{reading.get_vocab_size()} pieces, {len(known)} bigrams, {recipe.buckets} buckets")
    began = time.monotonic()
    features = PairFeatures.read(pairs, reader)
    log(
        f"{len(features.queries.ids)} features in queries, {len(features.passages.ids)} in "
        f"passages, {time.monotonic() - began:.0f} s"
    )
    measure = Measurer(
        features,
        held,
        None if similar_held_out is None else read_similar(similar_held_out, reader),
        recipe.saturation,
        recipe.length_exponent,
    )
    start = initial_table(_frequency(features, measured, reader.size), len(kept), recipe)
    untrained = measure(start)
    log(f"untrained: {_figures(untrained)}")
    losses: list[float] = []
    began = time.monotonic()

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        if step % _REPORT_EVERY == 0:
            seconds = time.monotonic() - began
            log(f"step {step}: loss {np.mean(losses[-_REPORT_EVERY:]):.4f}, {seconds:.0f} s")

    table = quantise(
        train_table(
            start,
            features,
            kept,
            None if similar is None else read_similar(similar, reader),
            recipe,
            report=report,
        )
    )
    values = table.values()
    trained = measure(values)
    log(f"trained: {_figures(trained)}")
    longest = longest_sum(values, features, recipe.saturation, rng)
    return Made(
        BagModel(tokenizer, known, table, longest, recipe),
        losses,
        untrained,
        trained,
        {some.source: len(some.rows) for some in held},
    )


def _texts(pairs: Pairs) -> list[str]:
    return [*pairs.queries, *pairs.passages]


def _read_tokenizer(content: str) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # tokenizers raises bare Exception
        raise ConfigError(f"the tokenizer can't be read: {error}") from error
    for prompt in (QUERY, PASSAGE):
        if tokenizer.encode(f"{prompt}가", add_special_tokens=False).tokens[:1] != [prompt]:
            raise ConfigError(
                f"the tokenizer does not read {prompt!r} as one token; add it as a special token"
            )
    return tokenizer


def _frequency(features: PairFeatures, measured: Ints, size: int) -> Ints:
    # Counted in all and taken away: the rest would be a second copy of nearly everything.
    held = features.passages.select(measured).document_frequency(size)
    return features.passages.document_frequency(size) - held


def _figures(measured: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in measured.items())
