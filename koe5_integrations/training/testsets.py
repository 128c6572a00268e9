"""The test sets a trained model is measured on, and their texts, which it must never train on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from koe5_integrations.evaluation.datasets import (
    DatasetError,
    RetrievalDataset,
    load_dataset,
    read_autorag,
    read_beir,
)


@dataclass(frozen=True)
class StsPairs:
    """Sentence pairs with human similarity scores, 0 to 5."""

    scores: list[float]
    first: list[str]
    second: list[str]


def retrieval_sets(data_dir: Path | None) -> list[RetrievalDataset]:
    """Return the shipped set, then `autorag_ko` and `belebele_ko` where `data_dir` holds them."""
    found = [load_dataset("python_faq_ko")]
    if data_dir is not None:
        if (data_dir / "autorag_ko").is_dir():
            found.append(read_autorag(data_dir / "autorag_ko"))
        if (data_dir / "belebele_ko").is_dir():
            found.append(read_beir(data_dir / "belebele_ko"))
    return found


def read_korsts(file: Path) -> StsPairs:
    """Read a KorSTS file: tab-separated with a header, and quotation marks that mean nothing.

    Raises:
        DatasetError: a line has too few fields or no number for a score.
    """
    pairs = StsPairs([], [], [])
    lines = file.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        fields = line.rstrip("\r").split("\t")
        try:
            score, first, second = float(fields[4]), fields[5], fields[6]
        except (IndexError, ValueError) as error:
            raise DatasetError(
                f"{file}, line {number}: expected seven tab-separated fields with a score in the "
                f"fifth; got {line[:80]!r}. Read KorSTS as published, without re-quoting it"
            ) from error
        pairs.scores.append(score)
        pairs.first.append(first)
        pairs.second.append(second)
    return pairs


def korsts_test(data_dir: Path | None) -> StsPairs | None:
    """Return the KorSTS test pairs where `data_dir` holds them."""
    file = data_dir / "korsts" / "sts-test.tsv" if data_dir is not None else None
    return read_korsts(file) if file is not None and file.is_file() else None


def protected_texts(data_dir: Path | None) -> set[str]:
    """Return every query, document and sentence of the test sets found."""
    texts: set[str] = set()
    for dataset in retrieval_sets(data_dir):
        texts.update(dataset.corpus.values(), dataset.queries.values())
    sts = korsts_test(data_dir)
    if sts is not None:
        texts.update(sts.first, sts.second)
    return texts
