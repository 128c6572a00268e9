"""BEIR folders: corpus.jsonl, queries.jsonl and qrels as tab-separated values or JSON Lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from koe5_integrations.evaluation.datasets.dataset import (
    DatasetError,
    RetrievalDataset,
    check_id,
    check_judged,
    check_text,
)
from koe5_integrations.evaluation.datasets.files import json_rows, lines

__all__ = ["read_beir", "read_judgements", "read_texts"]

_LAYOUT = "a BEIR folder holds corpus.jsonl, queries.jsonl and qrels.tsv (or qrels/test.tsv)"


def read_beir(folder: str | Path, *, split: str | None = None) -> RetrievalDataset:
    """Read a BEIR folder.

    - ``corpus.jsonl``: ``{"_id": …, "text": …}`` per line, with an optional ``"title"``, which is
      put before the text with a space;
    - ``queries.jsonl``: ``{"_id": …, "text": …}`` per line;
    - ``qrels.tsv`` or ``qrels/SPLIT.tsv``: query id, document id and relevance, separated by tabs,
      with or without a header line; or ``qrels/SPLIT.jsonl`` with ``query-id``, ``corpus-id`` and
      ``score``.

    Args:
        folder: where they are.
        split: which of several files under ``qrels/``; None takes ``qrels.tsv``, else ``test``,
            else the only one there is.

    Raises:
        DatasetError: a file is missing, a line is malformed, an id is repeated, a text is blank,
            or the qrels name a query or document that does not exist.
    """
    base = Path(folder)
    corpus = read_texts(_existing(base / "corpus.jsonl"), with_title=True)
    queries = read_texts(_existing(base / "queries.jsonl"), with_title=False)
    qrels = read_judgements(_qrels_file(base, split), corpus, queries)
    return RetrievalDataset(base.resolve().name, corpus, queries, qrels)


def read_texts(file: Path, *, with_title: bool) -> dict[str, str]:
    """Read text by id from JSON Lines with ``_id``, ``text`` and perhaps ``title``.

    Raises:
        DatasetError: a malformed line, a repeated id, a blank text, or none at all.
    """
    texts: dict[str, str] = {}
    for number, line, row in json_rows(file):
        where = f"{file}, line {number}"
        key, text = row.get("_id"), row.get("text")
        if not (isinstance(key, str) and isinstance(text, str)):
            raise DatasetError(f'{where}: needs the strings "_id" and "text"; got {line[:80]!r}')
        check_id(where, key)
        if key in texts:
            raise DatasetError(f"{where}: the id {key!r} is repeated; make ids unique")
        title = str(row.get("title") or "") if with_title else ""
        texts[key] = f"{title} {text}" if title and text else title or text
        check_text(f"{where}: the text of {key!r}", texts[key])
    if not texts:
        raise DatasetError(f"{file} is empty; write one JSON object per line")
    return texts


def read_judgements(
    file: Path, corpus: Mapping[str, str], queries: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    """Read qrels of three columns, as tab-separated values or JSON Lines.

    Raises:
        DatasetError: a malformed line, an unknown id, contradictions, or nothing relevant.
    """
    rows = _json_judgements(file) if file.suffix == ".jsonl" else _tsv_judgements(file, queries)
    qrels: dict[str, dict[str, int]] = {}
    for number, query_id, doc_id, relevance in rows:
        where = f"{file}, line {number}"
        check_known(where, "query", query_id, queries)
        check_known(where, "document", doc_id, corpus)
        add_judgement(qrels, where, (query_id, doc_id, relevance))
    check_judged(str(file), qrels)
    return qrels


def add_judgement(
    qrels: dict[str, dict[str, int]], where: str, judgement: tuple[str, str, int]
) -> None:
    """Put a judgement in; a second one of the same pair must agree."""
    query_id, doc_id, relevance = judgement
    before = qrels.setdefault(query_id, {}).setdefault(doc_id, relevance)
    if before != relevance:
        raise DatasetError(
            f"{where}: query {query_id!r} and document {doc_id!r} were judged {before} before and "
            f"are judged {relevance} here; keep one of the lines"
        )


def check_known(where: str, kind: str, key: str, known: Mapping[str, str]) -> None:
    """Raise DatasetError unless the judged query or document exists."""
    if key not in known:
        raise DatasetError(f"{where}: unknown {kind} {key!r}; remove the line or add the {kind}")


def whole(value: object) -> int | None:
    """Return a relevance, which some data sets write as 1.0, as a whole number; else None."""
    try:
        number = float(value) if isinstance(value, str | int | float) else float("nan")
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise DatasetError(f"{file} does not exist; {_LAYOUT}")
    return file


def _qrels_file(base: Path, split: str | None) -> Path:
    if split is None and (base / "qrels.tsv").is_file():
        return base / "qrels.tsv"
    found = sorted(f for f in (base / "qrels").glob("*") if f.suffix in {".tsv", ".jsonl"})
    for wanted in (split,) if split is not None else ("test",):
        for file in found:
            if file.stem == wanted:
                return file
    if split is not None:
        raise DatasetError(
            f"{base / 'qrels'} has no {split}.tsv or {split}.jsonl (it has "
            f"{', '.join(f.name for f in found) or 'nothing'}); name one of its splits"
        )
    if not found:
        return _existing(base / "qrels.tsv")
    if len(found) > 1:
        raise DatasetError(
            f"{base / 'qrels'} has {', '.join(f.name for f in found)}; say which with split="
        )
    return found[0]


def _json_judgements(file: Path) -> Iterator[tuple[int, str, str, int]]:
    for number, line, row in json_rows(file):
        query_id, doc_id, relevance = _judgement_fields(row)
        if not (isinstance(query_id, str) and isinstance(doc_id, str) and relevance is not None):
            raise DatasetError(
                f'{file}, line {number}: needs the strings "query-id" and "corpus-id" and the '
                f'whole number "score"; got {line[:80]!r}'
            )
        yield number, query_id, doc_id, relevance


def _judgement_fields(row: Mapping[str, Any]) -> tuple[Any, Any, int | None]:
    return row.get("query-id"), row.get("corpus-id"), whole(row.get("score"))


def _tsv_judgements(file: Path, queries: Mapping[str, str]) -> Iterator[tuple[int, str, str, int]]:
    for number, line in lines(file):
        fields = line.split("\t")
        relevance = whole(fields[2]) if len(fields) == 3 else None
        if relevance is None or relevance < 0:
            # A header names no query; a first judgement that is merely malformed does.
            if number == 1 and not any(word in queries for word in (*fields, *line.split())):
                continue
            raise DatasetError(
                f"{file}, line {number}: expected query id, document id and a whole number of 0 "
                f"or more, separated by tabs; got {line[:80]!r}"
            )
        yield number, fields[0], fields[1], relevance
