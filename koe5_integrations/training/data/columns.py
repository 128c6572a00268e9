"""Which column of a table is the query, which the positive, and which the negatives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from koe5_integrations.errors import DatasetError

__all__ = ["Columns", "find_columns"]

_QUERY = ("query", "question", "anchor", "sentence1", "질문")
_POSITIVE = ("positive", "passage", "document", "answer", "pos", "답변")
_NEGATIVE = ("negative", "negatives", "hard_negative", "hard_negatives", "neg")
_NUMBERED = re.compile(r"(negative|hard_negative|neg)_?\d+")


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns.

    Attributes:
        query: of the questions.
        positive: of the passages that answer them.
        negatives: of the passages that don't; each holds a text or a list of texts. May be empty.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()

    @property
    def all(self) -> list[str]:
        """Every name, in order."""
        return [self.query, self.positive, *self.negatives]


def find_columns(
    names: Sequence[str],
    where: str,
    *,
    query_column: str | None = None,
    positive_column: str | None = None,
    negative_column: str | None = None,
) -> Columns:
    """Return which columns are which: as named, or by their usual names.

    The usual names are query, question, anchor, sentence1 or 질문; positive, passage, document,
    answer, pos or 답변; negative, hard_negative or neg, also in the plural or numbered
    (``negative_1``, …).

    Args:
        names: the columns there are.
        where: the table, for errors.
        query_column: the query's, None finds it.
        positive_column: the positive's, None finds it.
        negative_column: the negatives', None finds them; none is no fault then.

    Raises:
        DatasetError: a column is missing, or several could be meant.
    """
    query = _one(names, where, "query_column", query_column, _QUERY)
    positive = _one(names, where, "positive_column", positive_column, _POSITIVE)
    if negative_column is not None:
        _one(names, where, "negative_column", negative_column, ())
        return Columns(query, positive, (negative_column,))
    numbered = [name for name in names if _NUMBERED.fullmatch(name)]
    plain = [name for name in names if name in _NEGATIVE]
    if len(plain) > 1 or (plain and numbered):
        raise _ambiguous(where, "negative_column", [*plain, *numbered])
    numbered.sort(key=lambda name: int(re.sub(r"\D", "", name)))
    return Columns(query, positive, (*plain, *numbered))


def _one(
    names: Sequence[str], where: str, option: str, wanted: str | None, usual: Sequence[str]
) -> str:
    found = [name for name in names if (name == wanted if wanted is not None else name in usual)]
    if len(found) > 1:
        raise _ambiguous(where, option, found)
    if not found:
        missing = repr(wanted) if wanted is not None else f"called {' or '.join(usual)}"
        raise DatasetError(
            f"{where} has no column {missing} (it has {', '.join(map(repr, names)) or 'none'}); "
            f"name the right one with {option}="
        )
    return found[0]


def _ambiguous(where: str, option: str, found: Sequence[str]) -> DatasetError:
    return DatasetError(
        f"{where} has the columns {' and '.join(map(repr, found))}; say which is meant with "
        f"{option}="
    )
