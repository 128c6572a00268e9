"""AutoRAG's layout: a corpus and questions as Parquet, with groups of alternatives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from koe5_integrations.evaluation.datasets.dataset import (
    DatasetError,
    RetrievalDataset,
    check_id,
    check_judged,
    check_text,
)
from koe5_integrations.evaluation.datasets.files import parquet_rows
from koe5_integrations.evaluation.metrics import GroupedRelevance

__all__ = ["autorag_files", "read_autorag"]

_PAIRS = (("ocr_corpus_v3.parquet", "qa_v4.parquet"), ("corpus.parquet", "qa.parquet"))
_LAYOUT = (
    "an AutoRAG folder holds ocr_corpus_v3.parquet and qa_v4.parquet, or corpus.parquet (doc_id, "
    "contents) and qa.parquet (qid, query, retrieval_gt)"
)


def autorag_files(folder: Path) -> tuple[Path, Path]:
    """Return the corpus and the questions of an AutoRAG folder: the first pair it has any of."""
    for names in _PAIRS:
        if any((folder / name).is_file() for name in names):
            return folder / names[0], folder / names[1]
    return folder / _PAIRS[0][0], folder / _PAIRS[0][1]


def read_autorag(folder: str | Path) -> RetrievalDataset:
    """Read AutoRAG's layout: ``doc_id``, ``contents``; ``qid``, ``query``, ``retrieval_gt``.

    ``retrieval_gt`` ``[["a", "b"], ["c"]]`` asks for (a or b) and c: each group is one thing to be
    found, and finding one of its documents finds it (see
    :class:`~koe5_integrations.evaluation.metrics.GroupedRelevance`). A flat list is one group of
    alternatives, as AutoRAG reads it. Every document named has relevance 1 in the qrels.

    Raises:
        DatasetError: a file or column is missing, an id is repeated, a text is blank, or
            ``retrieval_gt`` names nothing or an unknown document.
        MissingExtraError: pyarrow is not installed.
    """
    base = Path(folder)
    corpus_file, questions_file = autorag_files(base)
    corpus: dict[str, str] = {}
    for number, row in enumerate(
        parquet_rows([corpus_file], ("doc_id", "contents"), _LAYOUT), start=1
    ):
        _put(corpus, f"{corpus_file}, row {number}", row["doc_id"], row["contents"])
    queries: dict[str, str] = {}
    qrels: dict[str, Mapping[str, int]] = {}
    columns = ("qid", "query", "retrieval_gt")
    for number, row in enumerate(parquet_rows([questions_file], columns, _LAYOUT), start=1):
        where = f"{questions_file}, row {number}"
        _put(queries, where, row["qid"], row["query"])
        judged = GroupedRelevance(_groups(where, row["qid"], row["retrieval_gt"]))
        for doc_id in judged:
            if doc_id not in corpus:
                raise DatasetError(
                    f"{where}: query {row['qid']!r} names the document {doc_id!r}, which "
                    f"{corpus_file.name} does not hold; use the two files of one revision"
                )
        # Where nothing is an alternative to anything, the plain form says it all.
        plain = len(judged.groups) == len(judged)
        qrels[row["qid"]] = dict(judged) if plain else judged
    check_judged(str(questions_file), qrels)
    return RetrievalDataset(base.resolve().name, corpus, queries, qrels)


def _put(texts: dict[str, str], where: str, key: object, text: object) -> None:
    doc_or_query_id = check_id(where, key)
    if doc_or_query_id in texts:
        raise DatasetError(f"{where}: the id {key!r} is repeated; make ids unique")
    texts[doc_or_query_id] = check_text(f"{where}: the text of {key!r}", text)


def _groups(where: str, query_id: str, value: Any) -> list[list[str]]:
    groups = value if isinstance(value, list) else [value]
    if groups and all(isinstance(item, str) for item in groups):
        groups = [groups]
    sound = all(
        isinstance(group, list) and group and all(isinstance(doc_id, str) for doc_id in group)
        for group in groups
    )
    if not groups or not sound:
        raise DatasetError(
            f"{where}: query {query_id!r} has the retrieval_gt {value!r}; write a list of groups "
            "of document ids, such as [['a', 'b'], ['c']], or remove the question"
        )
    return groups
