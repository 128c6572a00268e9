"""Texts to embed, from files and stdin, in constant memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import typer

from koe5_integrations.cli.exits import CommandError
from koe5_integrations.errors import shorten
from koe5_integrations.text import is_unicode

__all__ = ["DASH", "InputFormat", "Record", "TextReader", "decode_line"]

InputFormat: TypeAlias = Literal["text", "jsonl"]

DASH = Path("-")
_FORMATS: dict[str, InputFormat] = {
    "": "text",
    ".txt": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


@dataclass(frozen=True, slots=True)
class Record:
    """A text to embed.

    Attributes:
        id: the input's own, or else the place.
        text: as it stands in the input.
        place: file and line, ``notes.txt:12``.
    """

    id: str
    text: str
    place: str


class TextReader:
    """Iterates over the texts of files.

    Args:
        files: ``-`` is stdin.
        input_format: ``text`` (one text per line) or ``jsonl``; None goes by each file's name.
        field: of a JSON object, the one that holds the text.
        id_field: of a JSON object, the one that holds the id.

    Attributes:
        empty_lines: how many lines were skipped so far because they hold nothing.
        bytes_read: how far it has come.

    Raises:
        CommandError: there is no such file, or its name doesn't tell its format. While iterating: a
            line can't be read.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        input_format: InputFormat | None = None,
        field: str = "text",
        id_field: str = "id",
    ) -> None:
        for path in files:
            _check(path)
        self._files = [(path, input_format or _format_of(path)) for path in files]
        self._field = field
        self._id_field = id_field
        self.empty_lines = 0
        self.bytes_read = 0

    @property
    def total_bytes(self) -> int | None:
        """Size of all files together; None if one is a stream."""
        paths = [path for path, _ in self._files]
        if not all(path != DASH and path.is_file() for path in paths):
            return None
        return sum(path.stat().st_size for path in paths)

    def __iter__(self) -> Iterator[Record]:
        """Yield the texts, file by file."""
        for path, kind in self._files:
            with _open(path) as lines:
                name = "stdin" if path == DASH else str(path)
                for number, raw in enumerate(lines, start=1):
                    self.bytes_read += len(raw)
                    place = f"{name}:{number}"
                    line = decode_line(raw, place, first=number == 1)
                    if not line.strip():
                        self.empty_lines += 1
                    elif kind == "text":
                        yield Record(place, line, place)
                    else:
                        yield self._record(line, place)

    def _record(self, line: str, place: str) -> Record:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CommandError(
                f"{place} is not JSON ({error}): write one object per line, or choose "
                "--input-format text"
            ) from None
        if not isinstance(fields, dict):
            raise CommandError(f"{place} must be a JSON object, not {shorten(fields)}")
        if self._field not in fields:
            there = ", ".join(map(shorten, fields)) or "none"
            raise CommandError(
                f"{place} has no field {self._field!r} (it has: {there}): choose one with --field"
            )
        text = fields[self._field]
        if not isinstance(text, str):
            raise CommandError(
                f"{place}: field {self._field!r} must be a string, not {shorten(text)}: choose "
                "another with --field, or drop the line"
            )
        return Record(self._id(fields.get(self._id_field), place), text, place)

    def _id(self, value: object, place: str) -> str:
        if value is None:
            return place
        # True is an int to Python, but not an id.
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise CommandError(
                f"{place}: field {self._id_field!r} must be a string or an integer, not "
                f"{shorten(value)}: choose another with --id-field"
            )
        if not is_unicode(str(value)):
            raise CommandError(
                f"{place}: field {self._id_field!r} is not valid Unicode (a lone surrogate): "
                f"{shorten(value)}"
            )
        return str(value)


def decode_line(raw: bytes, place: str, *, first: bool = False) -> str:
    """Return a line of UTF-8 without its end, and without a byte order mark if it is the first.

    Raises:
        CommandError: it is not UTF-8.
    """
    try:
        line = raw.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(
            f"{place} is not UTF-8 (byte {raw[error.start]:#04x} in column {error.start + 1}): "
            "convert the file first; older Korean files are often CP949: iconv -f cp949 -t utf-8"
        ) from None
    return line.rstrip("\r\n")


def _check(path: Path) -> None:
    # typer's own check would refuse "-".
    if path != DASH and not path.exists():
        raise CommandError(f"{path}: there is no such file")
    if path.is_dir():
        raise CommandError(f"{path} is a folder: name the files in it")


def _format_of(path: Path) -> InputFormat:
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise CommandError(
            f"{path}: can't tell from {path.suffix!r} how to read it: .txt (one text per line) "
            "and .jsonl are known, --input-format text or jsonl says it for any other"
        )
    return kind


def _open(path: Path) -> nullcontext[BinaryIO] | BinaryIO:
    return nullcontext(typer.get_binary_stream("stdin")) if path == DASH else path.open("rb")
