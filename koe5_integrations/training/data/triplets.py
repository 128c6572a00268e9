"""Triplets of query, positive and negatives, checked and kept as Arrow."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from koe5_integrations.errors import ConfigError, DatasetError, MissingExtraError, shorten
from koe5_integrations.text import is_unicode, is_visible
from koe5_integrations.training.data.columns import Columns, find_columns
from koe5_integrations.training.data.finding import find_files, sha256_of
from koe5_integrations.training.data.rows import read_rows
from koe5_integrations.training.pairs import normalise
from koe5_integrations.training.recipe import DataFile

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Triplets", "read_triplets"]

_ROWS_AT_ONCE = 10_000
# What a text must share with a protected one before the whole of it is compared.
_HEAD, _KEY = 96, 12

_REMEDY = "correct or remove the row, or leave out such rows with skip_bad_rows"

Row = tuple[str, str, list[str]]


@dataclass(frozen=True)
class Triplets:
    """What was read, and what was left out of it.

    Attributes:
        data: the columns query and positive, then negative, or negative_1 to negative_n where
            there are several; texts in Unicode NFC, in the order of the files.
        num_negatives: negatives of each row.
        files: what was read, with the number of good rows of each.
        left_out: number of rows not in ``data``, by reason.
    """

    data: Dataset
    num_negatives: int
    files: tuple[DataFile, ...]
    left_out: Mapping[str, int]


def read_triplets(
    data: str | Path | Sequence[str | Path],
    *,
    revision: str | None = None,
    query_column: str | None = None,
    positive_column: str | None = None,
    negative_column: str | None = None,
    num_negatives: int | None = None,
    max_pairs: int | None = None,
    seed: int = 0,
    protected: Collection[str] = (),
    skip_bad_rows: bool = False,
    role: str = "train",
) -> Triplets:
    """Read pairs or triplets of text from files or the hub.

    Every row is checked before anything is returned. Memory holds the texts once, as Arrow:
    ko-triplet-v1.0 takes 0.6 GB.

    Args:
        data: a Parquet, JSON Lines, JSON, CSV or TSV file, a folder of them, or a data set's name
            on the hub; see :func:`find_files`. Or several of them.
        revision: of a data set on the hub.
        query_column: None finds it by its usual names, see :func:`find_columns`.
        positive_column: as above.
        negative_column: as above; a value is a text, a list of texts, or null.
        num_negatives: how many negatives each row gets; rows with fewer are left out, and of more
            the first are taken. 0 makes pairs. None is what most rows have.
        max_pairs: rows drawn at most; None takes all.
        seed: of the draw.
        protected: texts of test sets. Rows that hold one, judged by its letters and digits, are
            left out.
        skip_bad_rows: leave out a row with a missing, blank or broken text instead of raising.
        role: what the files are read for, for the record.

    Raises:
        ConfigError: ``num_negatives`` or ``max_pairs`` is impossible.
        DatasetError: nothing is there, it can't be read, a column is missing, or a row is bad;
            names the file and the line.
        MissingExtraError: datasets or pyarrow is not installed.
    """
    if num_negatives is not None and num_negatives < 0:
        raise ConfigError(f"num_negatives={num_negatives!r} must be 0 or more, or None")
    if max_pairs is not None and max_pairs < 1:
        raise ConfigError(f"max_pairs={max_pairs!r} must be 1 or more, or None for all")
    try:
        import pyarrow
        from datasets import Dataset
        from datasets.table import InMemoryTable
    except ImportError as error:
        raise MissingExtraError("reading training data", "train") from error
    left_out: Counter[str] = Counter()
    wanted = {
        "query_column": query_column,
        "positive_column": positive_column,
        "negative_column": negative_column,
    }
    is_protected = _Protected(protected)
    schema = pyarrow.schema(
        [
            ("query", "string"),
            ("positive", "string"),
            ("negatives", pyarrow.list_(pyarrow.string())),
        ]
    )
    batches: list[Any] = []
    files: list[DataFile] = []
    named = [data] if isinstance(data, str | Path) else list(data)
    for found in [file for each in named for file in find_files(each, revision=revision)]:
        rows: list[Row] = []
        good = 0
        for row in _good_rows(found.path, wanted, left_out, skip_bad_rows):
            if is_protected(row):
                left_out["in a test set"] += 1
                continue
            rows.append(row)
            good += 1
            if len(rows) == _ROWS_AT_ONCE:
                batches.append(_batch(schema, rows))
                rows = []
        batches.append(_batch(schema, rows))
        files.append(DataFile(role, found.name, sha256_of(found.path), good))
    table = pyarrow.Table.from_batches(batches, schema)
    where = ", ".join(map(str, named))
    if not len(table):
        reasons = "".join(f", {n:,} rows are left out: {reason}" for reason, n in left_out.items())
        raise DatasetError(f"{where}: there are no pairs to train on{reasons}")
    table, num_negatives = _with_negatives(table, num_negatives, left_out, where)
    if max_pairs is not None and max_pairs < len(table):
        drawn = np.zeros(len(table), dtype=bool)
        drawn[np.random.default_rng(seed).choice(len(table), max_pairs, replace=False)] = True
        left_out["not drawn"] = len(table) - max_pairs
        table = table.filter(drawn)
    return Triplets(Dataset(InMemoryTable(table)), num_negatives, tuple(files), dict(left_out))


class _Protected:
    """Whether a row holds a text of a test set."""

    def __init__(self, texts: Collection[str]) -> None:
        self._keys = {normalise(text) for text in texts} - {""}
        self._heads = {key[:_KEY] for key in self._keys}

    def __call__(self, row: Row) -> bool:
        query, positive, negatives = row
        return bool(self._keys) and any(map(self._holds, (query, positive, *negatives)))

    def _holds(self, text: str) -> bool:
        # Nearly every text differs in its beginning, and the whole takes long to normalise.
        head = normalise(text[:_HEAD])
        if len(text) > _HEAD and len(head) > 2 * _KEY and head[:_KEY] not in self._heads:
            return False
        return normalise(text) in self._keys


def _good_rows(
    file: Path, wanted: Mapping[str, str | None], left_out: Counter[str], skip: bool
) -> Iterator[Row]:
    # JSON Lines may have other fields in each line.
    known: dict[tuple[str, ...], Columns] = {}
    for place, row in read_rows(file):
        names = tuple(row)
        if names not in known:
            known[names] = find_columns(names, place if known else str(file), **wanted)
        columns = known[names]
        try:
            query = _text(place, columns.query, row[columns.query])
            positive = _text(place, columns.positive, row[columns.positive])
            negatives = [
                _text(place, name, value)
                for name in columns.negatives
                for value in _listed(row[name])
            ]
        except DatasetError:
            if not skip:
                raise
            left_out["bad"] += 1
            continue
        # A text can't be right and wrong.
        yield query, positive, [n for n in dict.fromkeys(negatives) if n not in (query, positive)]


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _text(place: str, column: str, value: object) -> str:
    where = f"{place}: its {column!r}"
    if not isinstance(value, str):
        raise DatasetError(f"{where} must be a text, not {shorten(value)}; {_REMEDY}")
    if not is_visible(value):
        raise DatasetError(f"{where} is blank; {_REMEDY}")
    if value.isascii():
        return value
    if not is_unicode(value):
        raise DatasetError(f"{where} holds a lone surrogate; {_REMEDY}")
    return unicodedata.normalize("NFC", value)


def _batch(schema: Any, rows: list[Row]) -> Any:
    import pyarrow

    arrays = [pyarrow.array([row[i] for row in rows], field.type) for i, field in enumerate(schema)]
    return pyarrow.record_batch(arrays, schema=schema)


def _with_negatives(
    table: Any, wanted: int | None, left_out: Counter[str], where: str
) -> tuple[Any, int]:
    """Turn the column of lists into as many columns as each row is to have."""
    import pyarrow.compute as compute

    lengths = compute.list_value_length(table["negatives"]).to_numpy()
    counts = np.bincount(lengths)
    number = int(counts.argmax()) if wanted is None else wanted
    enough = lengths >= number
    if not enough.any():
        raise DatasetError(
            f"{where}: no row has num_negatives={number} negatives, the most is {lengths.max()}; "
            "ask for fewer, or mine some"
        )
    if not enough.all():
        left_out["too few negatives"] = int((~enough).sum())
        table = table.filter(enough)
    negatives = table["negatives"]
    table = table.drop_columns("negatives")
    for i in range(number):
        name = "negative" if number == 1 else f"negative_{i + 1}"
        table = table.append_column(name, compute.list_element(negatives, i))
    return table, number
