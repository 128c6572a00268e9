"""Make the bundled model: ``python -m koe5_integrations.training.mini --pairs FILE --out DIR``."""

from __future__ import annotations

import argparse
import inspect
import platform
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from koe5_integrations.errors import ConfigError, KoE5Error, MissingExtraError
from koe5_integrations.evaluation.datasets import StsDataset, read_korsts
from koe5_integrations.training.data.finding import sha256_of
from koe5_integrations.training.mini.recipe import Recipe
from koe5_integrations.training.pairs import Pairs, overlapping, read_pairs
from koe5_integrations.training.testsets import protected_texts

try:
    import torch

    from koe5_integrations.training.mini.make import make_model
    from koe5_integrations.training.mini.save import check_new, save_model
except ImportError as error:
    raise MissingExtraError("training", "train") from error

_PACKAGES = ("koe5-integrations", "numpy", "safetensors", "tokenizers", "torch")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make and save the model that the command line describes."""
    options = _parser().parse_args(arguments)
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    if options.threads < 1:
        raise ConfigError(f"threads={options.threads!r} must be at least 1")
    check_new(options.out)  # rather than find out after training
    tokenizer = None if options.tokenizer is None else _read_tokenizer(options.tokenizer)
    torch.set_num_threads(options.threads)
    protected = protected_texts(options.exclude_from)
    files = [options.pairs]
    pairs = read_pairs(options.pairs)
    read = Counter(pairs.sources)
    similar = similar_held_out = None
    dropped = {}
    if options.korsts is not None:
        files += [options.korsts / f"sts-{split}.tsv" for split in ("train", "dev")]
        similar, dropped["KorSTS train"] = _without(read_korsts(files[-2]), protected)
        similar_held_out = read_korsts(files[-1])
        _log(f"{len(similar.scores)} sentence pairs, {dropped['KorSTS train']} dropped likewise")
    shared = overlapping(pairs, protected)
    dropped["pairs"] = len(shared)
    _log(f"{len(pairs)} pairs, {len(shared)} dropped because a test set holds their text")
    pairs = pairs.take(np.delete(np.arange(len(pairs)), shared))
    made = make_model(
        pairs,
        recipe,
        similar=similar,
        similar_held_out=similar_held_out,
        tokenizer=tokenizer,
        log=_log,
    )
    record: dict[str, Any] = {
        "recipe": asdict(recipe),
        "files": {file.name: sha256_of(file) for file in files},
        "tokenizer": None if options.tokenizer is None else sha256_of(options.tokenizer),
        "rows": dict(sorted(read.items())),
        "dropped_because_in_a_test_set": dropped,
        "held_out": made.held_out,
        "sentence_pairs": None if similar is None else len(similar.scores),
        "untrained": made.untrained,
        "trained": made.trained,
        "threads": options.threads,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
    }
    save_model(options.out, made.model, record)
    _log(f"saved {len(made.model.table.scales)} rows of {recipe.dim} to {options.out}")


def _without(pairs: StsDataset, protected: set[str]) -> tuple[StsDataset, int]:
    """Return sentence pairs without those that share a sentence with a test set, and how many."""
    sentences = Pairs([pairs.name] * len(pairs.scores), list(pairs.first), list(pairs.second))
    shared = overlapping(sentences, protected)
    kept = np.delete(np.arange(len(sentences)), shared)
    rest = sentences.take(kept)
    scores = tuple(pairs.scores[row] for row in kept)
    return StsDataset(pairs.name, tuple(rest.queries), tuple(rest.passages), scores), len(shared)


def _read_tokenizer(file: Path) -> str:
    if not file.is_file():
        raise ConfigError(f"no tokenizer at {str(file)!r}; pass a tokenizer.json")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{str(file)!r} is no tokenizer.json: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m koe5_integrations.training.mini",
        description="Make a bag model; the defaults make the bundled koe5-mini.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--pairs", type=Path, required=True, help="Parquet file: source, query, passage")
    add("--out", type=Path, required=True, help="folder to write the model to; must not exist")
    add("--korsts", type=Path, help="folder of sts-train.tsv and sts-dev.tsv, to train on beside")
    add("--exclude-from", type=Path, help="folder of test sets no pair may share a text with")
    add("--tokenizer", type=Path, help="use this tokenizer.json instead of learning one")
    add(
        "--threads",
        type=int,
        default=2,
        help="torch threads; with one, runs are equal to the last bit",
    )
    described = _described(Recipe)
    for field in fields(Recipe):
        add(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            help=described[field.name],
        )
    return parser


def _described(cls: type) -> dict[str, str]:
    """Return what a class's docstring says of each attribute."""
    listed = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).rstrip(".") for name, text in entries}


def _log(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except (KoE5Error, OSError) as problem:
        sys.exit(f"error: {problem}")
