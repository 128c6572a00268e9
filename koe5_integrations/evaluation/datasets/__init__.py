"""Data sets: shipped ones, public ones at a pinned revision, and a user's own.

Retrieval sets are read by :func:`load_dataset`, or made of dicts by
:meth:`RetrievalDataset.from_dicts`; sentence pairs by :func:`load_sts`. Every malformed file is a
:class:`DatasetError` that names the file, the line and the remedy.
"""

from __future__ import annotations

from pathlib import Path

from koe5_integrations.evaluation.datasets.autorag import autorag_files, read_autorag
from koe5_integrations.evaluation.datasets.beir import read_beir
from koe5_integrations.evaluation.datasets.dataset import DatasetError, RetrievalDataset
from koe5_integrations.evaluation.datasets.known import KNOWN, KnownDataset
from koe5_integrations.evaluation.datasets.pairs import (
    STS_NAMES,
    StsDataset,
    load_sts,
    read_klue_sts,
    read_korsts,
)
from koe5_integrations.evaluation.datasets.public import read_known
from koe5_integrations.evaluation.datasets.trec import (
    QRELS_NAMES,
    read_trec,
    read_trec_qrels,
    read_trec_run,
)

__all__ = [
    "KNOWN",
    "SHIPPED_NAMES",
    "STS_NAMES",
    "DatasetError",
    "KnownDataset",
    "RetrievalDataset",
    "StsDataset",
    "load_dataset",
    "load_sts",
    "read_autorag",
    "read_beir",
    "read_klue_sts",
    "read_korsts",
    "read_trec",
    "read_trec_qrels",
    "read_trec_run",
]

SHIPPED_NAMES = tuple(known.name for known in KNOWN.values() if known.host == "shipped")
"""The sets that need no network and no folder."""


def load_dataset(
    name_or_path: str | Path, *, data_dir: str | Path | None = None
) -> RetrievalDataset:
    """Return a retrieval set by name, or read a folder.

    Args:
        name_or_path: ``python_faq_ko`` or ``belebele_ko`` (shipped), ``ko-strategyqa``,
            ``autorag``, ``autorag-hub`` or ``publichealthqa`` (fetched once, at a pinned revision);
            or a folder: BEIR's layout, AutoRAG's Parquet, or one with TREC qrels.
        data_dir: folder that holds the named set, in itself or in a folder of its name; nothing is
            fetched then.

    Raises:
        DatasetError: there is no such set or folder, it can't be fetched, or it is malformed.
        MissingExtraError: it is Parquet and pyarrow is not installed.
    """
    known = KNOWN.get(str(name_or_path).lower())
    if known is not None and known.name not in STS_NAMES:
        return read_known(known, data_dir)
    folder = Path(name_or_path)
    if not folder.is_dir():
        raise DatasetError(_no_such(str(name_or_path), folder))
    if any(file.is_file() for file in autorag_files(folder)):
        return read_autorag(folder)
    if any((folder / name).is_file() for name in QRELS_NAMES):
        return read_trec(folder)
    if (folder / "data").is_dir() and not (folder / "corpus.jsonl").is_file():
        # The AutoRAG repository keeps its files one level down.
        return load_dataset(folder / "data")
    return read_beir(folder)


def _no_such(name: str, path: Path) -> str:
    if name.lower() in STS_NAMES:
        return f"{name!r} is a set of sentence pairs, not of retrieval; read it with load_sts"
    if path.is_file():
        return (
            f"{name!r} is a file; name the folder that holds it beside its qrels, or its corpus "
            "and questions"
        )
    retrieval = [known for known in KNOWN if known not in STS_NAMES]
    return (
        f"no data set or folder is called {name!r}; there is {', '.join(retrieval)}, or a folder "
        "of your own (corpus.jsonl, queries.jsonl and qrels.tsv)"
    )
