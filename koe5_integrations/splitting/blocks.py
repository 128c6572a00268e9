"""What a text is made of: sections with headings, paragraphs, items, code, lines, sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import zip_longest

from koe5_integrations.splitting.sentences import SentenceFinder
from koe5_integrations.text import is_visible

__all__ = ["Boundary", "Heading", "Unit", "begins_with", "units_of"]


class Boundary(IntEnum):
    """What begins at a place where a text may be split, from the worst place to the best."""

    AFTER_HEADING = 0
    CHARACTER = 1
    WORD = 2
    LINE = 3
    SENTENCE = 4
    ITEM = 5
    PARAGRAPH = 6
    SECTION = 7
    FORCED = 8
    """Both sides can't be one piece: something between them is left out, or they look prefixed."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: where it stands, and how it is written in front of its section's pieces."""

    start: int
    level: int
    line: str


@dataclass(slots=True)
class Unit:
    """The least that is kept together, where it fits.

    Attributes:
        start: where it begins in the text, after space.
        end: where it ends, before space.
        boundary: what begins with it.
        path: the headings above it, outermost first; its own not among them.
        tokens: how many it adds to a piece.
    """

    start: int
    end: int
    boundary: Boundary
    path: tuple[Heading, ...] = ()
    tokens: int = 0


@dataclass(slots=True)
class _Block:
    start: int
    boundary: Boundary
    path: tuple[Heading, ...]
    is_prose: bool = True


_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*?)(?:[ \t]+#+)?\s*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})\s*$")
# A longer line above --- is a paragraph above a rule.
_LONGEST_UNDERLINED = 100
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
_FRONT_MATTER = re.compile(r"---\s*?\n(?:.*\n)*?(?:---|\.\.\.)[ \t\r]*(?:\n|$)")
_ITEM = re.compile(
    r"\s*(?:[-*+•·◦▪■□○●◆◇▶▷※‣⁃–—][ \t]|\(?\d{1,3}[.)][ \t]|\(\d{1,3}\)|[①-⑳㉮-㉻]"
    r"|\(?[가나다라마바사아자차카타파하A-Za-z][.)][ \t]|제\s?\d+\s?(?:편|장|절|관|조|항))"
)
_SPACE = re.compile(r"\s*")
_NEXT_LINE = re.compile(r"\n\s*(?=\S)")


def units_of(
    text: str, find: SentenceFinder, prompts: tuple[str, ...], markdown: bool
) -> list[Unit]:
    """Return the units a text is made of, in order; all that is visible lies in one of them.

    Args:
        text: with something visible in it.
        find: finds sentences in paragraphs.
        prompts: no unit but the first begins with one, or it would be taken for a text that has its
            prefix already.
        markdown: headings and fenced code are told from the rest.
    """
    blocks = list(_blocks(text, markdown))
    ends = [block.start for block in blocks[1:]] + [len(text)]
    paragraphs = [
        text[block.start : end] for block, end in zip(blocks, ends, strict=True) if block.is_prose
    ]
    found = iter(find(paragraphs))
    units: list[Unit] = []
    for block, end in zip(blocks, ends, strict=True):
        begins = {block.start: block.boundary}
        if block.is_prose:
            for line in _NEXT_LINE.finditer(text, block.start, end):
                begins[line.end()] = Boundary.LINE
            begins |= {block.start + offset: Boundary.SENTENCE for offset in next(found)}
        starts = sorted(begins)
        for start, stop in zip(starts, [*starts[1:], end], strict=True):
            part = text[start:stop].rstrip()
            visible = is_visible(part)
            if units and (not visible or begins_with(text, start, prompts)):
                units[-1].end = start + len(part)
            elif visible:
                units.append(Unit(start, start + len(part), begins[start], block.path))
    return units


def begins_with(text: str, start: int, prompts: tuple[str, ...]) -> bool:
    """Whether what is visible from there on looks as if it had its prefix already."""
    visible = _SPACE.match(text, start)
    return text.startswith(prompts, visible.end() if visible else start)


def _blocks(text: str, markdown: bool) -> Iterator[_Block]:
    path: tuple[Heading, ...] = ()
    # What begins with the next line that isn't blank; None goes on with the paragraph.
    boundary: Boundary | None = Boundary.PARAGRAPH
    fence = ""
    position = 0
    if markdown and (front := _FRONT_MATTER.match(text)):
        yield _Block(0, Boundary.PARAGRAPH, (), is_prose=False)
        position = front.end()
    lines = text[position:].splitlines(keepends=True)
    for line, below in zip_longest(lines, lines[1:], fillvalue=""):
        start, position = position + len(line) - len(line.lstrip()), position + len(line)
        under_heading = boundary is Boundary.AFTER_HEADING
        if fence:
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                fence, boundary = "", Boundary.PARAGRAPH
        elif not line.strip():
            boundary = boundary if under_heading else Boundary.PARAGRAPH
        elif markdown and (heading := _heading(line, below, boundary, start)):
            path = tuple(above for above in path if above.level < heading.level)
            begins = Boundary.AFTER_HEADING if under_heading else Boundary.SECTION
            yield _Block(start, begins, path, is_prose=False)
            path = (*path, heading)
            boundary = Boundary.AFTER_HEADING
        elif markdown and (opened := _FENCE.match(line)):
            fence = opened[1]
            begins = Boundary.AFTER_HEADING if under_heading else Boundary.PARAGRAPH
            yield _Block(start, begins, path, is_prose=False)
        elif under_heading and _UNDERLINE.match(line):
            pass  # the line under a heading, a part of it
        elif boundary is not None:
            yield _Block(start, boundary, path)
            boundary = None
        elif _ITEM.match(line):
            yield _Block(start, Boundary.ITEM, path)


def _heading(line: str, below: str, boundary: Boundary | None, start: int) -> Heading | None:
    if atx := _ATX.match(line):
        return Heading(start, len(atx[1]), f"{atx[1]} {atx[2]}")
    underline = _UNDERLINE.match(below) if len(line) <= _LONGEST_UNDERLINED else None
    if underline and boundary is not None and not _UNDERLINE.match(line) and not _ITEM.match(line):
        level = 1 if underline[1][0] == "=" else 2
        return Heading(start, level, f"{'#' * level} {line.strip()}")
    return None
