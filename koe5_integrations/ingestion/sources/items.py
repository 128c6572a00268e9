"""Documents from objects: of LangChain, of LlamaIndex, our own, mappings and plain texts.

Neither framework is imported for it, unless one of its objects is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from koe5_integrations.errors import ConfigError, shorten
from koe5_integrations.ingestion.documents import Document, Rejected
from koe5_integrations.ingestion.sources.checking import checked, library_error
from koe5_integrations.ingestion.sources.contract import Result, UnreadableError

__all__ = ["documents_from"]

_HEX_DIGITS = 32


def documents_from(items: Iterable[Any], *, source: str = "documents") -> Iterator[Result]:
    """Read documents from objects, no further than they are asked for.

    Args:
        items: LangChain documents, LlamaIndex documents or nodes, :class:`Document`, mappings with
            ``text``, and if they have it ``id`` and ``metadata`` (other keys are metadata too), or
            texts. One without an id has a hash of its text and its ``metadata["source"]`` for one,
            LangChain's also ``metadata["id"]``.
        source: what they are said to come from.

    Returns:
        Documents, and what could not be made one, by its position: ``documents[7]``.

    Raises:
        ConfigError: a single document, or something else that is no iterable of documents.
    """
    if not isinstance(source, str) or not source.strip():
        raise ConfigError(f"source={source!r} must be a name")
    if isinstance(items, str | bytes | bytearray | Mapping | Document) or _kind_of(items):
        raise ConfigError(
            f"{shorten(items)} is a single document, and documents= takes several: write "
            "[document]; files are read by read_sources"
        )
    if hasattr(items, "iterrows"):
        raise ConfigError("a DataFrame is no list of documents: write df.to_dict('records')")
    if not isinstance(items, Iterable):
        raise ConfigError(
            f"{shorten(items)} can't be iterated over: give documents, an iterator or a generator "
            "of them"
        )
    return (_document(item, source, f"{source}[{i}]") for i, item in enumerate(items))


def _document(item: object, source: str, place: str) -> Result:
    try:
        id, text, metadata = _parts(item)
        if id is None:
            id = _hash(text, metadata)
    except UnreadableError as error:
        return Rejected(place, str(error), source)
    except Exception as error:  # whatever a stranger's object raises when it is asked
        return Rejected(place, f"it can't be read: {library_error(error)}", source)
    if isinstance(item, Document):
        source, place = item.source or source, item.place or place
    return checked(id=id, text=text, metadata=metadata, source=source, place=place)


def _parts(item: Any) -> tuple[object, object, Mapping[Any, Any]]:
    """Return id, text and metadata of an item.

    Raises:
        UnreadableError: it is nothing that documents are made of.
    """
    if isinstance(item, str):
        return None, item, {}
    if isinstance(item, Document):
        return item.id, item.text, item.metadata
    if isinstance(item, Mapping):
        return _parts_of_mapping(item)
    kind = _kind_of(item)
    if kind == "langchain":
        id = item.metadata.get("id") if item.id is None else item.id
        return id, item.page_content, item.metadata
    if kind == "llama_index":
        from llama_index.core.schema import MetadataMode

        return item.node_id, item.get_content(metadata_mode=MetadataMode.NONE), item.metadata
    raise UnreadableError(
        f"it must be a document of LangChain or LlamaIndex, a mapping with 'text' or a str, not "
        f"{type(item).__name__}: {shorten(item)}"
    )


def _parts_of_mapping(item: Mapping[Any, Any]) -> tuple[object, object, Mapping[Any, Any]]:
    if "text" not in item:
        there = ", ".join(shorten(key) for key in item) or "none"
        raise UnreadableError(f"it has no key 'text' (it has: {there})")
    metadata = item.get("metadata")
    nested = metadata if isinstance(metadata, Mapping) else {}
    known = (
        {"id", "text"}
        if metadata is not None and nested is not metadata
        else {"id", "text", "metadata"}
    )
    others = {key: value for key, value in item.items() if key not in known}
    return item.get("id"), item["text"], {**others, **nested}


def _kind_of(item: object) -> str | None:
    if hasattr(item, "page_content") and isinstance(getattr(item, "metadata", None), Mapping):
        return "langchain"
    if hasattr(item, "get_content") and hasattr(item, "node_id"):
        return "llama_index"
    return None


def _hash(text: object, metadata: Mapping[Any, Any]) -> str:
    written = json.dumps([text, metadata.get("source")], ensure_ascii=True, default=str)
    return hashlib.sha256(written.encode()).hexdigest()[:_HEX_DIGITS]
