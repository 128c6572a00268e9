"""HTML: what a reader of the page sees, headings as Markdown's, table rows as lines."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from koe5_integrations.ingestion.sources.contract import Parsed, UnreadableError
from koe5_integrations.ingestion.sources.decoding import decode, read_bytes, whole

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

__all__ = ["read_html"]

_NOT_SHOWN = ["script", "style", "template", "noscript", "nav", "svg", "iframe", "object", "title"]
_HEADINGS = ["h1", "h2", "h3", "h4", "h5", "h6"]
_BLOCKS = [
    *("address", "article", "aside", "blockquote", "body", "caption", "details", "div", "dl"),
    *("fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "main", "ol", "p"),
    *("pre", "section", "summary", "table", "ul"),
]
_LINES = ["dd", "dt", "li", "option", "tr"]
_CELLS = ["td", "th"]
_SPACES = re.compile(r"[ \t\r\f\v\n]+")
# What is meant as such, rather than to lay out the markup: characters that no text has.
_SPACE, _NEWLINE = "\ufdd0", "\ufdd1"
_KEEP_SPACES = str.maketrans({" ": _SPACE, "\t": _SPACE * 4, "\n": _NEWLINE})
_GIVE_BACK = str.maketrans({_SPACE: " ", _NEWLINE: "\n"})


def read_html(path: Path) -> Parsed:
    """Read a page: its visible text without scripts, styles and navigation, and its title."""
    from bs4 import BeautifulSoup

    text, encoding = _decode(read_bytes(path))
    with warnings.catch_warnings():
        # Such as that XHTML is read as HTML, which is what is wanted.
        warnings.simplefilter("ignore")
        page = BeautifulSoup(text, "html.parser")
    title = _SPACES.sub(" ", whole(page.title.get_text())).strip() if page.title else ""
    metadata = {"title": title} if title else {}
    if encoding != "utf-8":
        metadata["encoding"] = encoding
    return Parsed(_visible(page), metadata)


def _decode(raw: bytes) -> tuple[str, str]:
    from bs4.dammit import EncodingDetector

    try:
        return decode(raw)
    except UnreadableError:
        declared = EncodingDetector.find_declared_encoding(raw, is_html=True)
        if declared in (None, "utf-8"):
            raise
        try:
            return raw.decode(declared), declared
        except (LookupError, ValueError):
            raise UnreadableError(
                f"it says it is {declared}, and is not: convert it to UTF-8 first"
            ) from None


def _visible(page: BeautifulSoup) -> str:
    text = _SPACES.sub(" ", whole("".join(_pieces(page)))).translate(_GIVE_BACK)
    lines = [line.rstrip() for line in text.split("\n")]
    # Indented by the markup, unless by the page itself.
    lines = [line[1:] if line[:1] == " " != line[1:2] else line for line in lines]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def _pieces(page: BeautifulSoup) -> Iterator[str]:
    """Yield the page's strings, and what stands between them in its place.

    Not recursive, because broken markup nests without end; and nothing is changed in the tree,
    which would take longer the deeper it is.
    """
    from bs4.element import CData, NavigableString, Tag

    within: Counter[str] = Counter()
    waiting: list[object] = [page]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Tag):
            if node.name in _NOT_SHOWN:
                continue
            if node.name == "br":
                yield " " if any(within[name] for name in _HEADINGS) else _NEWLINE
            before, after = _around(node)
            yield before
            within[node.name] += 1
            waiting += [(node.name, after), *reversed(node.contents)]
        elif isinstance(node, tuple):
            name, after = node
            within[name] -= 1
            yield after
        # Comments and scripts are of subclasses.
        elif type(node) in (NavigableString, CData):
            yield str(node).translate(_KEEP_SPACES) if within["pre"] else str(node)


def _around(tag: Tag) -> tuple[str, str]:
    """Return what stands before and after a tag's text."""
    if tag.name in _HEADINGS:
        return f"{_NEWLINE * 2}{'#' * int(tag.name[1])} ", _NEWLINE * 2
    if tag.name in _CELLS:
        return (" | " if tag.find_previous_sibling(_CELLS) else ""), ""
    if tag.name in _LINES:
        return _NEWLINE, ""
    parent = tag.parent
    if tag.name == "p" and parent is not None and parent.name in _CELLS:
        # A cell's only paragraph needs no line of its own.
        alone = len(parent.find_all(True, recursive=False, limit=2)) == 1
        return ("", "") if alone else (_NEWLINE, _NEWLINE)
    return (_NEWLINE, _NEWLINE) if tag.name in _BLOCKS else ("", "")
