"""Texts with their roles, from pairs, triplets or single texts."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from koe5_integrations.errors import DatasetError, shorten
from koe5_integrations.text import is_unicode, is_visible
from koe5_integrations.training.data import Found, find_files, read_rows, read_triplets
from koe5_integrations.training.data.finding import sha256_of
from koe5_integrations.training.pairs import normalise
from koe5_integrations.training.recipe import DataFile

__all__ = ["Texts", "read_texts"]


@dataclass(frozen=True)
class Texts:
    """Different texts of each role, in the order of the files.

    Attributes:
        queries: questions.
        passages: texts to be found.
        files: what was read, with the number of good rows of each.
        left_out: how many rows were left out because a test set holds a text of theirs.
    """

    queries: list[str]
    passages: list[str]
    files: tuple[DataFile, ...] = ()
    left_out: int = 0

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.queries) + len(self.passages)

    def draw(self, number: int, seed: int) -> tuple[Texts, Texts]:
        """Return so many texts, drawn from both roles as one, and the others; in their order."""
        taken = np.zeros(len(self), dtype=bool)
        taken[np.random.default_rng(seed).choice(len(self), number, replace=False)] = True
        first = taken[: len(self.queries)], taken[len(self.queries) :]
        return self._pick(*first), self._pick(*(~part for part in first))

    def _pick(self, queries: Iterable[bool], passages: Iterable[bool]) -> Texts:
        return Texts(
            [text for text, keep in zip(self.queries, queries, strict=True) if keep],
            [text for text, keep in zip(self.passages, passages, strict=True) if keep],
            self.files,
            self.left_out,
        )


def read_texts(
    data: str | Path | Sequence[str | Path],
    *,
    revision: str | None = None,
    protected: Collection[str] = (),
    role: str = "train",
) -> Texts:
    """Read the queries, positives and negatives of triplets, or a column of texts.

    A table with a column ``text`` holds single texts; its column ``role`` says ``query`` or
    ``passage`` of each, and without one all are passages. Other tables are read as
    :func:`~koe5_integrations.training.data.read_triplets` does; negatives are passages.

    Args:
        data: files, folders of files, or data sets' names on the hub.
        revision: of a data set on the hub.
        protected: texts of test sets. Rows that hold one, judged by its letters and digits, are
            left out.
        role: what the files are read for, for the record.

    Raises:
        DatasetError: nothing is there, it can't be read, or a text is bad; names file and line.
        MissingExtraError: datasets or pyarrow is not installed.
    """
    named = [data] if isinstance(data, str | Path) else data
    keys = {normalise(text) for text in protected} - {""}
    queries: dict[str, None] = {}
    passages: dict[str, None] = {}
    files: list[DataFile] = []
    left_out = 0
    for one in named:
        found = find_files(one, revision=revision)
        first = next((row for file in found for _, row in islice(read_rows(file.path), 1)), {})
        if "text" not in first:
            triplets = read_triplets(one, revision=revision, protected=protected, role=role)
            queries |= dict.fromkeys(triplets.data["query"])
            for name in triplets.data.column_names[1:]:
                passages |= dict.fromkeys(triplets.data[name])
            files += triplets.files
            left_out += triplets.left_out.get("in a test set", 0)
            continue
        for file in found:
            good = 0
            for text, of in _checked(file):
                if keys and normalise(text) in keys:
                    left_out += 1
                    continue
                (queries if of == "query" else passages)[text] = None
                good += 1
            files.append(DataFile(role, file.name, sha256_of(file.path), good))
    if not queries and not passages:
        raise DatasetError(f"{', '.join(map(str, named))} holds no text that can be used")
    return Texts(list(queries), list(passages), tuple(files), left_out)


def _checked(file: Found) -> Iterator[tuple[str, str]]:
    """Yield each text with its role."""
    for place, row in read_rows(file.path):
        text, role = row.get("text"), row.get("role") or "passage"
        if not isinstance(text, str) or not is_visible(text) or not is_unicode(text):
            raise DatasetError(
                f"{place}: its 'text' must be a text that is not blank, not {shorten(text)}; "
                "remove the row"
            )
        if role not in ("query", "passage"):
            raise DatasetError(
                f"{place}: its 'role' must be 'query' or 'passage', not {shorten(role)}"
            )
        yield unicodedata.normalize("NFC", text), role
