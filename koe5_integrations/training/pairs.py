"""Training pairs: read the Parquet file, and find those that a test set holds too."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from koe5_integrations.errors import DatasetError, MissingExtraError

REQUIRED_COLUMNS = ("source", "query", "passage")
_NOT_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Pairs:
    """Query and passage texts that belong together, with the name of each pair's source."""

    sources: list[str]
    queries: list[str]
    passages: list[str]

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.queries)

    def take(self, rows: np.ndarray) -> Pairs:
        """Return the pairs at the integer positions `rows`, in that order."""
        picked = [int(row) for row in rows]
        return Pairs(
            [self.sources[row] for row in picked],
            [self.queries[row] for row in picked],
            [self.passages[row] for row in picked],
        )


def read_pairs(path: str | Path) -> Pairs:
    """Read the columns source, query and passage of a Parquet file.

    Raises:
        DatasetError: there is no such Parquet file, a column is missing, or it holds no pair.
        MissingExtraError: pyarrow is not installed.
    """
    file = Path(path)
    if not file.is_file():
        raise DatasetError(
            f"no training pairs at {str(file)!r}; pass a Parquet file with the columns "
            f"{', '.join(REQUIRED_COLUMNS)} as --pairs"
        )
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError("reading training pairs", "train") from error
    try:
        names = parquet.read_schema(file).names
    except ValueError as error:  # of which Arrow's own is one
        raise DatasetError(f"{file} is not a Parquet file: {error}") from error
    missing = [name for name in REQUIRED_COLUMNS if name not in names]
    if missing:
        raise DatasetError(
            f"{file.name} has no column {', '.join(map(repr, missing))} (it has {names!r}); "
            f"rename the columns to {', '.join(REQUIRED_COLUMNS)}"
        )
    columns = parquet.read_table(file, columns=list(REQUIRED_COLUMNS)).to_pydict()
    if not columns["query"]:
        raise DatasetError(f"{file.name} holds no pairs")
    return Pairs(columns["source"], columns["query"], columns["passage"])


def normalise(text: str) -> str:
    """Reduce a text to what overlap is judged by: NFKC, lower case, letters and digits only."""
    return _NOT_WORD.sub("", unicodedata.normalize("NFKC", text).lower())


def overlapping(pairs: Pairs, protected: Collection[str]) -> np.ndarray:
    """Return the positions (int64) of pairs whose query or passage is one of the protected texts.

    Texts are compared after `normalise`; `protected` holds raw texts.
    """
    keys = {normalise(text) for text in protected} - {""}
    hits = [
        row
        for row, (query, passage) in enumerate(zip(pairs.queries, pairs.passages, strict=True))
        if normalise(query) in keys or normalise(passage) in keys
    ]
    return np.asarray(hits, dtype=np.int64)
