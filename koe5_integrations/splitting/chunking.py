"""From texts that are too long to chunks that fit: cut into units, packed, counted and proved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TypeAlias

from koe5_integrations.errors import TruncationError
from koe5_integrations.splitting.blocks import Boundary, Unit, begins_with
from koe5_integrations.splitting.cutting import cut
from koe5_integrations.splitting.packing import best_end, pack

__all__ = ["Chunk", "Chunking", "Count", "Frame", "LongText"]

Frame: TypeAlias = Callable[[str], str]
"""Returns what is embedded of a chunk: its text, with whatever else is embedded around it."""

Count: TypeAlias = Callable[[Sequence[tuple["LongText", str]]], list[int]]
"""Returns the tokens of strings, each beside the text it is a part of."""

# Headings repeated in front of a chunk take this part of it at most.
_HEADINGS_PART = 4
# What doesn't fit is cut into so many parts of a chunk, so that they fill chunks well.
_PARTS = 8
# What has more characters than that for each token of a chunk is cut before it is counted.
_LONG = 16
# Where nothing has been counted, few enough characters for a part of a chunk in any script.
_CHARACTERS_PER_TOKEN = 2


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text that its model reads whole.

    Attributes:
        text: to be embedded and stored: ``text[start:end]`` of the whole text, perhaps with the
            headings it stands under in front.
        start: where it begins in the whole text, in characters.
        end: where it ends.
        tokens: that the model reads of it, prefix, special tokens and extra text included.
    """

    text: str
    start: int
    end: int
    tokens: int


@dataclass(slots=True, eq=False)
class _Draft:
    """Units that may become a chunk, the first of which repeat the chunk before."""

    units: list[Unit]
    repeated: int = 0
    headed: bool = True
    chunk: Chunk | None = None


@dataclass(slots=True, eq=False)
class LongText:
    """A text on its way to chunks.

    Attributes:
        text: with something visible in it.
        index: of the text among the caller's.
        frame: puts around a chunk what is embedded with it.
        room: tokens of the limit that the frame leaves.
        units: what the text is made of.
        headings: tokens of what begins where a heading stands, by that place.
        drafts: what may become its chunks.
    """

    text: str
    index: int
    frame: Frame
    room: int
    units: list[Unit]
    headings: dict[int, int] = field(default_factory=dict)
    drafts: list[_Draft] = field(default_factory=list)


class Chunking:
    """Makes chunks of texts.

    Args:
        count: counts tokens.
        limit: most tokens of a chunk, all that is embedded with it included.
        base: tokens of what is put in front of and behind every text.
        overlap: most tokens repeated from the chunk before.
        repeat_headings: put the headings a chunk stands under in front of it.
        prompts: what no chunk may begin with, unless its text does.
    """

    def __init__(
        self,
        count: Count,
        *,
        limit: int,
        base: int,
        overlap: int,
        repeat_headings: bool,
        prompts: tuple[str, ...],
    ) -> None:
        self._count = count
        self._limit = limit
        self._base = base
        self._overlap = overlap
        self._repeat_headings = repeat_headings
        self._prompts = prompts

    def __call__(self, texts: Sequence[LongText]) -> list[list[Chunk]]:
        """Return the chunks of each text, none of which has more tokens than the limit.

        Raises:
            TruncationError: a single character has.
        """
        self._fit_units(texts)
        for long in texts:
            packed = pack(
                [unit.tokens for unit in long.units],
                [unit.boundary for unit in long.units],
                [self._head(long, unit)[1] for unit in long.units],
                room=long.room,
                overlap=self._overlap,
            )
            long.drafts = [_Draft(long.units[p.first : p.end], p.fresh - p.first) for p in packed]
        self._fit_drafts(texts)
        return [_needed([draft.chunk for draft in long.drafts if draft.chunk]) for long in texts]

    def _fit_units(self, texts: Sequence[LongText]) -> None:
        """Count the units, cutting those that don't fit until they do."""
        for long in texts:
            long.units = self._cut_units(long, self._uncounted_length)
        changed = list(texts)
        while changed:
            new = [(long, unit) for long in changed for unit in long.units if not unit.tokens]
            counts = self._count([(long, long.text[u.start : u.end].strip()) for long, u in new])
            for (_, unit), tokens in zip(new, counts, strict=True):
                unit.tokens = max(1, tokens - self._base)
            for long in changed:
                long.headings = long.headings or {u.start: u.tokens for u in long.units}
            cut_again = []
            for long in changed:
                units = self._cut_units(long, self._counted_length)
                if len(units) != len(long.units):
                    long.units = units
                    cut_again.append(long)
            changed = cut_again

    def _uncounted_length(self, long: LongText, unit: Unit) -> int:
        length = max(1, long.room * _CHARACTERS_PER_TOKEN // _PARTS)
        return length if unit.end - unit.start > self._limit * _LONG else 0

    def _counted_length(self, long: LongText, unit: Unit) -> int:
        if unit.tokens + self._head(long, unit)[1] <= long.room:
            return 0
        return max(1, (unit.end - unit.start) * long.room // (unit.tokens * _PARTS))

    def _cut_units(self, long: LongText, length_of: Callable[[LongText, Unit], int]) -> list[Unit]:
        """Return the units with some of them cut into pieces of so many characters, if not 0."""
        units: list[Unit] = []
        for unit in long.units:
            length = length_of(long, unit)
            units += self._cut(long, unit, length) if length else [unit]
        for before, unit in pairwise(units):
            # The first letter of what would look prefixed, with no room in what lies before.
            alone = before.end - before.start == 1 and begins_with(
                long.text, before.start, self._prompts
            )
            if alone or long.text[before.end : unit.start].strip():
                unit.boundary = Boundary.FORCED
        return units

    def _cut(self, long: LongText, unit: Unit, length: int) -> list[Unit]:
        pieces = cut(long.text, unit, length, self._prompts)
        if len(pieces) == 1 and pieces[0].end - pieces[0].start == unit.end - unit.start:
            raise TruncationError(
                f"has a character at {unit.start} that takes {unit.tokens} tokens, more than the "
                f"{long.room} there is room for: choose a larger chunk_tokens",
                position=long.index,
                value=long.text[unit.start : unit.end],
            )
        return pieces

    def _head(self, long: LongText, unit: Unit) -> tuple[str, int]:
        """Return the headings that go in front of a chunk which begins with that unit."""
        if not (unit.path and self._repeat_headings):
            return "", 0
        lines: list[str] = []
        tokens = total = 0
        for heading in reversed(unit.path):
            total += long.headings.get(heading.start, long.room)
            if total > long.room // _HEADINGS_PART:
                break
            lines.insert(0, heading.line)
            tokens = total
        return "\n".join(lines), tokens

    def _fit_drafts(self, texts: Sequence[LongText]) -> None:
        """Count the chunks, and take apart those that don't fit until they do."""
        changed = list(texts)
        while changed:
            new = [
                (long, d, self._chunk(long, d))
                for long in changed
                for d in long.drafts
                if not d.chunk
            ]
            counts = self._count([(long, long.frame(chunk.text)) for long, _, chunk in new])
            again = set()
            for (long, draft, chunk), tokens in zip(new, counts, strict=True):
                if tokens <= self._limit:
                    draft.chunk = Chunk(chunk.text, chunk.start, chunk.end, tokens)
                else:
                    again.add(id(long))
            changed = [long for long in changed if id(long) in again]
            for long in changed:
                long.drafts = [
                    smaller
                    for draft in long.drafts
                    for smaller in ([draft] if draft.chunk else self._smaller(long, draft))
                ]

    def _chunk(self, long: LongText, draft: _Draft) -> Chunk:
        start, end = draft.units[0].start, draft.units[-1].end
        whole = long.text[start:end]
        start += len(whole) - len(whole.lstrip())
        body = whole.strip()
        head = self._head(long, draft.units[0])[0] if draft.headed else ""
        return Chunk(f"{head}\n\n{body}" if head else body, start, start + len(body), 0)

    def _smaller(self, long: LongText, draft: _Draft) -> Iterable[_Draft]:
        """Return what to try instead of a draft that has more tokens than its units had alone."""
        units = draft.units
        if draft.headed and self._head(long, units[0])[0]:
            return [_Draft(units, draft.repeated, headed=False)]
        if draft.repeated:
            return [_Draft(units[draft.repeated :])]
        if len(units) == 1:
            pieces = self._cut(long, units[0], max(1, (units[0].end - units[0].start) // 2))
            for piece in pieces:
                piece.tokens = units[0].tokens
            return [_Draft([piece], headed=False) for piece in pieces]
        until = list(accumulate((unit.tokens for unit in units), initial=0))
        middle = best_end(
            until,
            [unit.boundary for unit in units],
            [0] * len(units),
            (0, 0, len(units) - 1),
            room=max(until[-1], 1),
            left=until[-1],
        )
        return [_Draft(units[:middle]), _Draft(units[middle:])]


def _needed(chunks: list[Chunk]) -> list[Chunk]:
    """Leave out chunks that lie within others, as smaller drafts and repeated parts may."""
    from_behind: list[Chunk] = []
    for chunk in reversed(chunks):
        if not from_behind or chunk.start < from_behind[-1].start:
            from_behind.append(chunk)
    needed: list[Chunk] = []
    for chunk in reversed(from_behind):
        if not needed or chunk.end > needed[-1].end:
            needed.append(chunk)
    return needed
