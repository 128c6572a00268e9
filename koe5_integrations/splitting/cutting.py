"""Cuts what is too long for a piece: at lines, at words, and where there are none at characters."""

from __future__ import annotations

import re
import unicodedata
from itertools import chain

from koe5_integrations.splitting.blocks import Boundary, Unit, begins_with
from koe5_integrations.text import is_visible

__all__ = ["cut", "is_character_start"]

_JOINER = "\u200d"
# Decomposed Hangul is written with jamo: leading consonants, vowels, final consonants.
_LEADING = re.compile("[\u1100-\u115f\ua960-\ua97c]")
_VOWEL = re.compile("[\u1160-\u11a7\ud7b0-\ud7c6]")
_FINAL = re.compile("[\u11a8-\u11ff\ud7cb-\ud7fb]")
_SYLLABLE = re.compile("[가-힣]")
# Skin tones, and the tags that make a flag of a region.
_MODIFIER = re.compile("[\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
_REGIONAL = re.compile("[\U0001f1e6-\U0001f1ff]")

_LINE_END = re.compile(r"\n\s*")
_WORD_END = re.compile(r"\s+")
_SPACE = re.compile(r"\s*")


def is_character_start(text: str, position: int, known: int = 0) -> bool:
    """Whether what a reader takes for one character begins there, and not within one.

    Syllables of several jamo, letters with marks, flags and emoji of several parts stay whole.

    Args:
        text: any.
        position: looked at.
        known: an earlier position where a character begins.
    """
    if not known < position < len(text):
        return True
    before, here = text[position - 1], text[position]
    if _JOINER in (before, here) or _MODIFIER.match(here):
        return False
    if unicodedata.category(here) in ("Mn", "Mc", "Me"):
        return False
    if _VOWEL.match(here):
        return not (_LEADING.match(before) or _VOWEL.match(before) or _SYLLABLE.match(before))
    if _FINAL.match(here):
        return not (_VOWEL.match(before) or _FINAL.match(before) or _SYLLABLE.match(before))
    if _LEADING.match(here):
        return not _LEADING.match(before)
    if _REGIONAL.match(here):
        first = position
        while first > known and _REGIONAL.match(text[first - 1]):
            first -= 1
        return (position - first) % 2 == 0
    return before + here != "\r\n"


def cut(text: str, unit: Unit, length: int, prompts: tuple[str, ...]) -> list[Unit]:
    """Cut a unit into smaller ones of about so many characters, leaving out what can't be seen.

    Args:
        text: the whole text.
        unit: to be cut. What a reader takes for one character is cut only if it is all there is.
        length: in code points, at least 1.
        prompts: no piece but the first begins with one.
    """
    places = range(unit.start + 1, unit.end)
    is_one = not any(is_character_start(text, place, unit.start) for place in places)
    pieces: list[Unit] = []
    start, boundary = unit.start, unit.boundary
    while start < unit.end:
        if is_one:
            stop, following = min(start + length, unit.end), Boundary.CHARACTER
        elif start > unit.start and begins_with(text, start, prompts):
            stop, following = start + 1, Boundary.CHARACTER  # see chunking.py: it stands alone
        else:
            stop, following = _next_place(text, start, unit.end, length, prompts)
        part = text[start:stop].rstrip()
        if is_visible(part):
            pieces.append(Unit(start, start + len(part), boundary, unit.path))
            boundary = following
        else:
            boundary = Boundary.FORCED
        start = stop
    return pieces


def _next_place(
    text: str, start: int, end: int, length: int, prompts: tuple[str, ...]
) -> tuple[int, Boundary]:
    """Return where the piece that begins at ``start`` had best end, and what begins there."""
    latest = start + length
    if latest >= end:
        return end, Boundary.WORD
    for pattern, boundary, earliest in (
        (_LINE_END, Boundary.LINE, start + length // 2),
        (_WORD_END, Boundary.WORD, start + 1),
    ):
        for found in reversed(list(pattern.finditer(text, earliest, latest))):
            # The space may go on beyond the window; it costs nothing at a piece's end.
            space = _SPACE.match(text, found.end(), end)
            place = space.end() if space else found.end()
            if place == end or not begins_with(text, place, prompts):
                return place, boundary
    for place in chain(range(latest, start, -1), range(latest + 1, end)):
        if is_character_start(text, place, start) and not begins_with(text, place, prompts):
            return place, Boundary.CHARACTER
    # Too much space lies before what looks prefixed, which gives up its first letter for that.
    space = _WORD_END.search(text, start, end)
    return (space.end(), Boundary.FORCED) if space else (end, Boundary.WORD)
