"""Whether there is anything in a piece of text that could be embedded."""

from __future__ import annotations

import re

from koe5_integrations.errors import EmptyTextError
from koe5_integrations.text import check_texts

__all__ = ["is_visible"]

_PLAINLY = re.compile(r"[0-9A-Za-z가-힣]")


def is_visible(text: str) -> bool:
    """Whether an encoder would take the text, as far as emptiness goes.

    Raises:
        InvalidUnicodeError: it holds a lone surrogate.
    """
    if _PLAINLY.search(text):
        return True
    try:
        check_texts([text], normalize_unicode=False)
    except EmptyTextError:
        return False
    return True
