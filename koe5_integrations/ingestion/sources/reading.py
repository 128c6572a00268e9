"""Files to documents: what is wrong with a source is said at once, with a document in its turn."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from koe5_integrations.errors import ConfigError, KoE5Error, SourceError
from koe5_integrations.ingestion.documents import Document, Rejected
from koe5_integrations.ingestion.sources.checking import checked, library_error
from koe5_integrations.ingestion.sources.contract import (
    Fields,
    File,
    MissingColumnError,
    OnRead,
    Result,
    UnreadableError,
)
from koe5_integrations.ingestion.sources.finding import Skipped, Source, find
from koe5_integrations.ingestion.sources.formats import FORMATS, Rows, format_of, require

__all__ = ["read_sources", "source_names", "total_bytes"]

_log = logging.getLogger("koe5_integrations")


def read_sources(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    text_field: str = "text",
    id_field: str = "id",
    metadata_fields: Sequence[str] | None = None,
    on_read: Callable[[int], None] | None = None,
) -> Iterator[Document | Rejected]:
    """Read documents from files, folders (and theirs) and globs, one at a time.

    The order is the same in every run. In a folder and under a glob, hidden files and files of
    other formats are skipped. Texts come in NFC, without NUL characters, with something visible.

    Args:
        sources: paths or globs such as ``notes/**/*.md``.
        text_field: which field or column holds the text, of JSONL, CSV and Parquet.
        id_field: likewise the id, a string or an integer; where a row has none, its place is.
        metadata_fields: likewise the metadata; None takes all others.
        on_read: called with the number of bytes read since it was last called; at the end they are
            :func:`total_bytes`.

    Returns:
        Documents, and what could not be made one. A file is a document whose id is its path as it
        was given, with its path under ``source`` in its metadata; or each of its rows is one.

    Raises:
        SourceError: a source is missing, has no format known here, or lacks a column; before
            anything is read.
        MissingExtraError: what a file is read with is not installed; likewise.
        ConfigError: impossible arguments.
    """
    fields = _fields(text_field, id_field, metadata_fields)
    found = find(sources)
    for source in found:
        _check(source, fields)
    return _read(found, fields, on_read or (lambda n: None))


def source_names(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[str]:
    """Return what the documents of these sources have as their ``source``.

    Raises:
        SourceError: there is nothing under a name.
        ConfigError: no sources, or something that is no path.
    """
    return [source.name for source in find(sources)]


def total_bytes(sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> int:
    """Return the size of all files that would be read.

    Raises:
        SourceError: there is nothing under a name.
        ConfigError: no sources, or something that is no path.
    """
    files = (item for source in find(sources) for item in source if isinstance(item, File))
    return sum(_size(file) for file in files if format_of(file))


def _fields(text: str, id: str, metadata: Sequence[str] | None) -> Fields:
    for option, name in (("text_field", text), ("id_field", id)):
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{option}={name!r} must be the name of a field")
    if metadata is None:
        return Fields(text, id, None)
    if isinstance(metadata, str) or not all(isinstance(name, str) and name for name in metadata):
        raise ConfigError(f"metadata_fields={metadata!r} must be a list of names of fields")
    return Fields(text, id, tuple(dict.fromkeys(metadata)))


def _check(source: Source, fields: Fields) -> None:
    known = 0
    required = set()
    for item in source:
        if not isinstance(item, File):
            continue
        format = format_of(item)
        if format is None:
            if source.kind == "file":
                raise SourceError(
                    f"{source.given}: can't tell from {item.path.suffix!r} how to read it; known "
                    f"are {', '.join(FORMATS)}"
                )
            continue
        known += 1
        if format.needs not in required:
            require(item)
            required.add(format.needs)
        # A folder may hold tables of another kind, and those are said to be so in their turn.
        if isinstance(format, Rows) and source.kind != "folder":
            try:
                format.check(item, fields)
            except MissingColumnError as error:
                raise SourceError(f"{item.name}: {error}") from None
            except Exception:  # it is said of the file in its turn
                _log.debug("%s can't be checked", item.name, exc_info=True)
    if source.kind == "glob" and not known:
        raise SourceError(
            f"{source.given}: no file matches that can be read; known are {', '.join(FORMATS)}, "
            "and **/* stands for files in folders of any depth"
        )


def _read(found: Sequence[Source], fields: Fields, on_read: OnRead) -> Iterator[Result]:
    for source in found:
        skipped: Counter[str] = Counter()
        for item in source:
            if isinstance(item, Skipped):
                skipped[item.kind] += 1
            elif isinstance(item, Rejected):
                yield item
            elif format_of(item) is None:
                skipped[item.path.suffix.lower() or "no suffix"] += 1
            else:
                yield from _file(item, fields, on_read)
        if skipped:
            what = ", ".join(f"{kind} ({n:,})" for kind, n in sorted(skipped.items()))
            _log.info("%s: skipped %s", source.name, what)


def _file(file: File, fields: Fields, on_read: OnRead) -> Iterator[Result]:
    format = format_of(file)
    left = _size(file)

    def read(n: int) -> None:
        # No more than was announced, if it has grown since.
        nonlocal left
        told = min(n, left)
        left -= told
        if told:
            on_read(told)

    is_rows = isinstance(format, Rows)
    try:
        if isinstance(format, Rows):
            yield from format.read(file, fields, read)
        elif format is not None:
            parsed = format.parse(file.path)
            read(left)
            yield checked(
                id=file.name,
                text=parsed.text,
                metadata={"source": file.name, **parsed.metadata},
                source=file.source,
                place=file.name,
            )
    except KoE5Error:
        raise
    except UnreadableError as error:
        yield Rejected(file.name, str(error), file.source, None if is_rows else file.name)
    except Exception as error:  # whatever a parser makes of a broken file
        reason = f"it can't be read{' to its end' * is_rows}: {library_error(error)}"
        yield Rejected(file.name, reason, file.source, None if is_rows else file.name)
    read(left)


def _size(file: File) -> int:
    try:
        return file.path.stat().st_size
    except OSError:
        return 0
