"""Files that are wholly there or not there, whatever happens, and stay there once they are."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["make_folder", "move_in", "new_file", "remove_leftovers", "sync_folder"]

_LEFTOVER = ".tmp"


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name when it is complete and on the disk, replacing an older one.

    An exception leaves nothing; being killed leaves a leftover at most.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_LEFTOVER}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what :func:`new_file` left in a folder when the process was killed."""
    for path in folder.glob(f".*{_LEFTOVER}"):
        path.unlink(missing_ok=True)


def move_in(file: Path, path: Path) -> None:
    """Move a file to a new name, also from another drive; it is under one name or the other."""
    file = file.resolve()
    # Windows syncs only what may be written.
    with file.open("rb+" if os.name == "nt" else "rb") as stream:
        os.fsync(stream.fileno())
    try:
        file.replace(path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with file.open("rb") as stream, new_file(path) as copy:
            shutil.copyfileobj(stream, copy)
        file.unlink()
    sync_folder(path.parent)
    sync_folder(file.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, with those it lies in, so that a power failure does not take it away."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name == "nt":  # can't be asked for there, and names are kept with the files
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
