"""Retrieval data sets: BEIR folders, the AutoRAG Parquet layout, and the shipped set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koe5_integrations.errors import ConfigError, KoE5Error, MissingExtraError

_SHIPPED = Path(__file__).parent / "data"
SHIPPED_NAMES = ("python_faq_ko",)


class DatasetError(KoE5Error, ValueError):
    """A data-set file is missing or malformed; the message names file, line and remedy."""


@dataclass(frozen=True)
class RetrievalDataset:
    """Documents, questions, and which document answers which question.

    Attributes:
        name: short name used in reports.
        corpus: document text by document id (a BEIR title is put before its text).
        queries: question text by query id.
        qrels: relevance (0 or more) by document id, by query id.
    """

    name: str
    corpus: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]


def load_dataset(name: str) -> RetrievalDataset:
    """Return a data set that ships with the package; `SHIPPED_NAMES` lists them.

    Raises:
        ConfigError: no set of that name is shipped.
    """
    if name not in SHIPPED_NAMES:
        raise ConfigError(
            f"no shipped data set is called {name!r}; there is {', '.join(SHIPPED_NAMES)}. "
            "Read others from a folder with read_beir or read_autorag"
        )
    return read_beir(_SHIPPED / name)


def read_beir(folder: str | Path) -> RetrievalDataset:
    """Read a folder of `corpus.jsonl`, `queries.jsonl` and `qrels.tsv` (with a header line).

    Raises:
        DatasetError: a file is missing, a line is malformed, an id is repeated, or the qrels
            name a query or document that does not exist.
    """
    base = Path(folder)
    corpus = _read_texts(_existing(base / "corpus.jsonl"), with_title=True)
    queries = _read_texts(_existing(base / "queries.jsonl"), with_title=False)
    qrels = _read_qrels(_existing(base / "qrels.tsv"), corpus, queries)
    return RetrievalDataset(base.name, corpus, queries, qrels)


def read_autorag(folder: str | Path) -> RetrievalDataset:
    """Read the AutoRAG layout: `ocr_corpus_v3.parquet` (doc_id, contents) and `qa_v4.parquet`.

    Every document of a question's `retrieval_gt` groups counts as relevant (1).

    Raises:
        DatasetError: a file or column is missing, or `retrieval_gt` names an unknown document.
        MissingExtraError: pyarrow is not installed.
    """
    base = Path(folder)
    documents = _read_parquet(base / "ocr_corpus_v3.parquet", ("doc_id", "contents"))
    questions = _read_parquet(base / "qa_v4.parquet", ("qid", "query", "retrieval_gt"))
    corpus = {row["doc_id"]: row["contents"] for row in documents}
    queries = {row["qid"]: row["query"] for row in questions}
    qrels = {
        row["qid"]: {doc_id: 1 for group in row["retrieval_gt"] for doc_id in group}
        for row in questions
    }
    for number, (query_id, judged) in enumerate(qrels.items(), start=1):
        unknown = [doc_id for doc_id in judged if doc_id not in corpus]
        if unknown:
            raise DatasetError(
                f"{base / 'qa_v4.parquet'}, row {number}: query {query_id!r} names the document "
                f"{unknown[0]!r}, which ocr_corpus_v3.parquet does not hold; use the two files "
                "of one revision"
            )
    return RetrievalDataset(base.name, corpus, queries, qrels)


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise DatasetError(
            f"{file} does not exist; a BEIR folder holds corpus.jsonl, queries.jsonl and qrels.tsv"
        )
    return file


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        content = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        number = file.read_bytes()[: error.start].count(b"\n") + 1
        raise DatasetError(
            f"{file}, line {number}: not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def _read_texts(file: Path, *, with_title: bool) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, line in _lines(file):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{file}, line {number}: not JSON ({error.msg}); write one object per line"
            ) from error
        if not (
            isinstance(row, dict)
            and isinstance(row.get("_id"), str)
            and isinstance(row.get("text"), str)
        ):
            raise DatasetError(
                f'{file}, line {number}: needs the strings "_id" and "text"; got {line[:80]!r}'
            )
        if row["_id"] in texts:
            raise DatasetError(
                f"{file}, line {number}: the id {row['_id']!r} is repeated; make ids unique"
            )
        title = str(row.get("title") or "") if with_title else ""
        texts[row["_id"]] = f"{title} {row['text']}" if title else row["text"]
    if not texts:
        raise DatasetError(f"{file} is empty; write one JSON object per line")
    return texts


def _read_qrels(
    file: Path, corpus: Mapping[str, str], queries: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for number, line in _lines(file):
        if number == 1:
            continue
        fields = line.split("\t")
        if len(fields) != 3 or not fields[2].strip().isdecimal():
            raise DatasetError(
                f"{file}, line {number}: expected query id, document id and a whole number of 0 "
                f"or more, separated by tabs; got {line[:80]!r}"
            )
        query_id, doc_id, relevance = fields
        for kind, key, known in (("query", query_id, queries), ("document", doc_id, corpus)):
            if key not in known:
                raise DatasetError(
                    f"{file}, line {number}: unknown {kind} {key!r}; remove the line or add the "
                    f"{kind}"
                )
        qrels.setdefault(query_id, {})[doc_id] = int(relevance)
    if not qrels:
        raise DatasetError(f"{file} judges nothing; write a header and one line per judgement")
    return qrels


def _read_parquet(file: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    if not file.is_file():
        raise DatasetError(
            f"{file} does not exist; an AutoRAG folder holds ocr_corpus_v3.parquet and "
            "qa_v4.parquet"
        )
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError("reading Parquet", "parquet") from error
    names = parquet.read_schema(file).names
    missing = [column for column in columns if column not in names]
    if missing:
        raise DatasetError(
            f"{file} has no column {', '.join(map(repr, missing))} (it has {names!r}); it is not "
            "the AutoRAG layout"
        )
    rows: list[dict[str, Any]] = parquet.read_table(file, columns=list(columns)).to_pylist()
    return rows
