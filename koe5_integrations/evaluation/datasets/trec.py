"""TREC's text formats: qrels of four columns and runs of six, ids percent-encoded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from koe5_integrations.evaluation.datasets.beir import (
    add_judgement,
    check_known,
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
from koe5_integrations.evaluation.datasets.files import lines
from koe5_integrations.evaluation.results import Hit

__all__ = ["QRELS_NAMES", "read_trec", "read_trec_qrels", "read_trec_run"]

QRELS_NAMES = ("qrels.trec", "qrels.txt")


def read_trec(folder: str | Path) -> RetrievalDataset:
    """Read a folder with TREC qrels.

    - ``qrels.trec`` or ``qrels.txt``: see :func:`read_trec_qrels`;
    - ``corpus.jsonl``: as BEIR's;
    - ``queries.jsonl`` as BEIR's, or ``queries.tsv``: query id, a tab and the question per line.

    Raises:
        DatasetError: a file is missing or malformed, or the qrels name what does not exist.
    """
    base = Path(folder)
    file = next((base / name for name in QRELS_NAMES if (base / name).is_file()), None)
    queries_file = next(
        (base / name for name in ("queries.jsonl", "queries.tsv") if (base / name).is_file()), None
    )
    if file is None or queries_file is None or not (base / "corpus.jsonl").is_file():
        raise DatasetError(
            f"{base} needs qrels.trec (or qrels.txt), corpus.jsonl, and queries.jsonl or "
            "queries.tsv"
        )
    corpus = read_texts(base / "corpus.jsonl", with_title=True)
    if queries_file.suffix == ".jsonl":
        queries = read_texts(queries_file, with_title=False)
    else:
        queries = _topics(queries_file)
    qrels: dict[str, dict[str, int]] = {}
    for where, judgement in _judgements(file, decode=True):
        add_judgement(qrels, where, judgement)
        check_known(where, "query", judgement[0], queries)
        check_known(where, "document", judgement[1], corpus)
    check_judged(str(file), qrels)
    return RetrievalDataset(base.resolve().name, corpus, queries, qrels)


def read_trec_qrels(file: str | Path, *, decode: bool = True) -> dict[str, dict[str, int]]:
    """Read qrels: query id, anything, document id and relevance, separated by white space.

    Args:
        file: a path.
        decode: ids are percent-encoded, as this package writes them because ids may hold spaces;
            False takes them as they stand.

    Returns:
        Relevance by document id, by query id; below 1 is not relevant.

    Raises:
        DatasetError: a malformed line, contradicting judgements, or nothing relevant.
    """
    qrels: dict[str, dict[str, int]] = {}
    for where, judgement in _judgements(Path(file), decode=decode):
        add_judgement(qrels, where, judgement)
    check_judged(str(file), qrels)
    return qrels


def read_trec_run(file: str | Path, *, decode: bool = True) -> dict[str, list[Hit]]:
    """Read a run: query id, Q0, document id, rank, score and tag, separated by white space.

    The order is by falling score, as trec_eval has it; equal scores are ordered by rank, and not
    by document id, which carries no meaning.

    Args:
        file: a path.
        decode: as :func:`read_trec_qrels`.

    Returns:
        What was retrieved, best first, by query id.

    Raises:
        DatasetError: a malformed line, or none.
    """
    found: dict[str, list[tuple[float, int, str]]] = {}
    for number, line in lines(Path(file)):
        fields = line.split()
        try:
            query_id, _, doc_id, rank, score, _ = fields
            # Infinite scores sort well; NaN sorts nowhere.
            row = (-float(score), int(rank), _id(doc_id, decode))
            if math.isnan(row[0]):
                raise ValueError("NaN has no place in an order")
        except ValueError as error:
            raise DatasetError(
                f"{file}, line {number}: expected query id, Q0, document id, rank, score and tag, "
                f"separated by spaces (spaces in ids written as %20); got {line[:80]!r}"
            ) from error
        found.setdefault(_id(query_id, decode), []).append(row)
    if not found:
        raise DatasetError(f"{file} is empty; write one line per retrieved document")
    return {
        query_id: [Hit(doc_id, -negative) for negative, _, doc_id in sorted(rows)]
        for query_id, rows in found.items()
    }


def _judgements(file: Path, *, decode: bool) -> Iterator[tuple[str, tuple[str, str, int]]]:
    for number, line in lines(file):
        where = f"{file}, line {number}"
        fields = line.split()
        relevance = whole(fields[3]) if len(fields) == 4 else None
        if relevance is None:
            raise DatasetError(
                f"{where}: expected query id, 0, document id and a whole number, separated by "
                f"spaces (spaces in ids written as %20); got {line[:80]!r}"
            )
        yield where, (_id(fields[0], decode), _id(fields[2], decode), relevance)


def _id(field: str, decode: bool) -> str:
    return unquote(field, errors="surrogatepass") if decode else field


def _topics(file: Path) -> dict[str, str]:
    queries: dict[str, str] = {}
    for number, line in lines(file):
        where = f"{file}, line {number}"
        key, tab, text = line.partition("\t")
        if not tab:
            raise DatasetError(f"{where}: expected query id, a tab and the question; got {line!r}")
        check_id(where, key)
        check_text(f"{where}: the text of {key!r}", text)
        if key in queries:
            raise DatasetError(f"{where}: the id {key!r} is repeated; make ids unique")
        queries[key] = text
    return queries
