"""From the sources' names to their files, in the same order in every run.

Hidden files and folders are left out, and so are folders of our own shards, whose Parquet files
would be read as if they were documents. Links to files are followed, links to folders only where
they are named as a source themselves, so that no loop can arise.
"""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from koe5_integrations.errors import ConfigError, SourceError, shorten
from koe5_integrations.ingestion.documents import Rejected
from koe5_integrations.ingestion.sources.checking import clean_name
from koe5_integrations.ingestion.sources.contract import File
from koe5_integrations.text import is_unicode

__all__ = ["Skipped", "Source", "find"]

# Office's locks on documents that are open.
_NOT_OURS = (".", "~$")


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in a folder that is left out by its kind, such as ``linked folder``."""

    kind: str


@dataclass(frozen=True, slots=True)
class Source:
    """One of the arguments.

    Attributes:
        name: the argument, normalised, with ``/`` and in NFC.
        given: the argument.
        kind: what it is.
    """

    name: str
    given: str
    kind: Literal["file", "folder", "glob"]

    def __iter__(self) -> Iterator[File | Rejected | Skipped]:
        """Yield its files, of any suffix."""
        if self.kind == "file":
            yield File(Path(self.given), self.name, self.name)
        elif self.kind == "folder":
            yield from _under(Path(self.given), self.name)
        else:
            yield from _matching(self.given, self.name)


def find(sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Source]:
    """Return the sources, each once.

    Args:
        sources: a path or glob, or several.

    Raises:
        SourceError: there is nothing under that name.
        ConfigError: no sources, or something that is no path.
    """
    given: object = [sources] if isinstance(sources, str | os.PathLike) else sources
    if not isinstance(given, Sequence) or isinstance(given, bytes | bytearray) or not given:
        raise ConfigError(f"sources={shorten(sources)} must be a list of files, folders or globs")
    found = [_source(argument) for argument in given]
    return list({source.name: source for source in found}.values())


def _source(argument: object) -> Source:
    given = os.fspath(argument) if isinstance(argument, str | os.PathLike) else None
    if not isinstance(given, str):
        raise ConfigError(f"sources: {shorten(argument)} must be a str or a Path")
    if not given.strip() or "\0" in given or not is_unicode(given):
        raise SourceError(f"{shorten(given)} is not the name of a file, a folder or a glob")
    name = clean_name(posixpath.normpath(Path(given).as_posix()))
    path = Path(given)
    try:
        if path.is_dir():
            return Source(name, given, "folder")
        if path.is_file():
            if not os.access(path, os.R_OK):
                raise SourceError(f"{given}: permission to read it is denied")
            return Source(name, given, "file")
        if path.exists():
            raise SourceError(f"{given} is neither a file nor a folder")
    except OSError as error:
        raise SourceError(f"{given}: {error.strerror or error}") from None
    if not glob.has_magic(given):
        raise SourceError(f"{given}: there is no such file or folder")
    return Source(name, given, "glob")


def _under(folder: Path, source: str) -> Iterator[File | Rejected | Skipped]:
    # What is still to come, the next one last: no deeper than the names of one path's folders.
    waiting: list[tuple[Path, str, bool]] = [(folder, source, True)]
    while waiting:
        path, name, is_folder = waiting.pop()
        if not is_folder:
            yield _file(path, name, source)
        elif _holds_shards(path):
            yield Skipped("folder of shards")
        else:
            try:
                with os.scandir(path) as entries:
                    there = [e for e in entries if not e.name.startswith(_NOT_OURS)]
                    kinds = {e.name: _kind(e) for e in there}
            except OSError as error:
                reason = f"the folder can't be read: {error.strerror or error}"
                yield Rejected(name, reason, source)
                continue
            for entry in kinds.values():
                if isinstance(entry, Skipped):
                    yield entry
            waiting += sorted(
                (
                    (path / own, clean_name(posixpath.normpath(posixpath.join(name, own))), kind)
                    for own, kind in kinds.items()
                    if isinstance(kind, bool)
                ),
                key=lambda item: (item[1], os.fsencode(item[0])),
                reverse=True,
            )


def _kind(entry: os.DirEntry[str]) -> bool | Skipped:
    """Tell a folder (True) from a file (False) and from what is neither."""
    try:
        if entry.is_dir():
            return Skipped("linked folder") if entry.is_symlink() else True
        return False if entry.is_file() else Skipped("neither file nor folder")
    except OSError:  # a link to itself
        return Skipped("broken link")


def _matching(pattern: str, source: str) -> Iterator[File | Rejected | Skipped]:
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    folder, rest = Path(*parts[:fixed]), parts[fixed:]
    wants_hidden = any(part.startswith(".") for part in rest)
    try:
        # pathlib's does not follow links to folders.
        paths = {path for path in folder.glob("/".join(rest)) if path.is_file()}
    except (OSError, ValueError, NotImplementedError) as error:
        raise SourceError(f"{pattern} can't be searched for: {error}") from None
    ours: dict[Path, bool] = {}
    for path in sorted(paths, key=lambda path: (clean_name(path.as_posix()).split("/"), path)):
        below = path.relative_to(folder)
        if path.name.startswith("~$") or (
            not wants_hidden and any(part.startswith(".") for part in below.parts)
        ):
            continue
        parents = [folder / parent for parent in below.parents]
        for parent in parents:
            if parent not in ours:
                ours[parent] = _holds_shards(parent)
        if any(ours[parent] for parent in parents):
            yield Skipped("file of a folder of shards")
        else:
            yield _file(path, clean_name(posixpath.normpath(path.as_posix())), source)


def _file(path: Path, name: str, source: str) -> File | Rejected:
    if not is_unicode(str(path)):
        return Rejected(name, "its name is not valid Unicode: rename it", source, name)
    return File(path, name, source)


def _holds_shards(folder: Path) -> bool:
    return (folder / "manifest.json").is_file() and (folder / "shards").is_dir()
