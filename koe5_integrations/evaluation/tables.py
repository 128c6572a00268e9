"""Plain tables: Markdown, or columns of text."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal

__all__ = ["layout"]


def layout(
    head: Sequence[str], rows: Sequence[Sequence[str]], style: Literal["markdown", "text"]
) -> str:
    """Write a table without a line end at its end; the first column is a name.

    Args:
        head: titles of the columns.
        rows: cells, as many in each as there are titles.
        style: ``markdown``, or ``text``: padded columns, in which Hangul takes two places.
    """
    if style == "markdown":
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
        return "\n".join(
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
        )
    widths = [max(_width(line[column]) for line in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell + _gap(cell, width) if column == 0 else _gap(cell, width) + cell
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [head, *rows]
    )


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _gap(text: str, width: int) -> str:
    return " " * (width - _width(text))
