"""The test sets a trained model is measured on, and their texts, which it must never train on."""

from __future__ import annotations

from pathlib import Path

from koe5_integrations.evaluation.datasets import (
    SHIPPED_NAMES,
    DatasetError,
    RetrievalDataset,
    StsDataset,
    load_dataset,
    read_autorag,
    read_korsts,
)


def retrieval_sets(data_dir: Path | None) -> list[RetrievalDataset]:
    """Return the shipped sets, and `autorag_ko` where `data_dir` holds it.

    Raises:
        DatasetError: `data_dir` is no folder, which would pass a test set over in silence.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise DatasetError(f"{data_dir} is not a folder of test sets")
    found = [load_dataset(name) for name in SHIPPED_NAMES]
    if data_dir is not None and (data_dir / "autorag_ko").is_dir():
        found.append(read_autorag(data_dir / "autorag_ko"))
    return found


def korsts_test(data_dir: Path | None) -> StsDataset | None:
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
