"""Reading the known data sets from their own layouts."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from koe5_integrations.evaluation.datasets.autorag import read_autorag
from koe5_integrations.evaluation.datasets.beir import (
    add_judgement,
    check_known,
    read_beir,
    read_judgements,
    read_texts,
    whole,
)
from koe5_integrations.evaluation.datasets.dataset import (
    DatasetError,
    RetrievalDataset,
    check_id,
    check_judged,
    check_text,
)
from koe5_integrations.evaluation.datasets.fetch import find_files
from koe5_integrations.evaluation.datasets.files import parquet_rows, whole_text
from koe5_integrations.evaluation.datasets.known import KnownDataset

__all__ = ["read_known"]

_SHIPPED = Path(__file__).parents[1] / "data"


def read_known(known: KnownDataset, data_dir: str | Path | None) -> RetrievalDataset:
    """Read a known retrieval set: shipped, from a folder, or fetched at its revision.

    Only judged questions are kept (Ko-StrategyQA's queries include those of its training part).

    Raises:
        DatasetError: it can't be had, is malformed, or has not the size it is known to have.
        MissingExtraError: it is Parquet and pyarrow is not installed.
    """
    if known.host == "shipped":
        dataset = read_beir(_SHIPPED / known.name)
    else:
        files = list(find_files(known, data_dir).values())
        if known.name == "autorag":
            dataset = read_autorag(files[0][0].parent)
        elif known.name == "autorag-hub":
            dataset = _hub_tables(files)
        elif known.name == "publichealthqa":
            dataset = _question_answer_csv(files[0][0])
        else:
            dataset = _hub_lines(files)
    found = len(dataset.qrels), len(dataset.corpus)
    if found != (known.queries, known.documents):
        raise DatasetError(
            f"{known.name} has {known.queries:,} judged queries and {known.documents:,} documents "
            f"at {known.source}, but {found[0]:,} and {found[1]:,} were found: another revision "
            "or part. To measure on it as it is, pass its folder instead of the name"
        )
    asked = {query_id: dataset.queries[query_id] for query_id in dataset.qrels}
    return RetrievalDataset(
        known.name, dataset.corpus, asked, dataset.qrels, known.source, known.licence
    )


def _hub_lines(files: list[list[Path]]) -> RetrievalDataset:
    (corpus_file,), (queries_file,), (qrels_file,) = files
    corpus = read_texts(corpus_file, with_title=True)
    queries = read_texts(queries_file, with_title=False)
    return RetrievalDataset(
        corpus_file.parent.name, corpus, queries, read_judgements(qrels_file, corpus, queries)
    )


def _hub_tables(files: list[list[Path]]) -> RetrievalDataset:
    layout = "fetch it again from the hub"
    corpus_files, queries_files, qrels_files = files
    corpus = _table_texts(corpus_files, ("_id", "text", "title"), layout)
    queries = _table_texts(queries_files, ("_id", "text"), layout)
    qrels: dict[str, dict[str, int]] = {}
    columns = ("query-id", "corpus-id", "score")
    for number, row in enumerate(parquet_rows(qrels_files, columns, layout), start=1):
        where = f"{qrels_files[0]}, row {number}"
        relevance = whole(row["score"])
        if relevance is None:
            raise DatasetError(f"{where}: the score {row['score']!r} is no whole number; {layout}")
        check_known(where, "query", row["query-id"], queries)
        check_known(where, "document", row["corpus-id"], corpus)
        add_judgement(qrels, where, (row["query-id"], row["corpus-id"], relevance))
    check_judged(str(qrels_files[0]), qrels)
    return RetrievalDataset(corpus_files[0].parent.name, corpus, queries, qrels)


def _table_texts(files: list[Path], columns: tuple[str, ...], layout: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, row in enumerate(parquet_rows(files, columns, layout), start=1):
        where = f"{files[0]}, row {number}"
        key = check_id(where, row["_id"])
        if key in texts:
            raise DatasetError(f"{where}: the id {key!r} is repeated; make ids unique")
        parts = [row.get("title"), row["text"]]
        texts[key] = check_text(f"{where}: the text of {key!r}", " ".join(filter(None, parts)))
    return texts


def _question_answer_csv(file: Path) -> RetrievalDataset:
    """Read columns ``question`` and ``answer``; equal texts are one question or one document.

    A row that lacks either is left out, as MTEB does.
    """
    reader = csv.DictReader(io.StringIO(whole_text(file), newline=""), strict=True)
    ids: dict[str, dict[str, str]] = {"Q": {}, "D": {}}
    qrels: dict[str, Mapping[str, int]] = {}
    try:
        if not {"question", "answer"} <= set(reader.fieldnames or ()):
            raise DatasetError(
                f"{file}, line 1: needs the columns question and answer; got {reader.fieldnames!r}"
            )
        for row in reader:
            question, answer = row["question"], row["answer"]
            if not (question and question.strip() and answer and answer.strip()):
                continue
            query_id = ids["Q"].setdefault(question, f"Q{len(ids['Q'])}")
            doc_id = ids["D"].setdefault(answer, f"D{len(ids['D'])}")
            qrels[query_id] = {**qrels.get(query_id, {}), doc_id: 1}
    except csv.Error as error:
        raise DatasetError(
            f"{file}, line {reader.reader.line_num}: not CSV ({error}); fetch it again"
        ) from error
    check_judged(str(file), qrels)
    corpus = {doc_id: text for text, doc_id in ids["D"].items()}
    queries = {query_id: text for text, query_id in ids["Q"].items()}
    return RetrievalDataset(file.parent.name, corpus, queries, qrels)
