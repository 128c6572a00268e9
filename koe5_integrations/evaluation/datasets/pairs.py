"""Sentence pairs with a human score of their similarity: KorSTS and KLUE-STS."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koe5_integrations.evaluation.datasets.dataset import DatasetError, check_text
from koe5_integrations.evaluation.datasets.fetch import find_files
from koe5_integrations.evaluation.datasets.files import lines, parquet_rows, whole_text
from koe5_integrations.evaluation.datasets.known import KNOWN

__all__ = ["STS_NAMES", "StsDataset", "load_sts", "read_klue_sts", "read_korsts"]

STS_NAMES = ("korsts", "klue-sts")


@dataclass(frozen=True)
class StsDataset:
    """Sentence pairs with human similarity scores.

    Attributes:
        name: short name used in reports.
        first: one sentence of each pair.
        second: the other.
        scores: from 0 (nothing in common) to 5 (the same).
        source: where it comes from, with the revision; None if not known.
        licence: of the data; None if not known.
    """

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: tuple[float, ...]
    source: str | None = None
    licence: str | None = None


def load_sts(name_or_path: str | Path, *, data_dir: str | Path | None = None) -> StsDataset:
    """Return ``korsts`` (test, 1,379 pairs), ``klue-sts`` (dev, 519 pairs), or read a file.

    Args:
        name_or_path: a name of :data:`STS_NAMES`, or a ``.tsv`` file of KorSTS, or a ``.json`` or
            ``.parquet`` file of KLUE-STS.
        data_dir: folder that holds the named set; None fetches it at its pinned revision.

    Raises:
        DatasetError: there is no such set or file, it can't be fetched, or it is malformed.
    """
    known = KNOWN.get(str(name_or_path).lower())
    if known is None or known.name not in STS_NAMES:
        return _read_file(Path(name_or_path))
    (files,) = find_files(known, data_dir).values()
    dataset = _read_file(files[0])
    return StsDataset(
        known.name, dataset.first, dataset.second, dataset.scores, known.source, known.licence
    )


def read_korsts(file: str | Path) -> StsDataset:
    """Read a KorSTS file: tab-separated with a header, and quotation marks that mean nothing.

    Raises:
        DatasetError: a line has not seven fields or no number for a score.
    """
    path = Path(file)
    rows: list[tuple[str, Any, Any, Any]] = []
    for number, line in lines(path):
        fields = line.split("\t")
        if len(fields) != 7:
            raise DatasetError(
                f"{path}, line {number}: expected seven tab-separated fields with a score in the "
                f"fifth; got {line[:80]!r}. Read KorSTS as published, without re-quoting it"
            )
        if fields[4] != "score":
            rows.append((f"{path}, line {number}", fields[4], fields[5], fields[6]))
    return _dataset(path, rows)


def read_klue_sts(file: str | Path) -> StsDataset:
    """Read a KLUE-STS file: the repository's JSON, or the hub's Parquet.

    The score is ``labels.label``, the mean of the annotators to one decimal, as KLUE evaluates.

    Raises:
        DatasetError: it is malformed, or a row lacks a sentence or the label.
        MissingExtraError: it is Parquet and pyarrow is not installed.
    """
    path = Path(file)
    columns = ("sentence1", "sentence2", "labels")
    if path.suffix == ".parquet":
        table: Any = parquet_rows([path], columns, "KLUE-STS has sentence1, sentence2 and labels")
    else:
        try:
            table = json.loads(whole_text(path))
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{path} is not JSON ({error}); fetch it again") from error
    if not isinstance(table, list):
        raise DatasetError(f"{path} must hold a list of pairs; fetch it again")
    rows: list[tuple[str, Any, Any, Any]] = []
    for number, row in enumerate(table, start=1):
        labels = row.get("labels") if isinstance(row, dict) else None
        if not isinstance(labels, dict):
            raise DatasetError(f"{path}, pair {number}: has no labels.label; fetch it again")
        where = f"{path}, pair {number}"
        rows.append((where, labels.get("label"), row.get("sentence1"), row.get("sentence2")))
    return _dataset(path, rows)


def _read_file(path: Path) -> StsDataset:
    if not path.is_file():
        raise DatasetError(
            f"there is no set of sentence pairs called {str(path)!r} and no such file; there is "
            f"{', '.join(STS_NAMES)}"
        )
    return read_korsts(path) if path.suffix == ".tsv" else read_klue_sts(path)


def _dataset(path: Path, rows: Iterable[tuple[str, Any, Any, Any]]) -> StsDataset:
    first, second, scores = [], [], []
    for where, score, one, other in rows:
        try:
            value = float(score)
        except (TypeError, ValueError):
            value = math.nan
        if not 0 <= value <= 5:
            raise DatasetError(f"{where}: the score {score!r} is no number from 0 to 5")
        scores.append(value)
        first.append(check_text(f"{where}: the first sentence", one))
        second.append(check_text(f"{where}: the second sentence", other))
    if not scores:
        raise DatasetError(f"{path} holds no pairs; fetch it again")
    return StsDataset(path.stem, tuple(first), tuple(second), tuple(scores))
