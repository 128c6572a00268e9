"""Pairs by number, and the triplets made of them as a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from koe5_integrations.training.pairs import normalise

__all__ = ["NumberedPairs", "write_triplets"]

_ROWS_AT_ONCE = 10_000


class NumberedPairs:
    """Different pairs; texts that differ in spaces, case and punctuation alone count as one.

    Attributes:
        queries: different questions, by number.
        passages: different passages, by number.
        positives: the numbers of the passages that answer each question.
        pairs: numbers of question and passage, in the order they were added.
    """

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.passages: list[str] = []
        self.positives: list[list[int]] = []
        self.pairs: list[tuple[int, int]] = []
        self._query_of: dict[bytes, int] = {}
        self._passage_of: dict[bytes, int] = {}

    def add(self, query: str, positive: str) -> None:
        """Note a pair, if it is a new one."""
        number = _number(query, self._query_of, self.queries)
        if number == len(self.positives):
            self.positives.append([])
        passage = self.add_passage(positive)
        if passage not in self.positives[number]:
            self.positives[number].append(passage)
            self.pairs.append((number, passage))

    def add_passage(self, text: str) -> int:
        """Return a passage's number, a new one if need be."""
        return _number(text, self._passage_of, self.passages)


def _number(text: str, number_of: dict[bytes, int], texts: list[str]) -> int:
    # Digests, because the letters of all passages would take as much memory as the passages.
    key = hashlib.blake2b((normalise(text) or text).encode(), digest_size=16).digest()
    number = number_of.setdefault(key, len(texts))
    if number == len(texts):
        texts.append(text)
    return number


def write_triplets(
    file: Path,
    pairs: NumberedPairs,
    negatives: Mapping[int, Sequence[int]],
    *,
    several: bool,
    record: Mapping[str, Any],
) -> int:
    """Write the pairs that have negatives as Parquet; return how many.

    Args:
        file: appears when it is complete, and replaces one that is there.
        pairs: what to write.
        negatives: numbers of a question's passages, by the question's.
        several: write a column of lists, ``negatives``, and not ``negative`` with the only one.
        record: how they were found, kept in the file's metadata.
    """
    import pyarrow
    from pyarrow import parquet

    from koe5_integrations.ingestion.shards.durable import new_file

    text = pyarrow.string()
    negative = ("negatives", pyarrow.list_(text)) if several else ("negative", text)
    schema = pyarrow.schema(
        [("query", text), ("positive", text), negative],
        metadata={"koe5_integrations": json.dumps(record, ensure_ascii=False)},
    )

    def rows() -> Iterator[tuple[str, str, str | list[str]]]:
        for query, positive in pairs.pairs:
            if query in negatives:
                found = [pairs.passages[passage] for passage in negatives[query]]
                yield pairs.queries[query], pairs.passages[positive], found if several else found[0]

    written, left = 0, rows()
    with new_file(file) as stream, parquet.ParquetWriter(stream, schema) as writer:
        while some := list(islice(left, _ROWS_AT_ONCE)):
            columns = zip(*some, strict=True)
            arrays = [
                pyarrow.array(column, field.type)
                for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
            written += len(some)
    return written
