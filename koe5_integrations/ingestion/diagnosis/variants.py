"""Ways in which a stored text may have become its vector: prefix, form, and how much was read."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from koe5_integrations.profiles import ModelProfile

__all__ = ["FORMS", "Form", "Variant", "bare_text", "made_as", "plain_variants", "wider_variants"]

Form: TypeAlias = Literal["plain", "newlines", "as_stored", "decomposed", "with_metadata"]

# What people put in front by hand, or what a training script did.
_KNOWN_PREFIXES = ("query: ", "passage: ", "document: ")
_READ_LESS = (128, 256)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way from a text to a vector, with a given model.

    Attributes:
        prefix: put in front of the text.
        form: what was done to the text before.
        tokens: how many were read; None is as many as the model can.
    """

    prefix: str
    form: Form = "plain"
    tokens: int | None = None

    def text(self, stored: str, metadata: Mapping[str, Any], profile: ModelProfile) -> str | None:
        """Return what would have been embedded; None if that is no other than ``plain``.

        Args:
            stored: the text as the collection has it.
            metadata: stored with it.
            profile: of the model.
        """
        bare = bare_text(stored, profile)
        text = FORMS[self.form](bare, metadata)
        if text is None or (self.form != "plain" and text == FORMS["plain"](bare, metadata)):
            return None
        return self.prefix + text


def bare_text(stored: str, profile: ModelProfile) -> str:
    """Return a stored text without the prefix that it may have been stored with."""
    for prefix in (profile.passage_prompt, profile.query_prompt, *_KNOWN_PREFIXES):
        if prefix and stored.startswith(prefix) and stored[len(prefix) :].strip():
            return stored[len(prefix) :]
    return stored


def _as_llama_index_embeds(text: str, metadata: Mapping[str, Any]) -> str | None:
    """Return a node's text with its metadata in front, which LlamaIndex stores apart from it.

    https://github.com/run-llama/llama_index/blob/main/llama-index-core/llama_index/core/schema.py
    """
    try:
        node = json.loads(metadata["_node_content"])
        embedded = {
            key: value
            for key, value in node["metadata"].items()
            if key not in node["excluded_embed_metadata_keys"]
        }
        separator = node.get("metadata_separator") or node.get("metadata_seperator") or "\n"
        lines = [node["metadata_template"].format(key=k, value=str(v)) for k, v in embedded.items()]
        template = node.get("text_template") or "{metadata_str}\n\n{content}"
        whole = template.format(content=text, metadata_str=separator.join(lines).strip())
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return None
    return str(whole).strip() if embedded else None


FORMS: dict[Form, Callable[[str, Mapping[str, Any]], str | None]] = {
    "plain": lambda text, metadata: unicodedata.normalize("NFC", text),
    "newlines": lambda text, metadata: unicodedata.normalize("NFC", text).replace("\n", " "),
    "as_stored": lambda text, metadata: text,
    "decomposed": lambda text, metadata: unicodedata.normalize("NFD", text),
    "with_metadata": _as_llama_index_embeds,
}
"""What each form does to a bare text; None where it can't be done."""


def plain_variants(profile: ModelProfile) -> list[Variant]:
    """Return the ways that account for nearly all collections: the right one first."""
    prefixes = (profile.passage_prompt, "", profile.query_prompt)
    return [Variant(prefix) for prefix in dict.fromkeys(prefixes)]


def wider_variants(profile: ModelProfile, max_seq_length: int | None) -> list[Variant]:
    """Return the ways looked at where none of :func:`plain_variants` fits."""
    plain = [variant.prefix for variant in plain_variants(profile)]
    passage, query = profile.passage_prompt, profile.query_prompt
    others = (*_KNOWN_PREFIXES, passage * 2, query * 2, query + passage, passage + query)
    prefixes = list(dict.fromkeys([*plain, *others]))
    limits = [n for n in _READ_LESS if max_seq_length is None or n < max_seq_length]
    return [
        *(Variant(prefix) for prefix in prefixes if prefix not in plain),
        *(Variant(prefix, form) for form in FORMS if form != "plain" for prefix in prefixes),
        *(Variant(prefix, tokens=limit) for limit in limits for prefix in plain),
    ]


def made_as(prefix: str, profile: ModelProfile) -> str:
    """Name what a vector with this prefix is, for reports."""
    passage, query = profile.passage_prompt, profile.query_prompt
    if prefix == passage:  # which may be empty: a model without prompts has none missing
        return "right"
    if not prefix:
        return "no prefix"
    if prefix == query:
        return "query prefix"
    if prefix == "document: ":
        return "document prefix"
    if prefix in (passage * 2, query * 2, query + passage, passage + query):
        return "doubled prefix"
    return "foreign prefix"
