"""Where sentences begin: a careful rule for Korean, or Kiwi's analysis where it is installed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Literal, TypeAlias

from koe5_integrations.errors import ConfigError, MissingExtraError, shorten
from koe5_integrations.lexical import kiwi

__all__ = ["SentenceFinder", "SentenceRule", "find_sentences", "sentence_rule"]

SentenceRule: TypeAlias = Literal["auto", "rule", "kiwi"]
SentenceFinder: TypeAlias = Callable[[list[str]], Iterable[list[int]]]
"""Returns, for each paragraph, where its second and later sentences begin, ascending."""

_CLOSING = "\"'”’)\\]}」』》〉】）］"
_MARK = ".!?…‥。！？"
_END = re.compile(
    # Marks and what they close, before a space …
    rf"[{_MARK}]+[{_CLOSING}]*\s+(?=\S)"
    # … without one, where marks of full width or a Korean final ending leave no doubt.
    rf"|[。！？]+[{_CLOSING}]*(?=[^\s{_MARK}{_CLOSING}])"
    r"|(?<=[다요죠까])[.!?]+(?=[가-힣])"
)
# Within these, a mark ends a part of the sentence around them.
_TOGETHER = re.compile(
    r"`[^`\n]{1,300}`|(?:https?://|www\.)\S+"
    # Straight quotes open after a space and close after none; else pairs could be told wrongly.
    r'|(?<![^\s(\[“‘「])"(?=\S)[^"\n]{1,300}(?<=\S)"'
    r"|“[^“”\n]{1,300}”|‘[^‘’\n]{1,300}’"
    r"|「[^「」\n]{1,300}」|『[^『』\n]{1,300}』|《[^《》\n]{1,300}》|〈[^〈〉\n]{1,300}〉"
    r"|\([^()\n]{1,300}\)|\[[^\[\]\n]{1,300}\]|（[^（）\n]{1,300}）|【[^【】\n]{1,300}】"
)
_ABBREVIATIONS = (
    "approx|Apr|Aug|cf|Co|Corp|Dec|Dr|e\\.g|ed|eds|Eq|et al|etc|Feb|Fig|i\\.e|Inc|Jan|Jr|Jul|Jun|"
    "Ltd|Mar|Mr|Mrs|Ms|No|Nov|Oct|p|pp|Prof|Sep|Sept|Sr|St|vol|Vol|vs"
)
# What a single full stop may follow without ending a sentence: numbers (dates, list numbers, labels
# of figures), single letters (initials, list letters) and abbreviations.
_NO_END = re.compile(
    rf"(?:\d|(?:^|[\s(\[\"'“‘.])(?:[A-Za-z]|[가나다라마바사아자차카타파하]|{_ABBREVIATIONS}))$"
)
# What goes on speaking of a quotation: 「…다.」라고 말했다.
_GOES_ON = re.compile(r"(?:이?라[고는며면던]|하[고며는던]|[고며란](?=[\s,]))")
_FINAL = ("다", "요", "죠", "까", "네", "군", "음", "함", "임")
_LONGEST_LOOK_BACK = 16


def sentence_rule(sentences: object) -> Literal["rule", "kiwi"]:
    """Return the rule that is meant by ``sentences=``.

    Raises:
        ConfigError: it is none of the three.
        MissingExtraError: it is ``kiwi``, and kiwipiepy is not installed.
    """
    if sentences == "kiwi":
        # Looked for only: loading its model takes a second.
        if find_spec("kiwipiepy") is None:
            raise MissingExtraError("sentences='kiwi'", "ko")
        return "kiwi"
    if sentences in ("auto", "rule"):
        return "rule"
    raise ConfigError(f"sentences={shorten(sentences)} must be 'auto', 'rule' or 'kiwi'")


def find_sentences(rule: Literal["rule", "kiwi"]) -> tuple[SentenceFinder, str]:
    """Return the function that finds sentences, and its name with what its answers depend on."""
    if rule == "kiwi":
        return _by_kiwi, f"kiwi {_kiwi_version()}"
    return _by_rule, "rule"


def _by_rule(paragraphs: list[str]) -> Iterator[list[int]]:
    return (list(_sentence_starts(text)) for text in paragraphs)


def _sentence_starts(text: str) -> Iterator[int]:
    together = _TOGETHER.finditer(text)
    span = next(together, None)
    for found in _END.finditer(text):
        marks_end = found.start() + len(found.group().rstrip())
        while span is not None and span.end() < marks_end:
            span = next(together, None)
        # A mark at the very end of a URL or a bracket is the sentence's own.
        if span is not None and span.start() < found.start() and marks_end < span.end():
            continue
        if _ends_sentence(text, found):
            yield found.end()


def _ends_sentence(text: str, found: re.Match[str]) -> bool:
    marks = found.group().rstrip().rstrip("\"'”’)]}」』》〉】）］")
    before = text[max(0, found.start() - _LONGEST_LOOK_BACK) : found.start()]
    if marks == "." and _NO_END.search(before):
        return False
    trails_off = marks != "." and set(marks) <= set(".…‥")
    if trails_off and not before.endswith(_FINAL):
        return False
    return not _GOES_ON.match(text, found.end())


@lru_cache(maxsize=1)
def _kiwi_version() -> str:
    return version("kiwipiepy")


def _by_kiwi(paragraphs: list[str]) -> Iterator[list[int]]:
    # Given many at once, Kiwi works on them in parallel.
    for sentences in kiwi().split_into_sents(iter(paragraphs)):
        yield [sentence.start for sentence in sentences][1:]
