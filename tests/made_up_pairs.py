"""Pairs without a shared word: only training can tell that 가나 is written 고노."""

from __future__ import annotations

import random
from pathlib import Path

from koe5_integrations.evaluation.datasets import StsDataset
from koe5_integrations.training.pairs import Pairs

_ASKED = "가나다라마바사아자차카타파하거너더러머버"
_WRITTEN = "고노도로모보소오조초코토포호구누두루무부"
_OTHER = dict(zip(_ASKED, _WRITTEN, strict=True))


def made_up_pairs(count: int, seed: int = 0) -> Pairs:
    """Return pairs of two sources, one of which asks questions already."""
    draw = random.Random(seed)
    sources, queries, passages = [], [], []
    for number in range(count):
        words = ["".join(draw.sample(_ASKED, 2)) for _ in range(3)]
        sources.append(("headings", "parakqc_paraphrase")[number % 2])
        queries.append(" ".join(words) + "?")
        passages.append(" ".join(map(_written, words)) + ".")
    return Pairs(sources, queries, passages)


def made_up_sentences(count: int, seed: int = 1) -> StsDataset:
    """Return sentences of three words, and how many of them are written the same."""
    draw = random.Random(seed)
    first, second, scores = [], [], []
    for _ in range(count):
        words = ["".join(draw.sample(_ASKED, 2)) for _ in range(3)]
        same = draw.randint(0, 3)
        others = ["".join(draw.sample(_ASKED, 2)) for _ in range(3 - same)]
        first.append(" ".join(words))
        second.append(" ".join(map(_written, words[:same] + others)))
        scores.append(float(same))
    return StsDataset("made up", tuple(first), tuple(second), tuple(scores))


def write_pairs(file: Path, pairs: Pairs) -> Path:
    """Write pairs as the Parquet file that the command reads."""
    import pyarrow
    from pyarrow import parquet

    columns = {"source": pairs.sources, "query": pairs.queries, "passage": pairs.passages}
    parquet.write_table(pyarrow.table(columns), file)
    return file


def _written(word: str) -> str:
    return "".join(_OTHER[syllable] for syllable in word)
