"""Documents to a searchable vector store, through durable shards that are the truth.

::

    sources -> documents -> passages -> vectors -> shards (Parquet) -> store (Chroma, …)

Names are resolved when first used, so that reading documents needs neither pyarrow nor Chroma.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from koe5_integrations.ingestion.documents import Document, Rejected
    from koe5_integrations.ingestion.estimate import Estimate, estimate
    from koe5_integrations.ingestion.pipeline import ingest, rebuild
    from koe5_integrations.ingestion.places import Place, default_shards
    from koe5_integrations.ingestion.sources import documents_from, read_sources, total_bytes
    from koe5_integrations.ingestion.stores.wrapping import as_store
    from koe5_integrations.ingestion.summary import Summary

__all__ = [
    "Document",
    "Estimate",
    "Place",
    "Rejected",
    "Summary",
    "as_store",
    "default_shards",
    "documents_from",
    "estimate",
    "ingest",
    "read_sources",
    "rebuild",
    "total_bytes",
]

_HOME = {
    "Document": "documents",
    "Estimate": "estimate",
    "Place": "places",
    "Rejected": "documents",
    "Summary": "summary",
    "as_store": "stores.wrapping",
    "default_shards": "places",
    "documents_from": "sources",
    "estimate": "estimate",
    "ingest": "pipeline",
    "read_sources": "sources",
    "rebuild": "pipeline",
    "total_bytes": "sources",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
