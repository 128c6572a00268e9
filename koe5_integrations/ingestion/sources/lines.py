"""Files of any size, line by line in constant memory, told of as they are read."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from koe5_integrations.ingestion.sources.contract import OnRead, UnreadableError
from koe5_integrations.ingestion.sources.decoding import CONVERT, LARGEST, encoding_of_file

__all__ = ["LineTooLongError", "Lines", "check_decoded", "open_text"]

# Of a line that is skipped, how much is read at a time.
_PIECE = 1 << 16
# What Python makes of a byte that is not in the encoding, so that the lines around it can be read.
_UNDECODED = re.compile("[\udc80-\udcff]")


class LineTooLongError(UnreadableError):
    """A line is longer than a document may be."""


class Lines:
    """Iterates over lines; one that is too long is skipped and raises, and the next can be had.

    Attributes:
        number: of the last line, from 1.

    Raises:
        LineTooLongError: while iterating.
        UnreadableError: while iterating: the rest can't be decoded.
    """

    def __init__(self, stream: TextIO, *, longest: int = LARGEST) -> None:
        self._stream = stream
        self._longest = longest
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        """Return itself."""
        return self

    def __next__(self) -> str:
        """Return the next line, with its end."""
        line = self._read(self._longest)
        if not line:
            raise StopIteration
        self.number += 1
        if _is_whole(line, self._longest):
            return line
        while not _is_whole(self._read(_PIECE), _PIECE):
            pass
        raise LineTooLongError(f"the line has more than {self._longest:,} characters: split it")

    def _read(self, most: int) -> str:
        try:
            return self._stream.readline(most)
        except UnicodeDecodeError as error:
            raise UnreadableError(f"the rest can't be decoded: {error}") from None


def _is_whole(line: str, longest: int) -> bool:
    return len(line) < longest or line.endswith(("\n", "\r"))


@contextmanager
def open_text(path: Path, newline: str, on_read: OnRead) -> Iterator[TextIO]:
    """Open a file in the encoding its beginning is in.

    Bytes that are not in it become lone surrogates: see :func:`check_decoded`.
    """
    encoding = encoding_of_file(path)
    # UTF-16 can hold lone surrogates, and what else is wrong with it can't be skipped.
    errors = "surrogatepass" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    with (
        path.open("rb", buffering=0) as file,
        io.BufferedReader(_Told(file, on_read)) as buffered,
        io.TextIOWrapper(buffered, encoding=encoding, errors=errors, newline=newline) as stream,
    ):
        yield stream


def check_decoded(text: str) -> None:
    """Refuse text with bytes in it that could not be decoded.

    Raises:
        UnreadableError: naming the first of them, and its column.
    """
    if not text.isascii() and (found := _UNDECODED.search(text)):
        byte = ord(found[0]) - 0xDC00
        raise UnreadableError(
            f"not in one encoding: byte {byte:#04x} in column {found.start() + 1}; {CONVERT}"
        )


class _Told(io.RawIOBase):
    """Passes reads on, and tells how much each brought."""

    def __init__(self, file: BinaryIO | io.FileIO, on_read: OnRead) -> None:
        super().__init__()
        self._file = file
        self._on_read = on_read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # no None: it blocks
        n: int = self._file.readinto(buffer)  # type: ignore[union-attr]  # it is a FileIO
        self._on_read(n)
        return n
