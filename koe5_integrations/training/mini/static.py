"""Make koe5-mini: `python -m koe5_integrations.training.mini.static --pairs FILE --out DIR`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from koe5_integrations.errors import ConfigError, DatasetError, KoE5Error, MissingExtraError
from koe5_integrations.evaluation.metrics import mean_over_queries, ndcg
from koe5_integrations.evaluation.search import rank
from koe5_integrations.training.mini.bags import Bags, bag_texts
from koe5_integrations.training.mini.tokenizer import train_tokenizer
from koe5_integrations.training.pairs import Pairs, overlapping, read_pairs
from koe5_integrations.training.testsets import protected_texts
from koe5_integrations.types import Vectors

try:
    from koe5_integrations.training.mini.compact import compact_table, save_model
    from koe5_integrations.training.mini.table import Recipe, initial_table, train_table
except ImportError as error:
    raise MissingExtraError("training", "train") from error

# "document" because sentence-transformers looks for it before "passage", and defaults it to "".
PROMPTS = {"query": "query: ", "passage": "passage: ", "document": "passage: "}

Log = Callable[[str], None]


@dataclass(frozen=True)
class StaticModel:
    """A trained model and what training showed.

    Attributes:
        tokenizer: its ids are the rows of `table`.
        table: token vectors, shape (vocab_size, dim), float32.
        losses: the loss of every step.
        untrained_ndcg: nDCG@10 of the held-out queries over the held-out passages at the start.
        trained_ndcg: the same at the end.
    """

    tokenizer: Tokenizer
    table: Vectors
    losses: list[float]
    untrained_ndcg: float
    trained_ndcg: float


def train_static(
    pairs: Pairs,
    recipe: Recipe,
    *,
    vocab_size: int,
    tokenizer_pairs: int,
    held_out: int,
    tokenizer: Tokenizer | None = None,
    log: Log = lambda _: None,
) -> StaticModel:
    """Train tokenizer and table on `pairs`.

    Args:
        pairs: queries and their passages.
        recipe: how the table is trained.
        vocab_size: rows of the table.
        tokenizer_pairs: how many random pairs the tokenizer is learnt from.
        held_out: how many random pairs are kept from tokenizer and training to measure on.
        tokenizer: use this one instead of learning one, which tokenizers does not repeat to the
            last digit (same pieces, but ids in another order).
        log: takes one line of progress at a time.

    Raises:
        DatasetError: `pairs` has fewer than two pairs beside the held-out ones.
    """
    if len(pairs) < held_out + 2:
        raise DatasetError(
            f"{len(pairs)} pairs are too few to hold out {held_out} and train on the rest; "
            "add pairs or hold out fewer"
        )
    shuffled = np.random.default_rng(recipe.seed).permutation(len(pairs))
    kept, held = shuffled[held_out:], shuffled[:held_out]
    if tokenizer is None:
        sample = pairs.take(kept[:tokenizer_pairs])
        tokenizer = train_tokenizer(
            [*sample.queries, *sample.passages],
            vocab_size=vocab_size,
            prompts=dict.fromkeys(PROMPTS.values()),
        )
    log(f"tokenizer: {tokenizer.get_vocab_size()} pieces")
    queries = bag_texts(tokenizer, pairs.queries, prompt=PROMPTS["query"])
    passages = bag_texts(tokenizer, pairs.passages, prompt=PROMPTS["passage"])
    log(f"tokens: {len(queries.ids)} in queries, {len(passages.ids)} in passages")

    def measure(table: Vectors) -> float:
        return _held_out_ndcg(table, queries, passages, held) if held_out else float("nan")

    everything = sys.maxsize
    start = initial_table(
        passages.select(kept, max_tokens=everything), tokenizer.get_vocab_size(), recipe
    )
    untrained = measure(start)
    losses: list[float] = []
    began = time.monotonic()

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        if step % 100 == 0:
            seconds = time.monotonic() - began
            log(f"step {step}: loss {np.mean(losses[-100:]):.4f}, {seconds:.0f} s")

    table = train_table(
        start,
        queries.select(kept, max_tokens=recipe.max_tokens),
        passages.select(kept, max_tokens=recipe.max_tokens),
        np.unique(pairs.sources, return_inverse=True)[1][kept],
        recipe,
        report=report,
    )
    trained = measure(table)
    log(f"held-out nDCG@10: {untrained:.4f} untrained, {trained:.4f} trained")
    return StaticModel(tokenizer, table, losses, untrained, trained)


def _held_out_ndcg(table: Vectors, queries: Bags, passages: Bags, rows: np.ndarray) -> float:
    names = [str(row) for row in rows]
    run = rank(_means(table, queries, rows), _means(table, passages, rows), names, names, top_k=10)
    return mean_over_queries(ndcg, run, {name: {name: 1} for name in names}, 10)


def _means(table: Vectors, bags: Bags, rows: np.ndarray) -> Vectors:
    vectors: Vectors = np.stack(
        [table[bags.ids[bags.offsets[row] : bags.offsets[row + 1]]].mean(axis=0) for row in rows]
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _read_tokenizer(file: Path) -> Tokenizer:
    if not file.is_file():
        raise ConfigError(f"no tokenizer at {str(file)!r}; pass a tokenizer.json")
    return Tokenizer.from_file(str(file))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m koe5_integrations.training.mini.static",
        description="Train a static embedding model; the defaults make the bundled koe5-mini.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--pairs", type=Path, required=True, help="Parquet file: source, query, passage")
    add("--out", type=Path, required=True, help="folder to write the model to")
    add("--exclude-from", type=Path, help="folder of test sets no pair may share a text with")
    add("--vocab-size", type=int, default=48_000, help="rows of the table")
    add("--tokenizer-pairs", type=int, default=60_000, help="pairs the tokenizer is learnt from")
    add("--tokenizer", type=Path, help="use this tokenizer.json instead of learning one")
    add("--held-out", type=int, default=2_000, help="pairs kept for measuring")
    add("--levels", type=int, default=3, help="magnitudes a stored value may have beside zero")
    add("--threads", type=int, default=2, help="torch threads; part of what makes runs equal")
    for field in fields(Recipe):
        kind = type(field.default)
        name = field.name.replace("_", " ")
        add(
            f"--{name.replace(' ', '-')}",
            type=kind,
            default=field.default,
            help=f"{name} of the recipe",
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, compact and save the model as the command line says."""
    options = _parser().parse_args(arguments)

    def log(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    import torch

    torch.set_num_threads(options.threads)
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    if options.levels < 1:
        raise ConfigError(f"levels={options.levels!r} must be at least 1")
    options.out.mkdir(parents=True, exist_ok=True)  # rather than find out after training
    tokenizer = _read_tokenizer(options.tokenizer) if options.tokenizer else None
    pairs = read_pairs(options.pairs)
    shared = overlapping(pairs, protected_texts(options.exclude_from))
    log(f"{len(pairs)} pairs, {len(shared)} dropped because a test set holds their text")
    pairs = pairs.take(np.delete(np.arange(len(pairs)), shared))
    model = train_static(
        pairs,
        recipe,
        vocab_size=options.vocab_size,
        tokenizer_pairs=options.tokenizer_pairs,
        held_out=options.held_out,
        tokenizer=tokenizer,
        log=log,
    )
    table = compact_table(model.table, levels=options.levels)
    save_model(options.out, model.tokenizer, table, prompts=PROMPTS)
    log(f"saved {table.shape[0]} x {table.shape[1]} to {options.out}")


if __name__ == "__main__":
    try:
        main()
    except (KoE5Error, OSError) as problem:
        sys.exit(f"error: {problem}")
