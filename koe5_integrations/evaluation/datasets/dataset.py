"""A retrieval data set: documents, questions, and which document answers which question."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

from koe5_integrations.errors import DatasetError, shorten
from koe5_integrations.evaluation.metrics import GroupedRelevance

__all__ = ["DatasetError", "RetrievalDataset"]


@dataclass(frozen=True)
class RetrievalDataset:
    """Documents, questions, and which document answers which question.

    Attributes:
        name: short name used in reports.
        corpus: document text by document id (a BEIR title is put before its text).
        queries: question text by query id.
        qrels: relevance by document id, by query id; relevant is 1 or more. Metrics are means over
            these queries; a question without judgements is not asked.
        source: where it comes from, with the revision; None if not known.
        licence: of the data, as an SPDX expression where there is one; None if not known.
    """

    name: str
    corpus: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    source: str | None = None
    licence: str | None = None

    @cached_property
    def sha256(self) -> str:
        """Hash of the content, 64 hexadecimal digits: ids, texts and judgements, in any order.

        Equal digests mean that the same questions were asked of the same documents and judged in
        the same way; name, source and licence don't count.
        """
        digest = hashlib.sha256()
        for kind, texts in (("document", self.corpus), ("query", self.queries)):
            for key in sorted(texts):
                digest.update(json.dumps([kind, key, texts[key]]).encode() + b"\n")
        for query_id in sorted(self.qrels):
            judged = self.qrels[query_id]
            line: list[object] = ["judgement", query_id, sorted(judged.items())]
            if isinstance(judged, GroupedRelevance) and len(judged.groups) < len(judged):
                line.append(sorted(map(sorted, judged.groups)))
            digest.update(json.dumps(line).encode() + b"\n")
        return digest.hexdigest()

    @classmethod
    def from_dicts(
        cls,
        corpus: Mapping[str, str],
        queries: Mapping[str, str],
        qrels: Mapping[str, Mapping[str, int]],
        *,
        name: str = "my-data",
        source: str | None = None,
        licence: str | None = None,
    ) -> RetrievalDataset:
        """Make a data set of plain dicts, checked.

        Args:
            corpus: document text by document id.
            queries: question text by query id.
            qrels: relevance (a whole number; relevant is 1 or more) by document id, by query id.
            name: short name used in reports.
            source: where it comes from.
            licence: of the data.

        Raises:
            DatasetError: a wrong type, an empty set or text, ids that look the same, qrels that
                name an unknown query or document, or that hold nothing relevant.
        """
        for kind, texts in (("corpus", corpus), ("queries", queries)):
            _check_texts(kind, texts)
        checked = _check_qrels(qrels, corpus, queries)
        return cls(name, dict(corpus), dict(queries), checked, source, licence)


def check_id(where: str, key: object) -> str:
    """Return ``key``, or raise DatasetError if it can be no id; ``where`` says what holds it."""
    if not isinstance(key, str):
        raise DatasetError(
            f"{where} has the id {shorten(key)} ({type(key).__name__}), and ids are strings: write "
            f"{str(key)!r}"
        )
    if not key.strip():
        raise DatasetError(f"{where} has the blank id {key!r}; give it a name")
    return key


def check_text(where: str, text: object) -> str:
    """Return ``text``, or raise DatasetError if nothing can be made of it; ``where`` names it."""
    if not isinstance(text, str):
        raise DatasetError(f"{where} must be a text, not {type(text).__name__}: {shorten(text)}")
    if not text.strip():
        raise DatasetError(f"{where} is blank; remove it, or give it a text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DatasetError(
                f"{where} holds a lone surrogate at character {error.start} and is not valid "
                "Unicode; re-read its source with the right encoding"
            ) from None
    return text


def check_judged(where: str, qrels: Mapping[str, Mapping[str, int]]) -> None:
    """Raise DatasetError unless some query has a relevant document; ``where`` holds the qrels."""
    if not qrels:
        raise DatasetError(f"{where} judges nothing; write one line per judgement")
    if not any(value > 0 for judged in qrels.values() for value in judged.values()):
        raise DatasetError(
            f"{where} calls nothing relevant; give the documents that answer relevance 1 or more"
        )


def _check_texts(kind: str, texts: object) -> None:
    if not isinstance(texts, Mapping):
        raise DatasetError(
            f"{kind} must be a dict of text by id, not {type(texts).__name__}: write "
            f"{kind}={{'id': 'text', …}}"
        )
    if not texts:
        raise DatasetError(f"{kind} is empty; there is nothing to measure")
    for key, text in texts.items():
        check_id(kind, key)
        check_text(f"{kind}[{key!r}]", text)
    _check_distinct(kind, texts)


def _check_distinct(kind: str, keys: Iterable[str]) -> None:
    """Refuse ids a reader can't tell apart (decomposed Hangul of macOS, spaces at the ends)."""
    seen: dict[str, str] = {}
    for key in keys:
        other = seen.setdefault(unicodedata.normalize("NFC", key).strip(), key)
        if other != key:
            raise DatasetError(
                f"{kind} has the ids {other!a} and {key!a}, which look the same (Unicode form or "
                "surrounding space); make ids distinct"
            )


def _check_qrels(
    qrels: object, corpus: Mapping[str, str], queries: Mapping[str, str]
) -> dict[str, Mapping[str, int]]:
    if not isinstance(qrels, Mapping):
        raise DatasetError(
            f"qrels must be a dict, not {type(qrels).__name__}: write "
            "qrels={'query id': {'document id': 1}, …}"
        )
    checked: dict[str, Mapping[str, int]] = {}
    for query_id, judged in qrels.items():
        where = f"qrels[{query_id!r}]"
        if query_id not in queries:
            raise DatasetError(
                f"{where}: queries has no {query_id!r}; add the query, or remove its judgements"
            )
        if not isinstance(judged, Mapping):
            raise DatasetError(
                f"{where} must be a dict of relevance by document id, not "
                f"{type(judged).__name__}: write {{'document id': 1}}"
            )
        for doc_id, value in judged.items():
            if doc_id not in corpus:
                raise DatasetError(
                    f"{where}: corpus has no {doc_id!r}; add the document, or remove the judgement"
                )
            if type(value) is bool or not isinstance(value, Integral):
                raise DatasetError(
                    f"{where}[{doc_id!r}] must be a whole number, not {shorten(value)}: 1 for "
                    "relevant, 0 for not"
                )
        grouped = isinstance(judged, GroupedRelevance)
        checked[query_id] = judged if grouped else {d: int(v) for d, v in judged.items()}
    check_judged("qrels", checked)
    return checked
