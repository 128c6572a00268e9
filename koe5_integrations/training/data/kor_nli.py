"""KorNLI: labelled sentence pairs become triplets, as ko-sentence-transformers makes them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from koe5_integrations.errors import DatasetError, MissingExtraError
from koe5_integrations.evaluation.datasets.files import lines
from koe5_integrations.text import is_visible
from koe5_integrations.training.data.finding import sha256_of
from koe5_integrations.training.data.triplets import Triplets
from koe5_integrations.training.recipe import DataFile

__all__ = ["read_kor_nli"]

_HEADER = ["sentence1", "sentence2", "gold_label"]
_LABELS = ("entailment", "neutral", "contradiction")


def read_kor_nli(files: Sequence[str | Path], *, seed: int = 777) -> Triplets:
    """Make triplets of KorNLI's files: tab-separated, and quotation marks mean nothing.

    In each file a sentence that has both an entailment and a contradiction, whichever side of the
    pairs it stands on, gives two triplets: it with one of its entailments, and one of these with
    it, each with one of its contradictions. Which ones, the seed draws.

    Args:
        files: such as ``multinli.train.ko.tsv`` and ``snli_1.0_train.ko.tsv``.
        seed: of the draws; the same files and seed always give the same triplets.

    Returns:
        The columns query, positive and negative.

    Raises:
        DatasetError: a file can't be read, a line has not three fields or another label, or the
            files give no triplet.
        MissingExtraError: datasets is not installed.
    """
    try:
        from datasets import Dataset
    except ImportError as error:
        raise MissingExtraError("reading training data", "train") from error
    draw = random.Random(seed)
    columns: tuple[list[str], list[str], list[str]] = ([], [], [])
    read: list[DataFile] = []
    blank = 0
    for file in map(Path, files):
        before = len(columns[0])
        # Dicts for sets that keep their order, so that a seed draws the same in every process.
        others: dict[str, dict[str, dict[str, None]]] = {}
        for first, second, label in _pairs(file):
            if not is_visible(first) or not is_visible(second):
                blank += 1
                continue
            for one, other in ((first, second), (second, first)):
                others.setdefault(one, {}).setdefault(label, {})[other] = None
        for sentence, by_label in others.items():
            entailed, contradicted = (
                list(by_label.get(label, ())) for label in ("entailment", "contradiction")
            )
            if entailed and contradicted:
                for row in (
                    (sentence, draw.choice(entailed), draw.choice(contradicted)),
                    (draw.choice(entailed), sentence, draw.choice(contradicted)),
                ):
                    for column, text in zip(columns, row, strict=True):
                        column.append(text)
        read.append(DataFile("train", str(file), sha256_of(file), len(columns[0]) - before))
    if not columns[0]:
        raise DatasetError(
            f"{', '.join(map(str, files))}: no sentence has both an entailment and a contradiction"
        )
    data = Dataset.from_dict(dict(zip(("query", "positive", "negative"), columns, strict=True)))
    return Triplets(data, 1, tuple(read), {"blank": blank} if blank else {})


def _pairs(file: Path) -> Iterator[tuple[str, str, str]]:
    for number, line in lines(file):
        fields = [field.strip() for field in line.split("\t")]
        if fields == _HEADER:
            continue
        if len(fields) != 3 or fields[2] not in _LABELS:
            raise DatasetError(
                f"{file}:{number}: expected two sentences and one of {', '.join(_LABELS)}, "
                f"separated by tabs; got {line[:80]!r}. Read KorNLI as published, without "
                "re-quoting it"
            )
        yield fields[0], fields[1], fields[2]
