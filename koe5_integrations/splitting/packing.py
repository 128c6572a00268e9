"""Which units make a piece: as few pieces as fit, ending where a reader would end them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from koe5_integrations.splitting.blocks import Boundary

__all__ = ["Packed", "best_end", "pack"]

# What it costs to begin a piece there, in pieces: a piece is left half empty rather than end within
# a section's paragraph, and a fifth empty rather than end within a paragraph.
_COST = {
    Boundary.SECTION: 0.0,
    Boundary.PARAGRAPH: 0.3,
    Boundary.ITEM: 0.4,
    Boundary.SENTENCE: 0.5,
    Boundary.LINE: 0.7,
    Boundary.WORD: 1.0,
    Boundary.CHARACTER: 1.3,
    Boundary.AFTER_HEADING: 1.6,
}
# Of two full pieces; nearer than that, no unit is small enough to make both fit.
_NEARLY = 0.95
# What may begin the part that repeats the piece before.
_REPEATED = (Boundary.AFTER_HEADING, Boundary.SENTENCE, Boundary.ITEM, Boundary.PARAGRAPH)


class Packed(NamedTuple):
    """A piece: units ``first`` to ``end``; those before ``fresh`` repeat the one before."""

    first: int
    fresh: int
    end: int


def pack(
    tokens: Sequence[int],
    boundaries: Sequence[Boundary],
    heads: Sequence[int],
    *,
    room: int,
    overlap: int,
) -> list[Packed]:
    """Return the pieces, in order; each unit is fresh in one of them.

    Args:
        tokens: of each unit.
        boundaries: what begins with each unit.
        heads: tokens of the headings put in front of a piece that begins with that unit; with the
            unit no more than ``room``.
        room: most tokens of a piece.
        overlap: most tokens repeated from the piece before, in whole sentences.
    """
    until = list(accumulate(tokens, initial=0))
    packed: list[Packed] = []
    first = fresh = 0
    while fresh < len(tokens):
        most = until[first] + room - heads[first]
        end = _last_fitting(until, boundaries, fresh, most)
        if end < len(tokens) and boundaries[end] is not Boundary.FORCED:
            left = until[_last_fitting(until, boundaries, end, most + room)] - until[first]
            end = best_end(until, boundaries, heads, (first, fresh, end), room=room, left=left)
        packed.append(Packed(first, fresh, end))
        first = fresh = end
        if overlap and end < len(tokens):
            first = _repeat_from(until, boundaries, heads, packed[-1], room=room, overlap=overlap)
    return packed


def _last_fitting(
    until: Sequence[int], boundaries: Sequence[Boundary], fresh: int, most: int
) -> int:
    """Return where the longest piece with that unit ends that is within so many tokens."""
    end = fresh + 1
    while (
        end < len(boundaries) and boundaries[end] is not Boundary.FORCED and until[end + 1] <= most
    ):
        end += 1
    return end


def best_end(
    until: Sequence[int],
    boundaries: Sequence[Boundary],
    heads: Sequence[int],
    longest: Packed | tuple[int, int, int],
    *,
    room: int,
    left: int,
) -> int:
    """Return where a piece had best end.

    Args:
        until: tokens before each unit, and of all.
        boundaries: what begins with each unit.
        heads: tokens in front of a piece that begins with that unit.
        longest: the longest piece that fits.
        room: most tokens of a piece.
        left: tokens from the piece's beginning to the end, if that is within two pieces.
    """
    first, fresh, latest = longest
    target: float = until[latest] - until[first]
    earliest = fresh + 1
    if left < 2 * room * _NEARLY:
        # Two pieces will do: alike rather than a full one and a scrap.
        fitting = [
            end
            for end in range(earliest, latest + 1)
            if left - (until[end] - until[first]) + heads[end] <= room
        ]
        if fitting:
            target, earliest = left / 2, fitting[0]
    best, least = latest, float("inf")
    for end in range(latest, earliest - 1, -1):
        away = abs(until[end] - until[first] - target) / room
        if away > least and until[end] - until[first] < target:
            break
        if _COST[boundaries[end]] + away < least:
            best, least = end, _COST[boundaries[end]] + away
    return best


def _repeat_from(
    until: Sequence[int],
    boundaries: Sequence[Boundary],
    heads: Sequence[int],
    before: Packed,
    *,
    room: int,
    overlap: int,
) -> int:
    """Return the unit from which the next piece repeats the one before, in whole sentences."""
    end = start = before.end
    place = end
    while boundaries[place] not in (Boundary.SECTION, Boundary.FORCED):
        place -= 1
        if place <= before.first or until[end] - until[place] > overlap:
            break
        if boundaries[place] in _REPEATED and heads[place] + until[end + 1] - until[place] <= room:
            start = place
    return start
