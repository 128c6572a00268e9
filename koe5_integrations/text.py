"""Input hygiene: everything that can be said of a text before a model is touched.

Nothing here changes what a text says. The one rewriting is Unicode normalisation to NFC, because
decomposed Hangul (macOS file names, some PDFs) makes ids, hashes and filters disagree about equal
texts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from koe5_integrations.errors import (
    EmptyTextError,
    InvalidUnicodeError,
    TextTypeError,
)

__all__ = ["check_texts", "is_unicode", "is_visible", "prefixed_positions"]

# Blank to a reader although Unicode calls them letters or symbols: the Hangul fillers (common in
# Korean chat and form data as a fake space) and the braille blank.
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
# Zero-width and directional marks (category Cf) and controls (Cc), which \s leaves out.
_INVISIBLE = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff"
)
_VISIBLE = re.compile(rf"[^\s{_BLANK}{_INVISIBLE}]")


def check_texts(texts: Iterable[str], *, normalize_unicode: bool = True) -> list[str]:
    """Return the texts as a list, NFC-normalised if asked, or raise for the first bad one.

    Args:
        texts: any iterable of strings; a bare ``str`` is refused, because iterating it would embed
            its characters.
        normalize_unicode: rewrite to Unicode NFC.

    Raises:
        TextTypeError: not an iterable, or an item that is not a ``str``.
        EmptyTextError: an item with nothing visible in it.
        InvalidUnicodeError: an item with a lone surrogate.
    """
    if isinstance(texts, str | bytes | bytearray):
        raise TextTypeError(
            "must be a list of strings, not a single one (write [text])", position=None, value=texts
        )
    # A mapping would silently embed its keys and a set would lose the order the vectors come back
    # in.
    if not isinstance(texts, Iterable) or isinstance(texts, dict | set | frozenset):
        raise TextTypeError("must be an ordered iterable of strings", position=None, value=texts)
    return [_check(text, i, normalize_unicode) for i, text in enumerate(texts)]


def _check(text: object, position: int, normalize_unicode: bool) -> str:
    if not isinstance(text, str):
        raise TextTypeError(
            f"must be a str, not {type(text).__name__}", position=position, value=text
        )
    if not is_visible(text):
        raise EmptyTextError(
            "has nothing to embed (empty, blank or invisible characters only); drop it first",
            position=position,
            value=text,
        )
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidUnicodeError(
            f"holds a lone surrogate at character {error.start} and is not valid Unicode; re-read "
            "its source with the right encoding, or drop it with "
            ".encode('utf-8', 'ignore').decode()",
            position=position,
            value=text,
        ) from None
    return unicodedata.normalize("NFC", text) if normalize_unicode else text


def is_visible(text: str) -> bool:
    """Whether there is anything in a text that could be embedded."""
    return _VISIBLE.search(text) is not None


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8, which lone surrogates can't."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def prefixed_positions(texts: Sequence[str], prompts: Iterable[str]) -> list[int]:
    """Return the positions of the texts that already start with one of the (non-empty) prompts."""
    starts = tuple(prompt for prompt in prompts if prompt)
    return [i for i, text in enumerate(texts) if text.startswith(starts)] if starts else []


def describe_positions(positions: Sequence[int], most: int = 5) -> str:
    """Write positions for a message: ``0, 3, 7 and 12 more``."""
    shown = ", ".join(map(str, positions[:most]))
    return shown if len(positions) <= most else f"{shown} and {len(positions) - most} more"
