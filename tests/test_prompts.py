"""Tests of koe5_integrations.prompts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from koe5_integrations import PROFILES
from koe5_integrations.errors import PrefixedTextError, PrefixedTextWarning
from koe5_integrations.prompts import add_prompt
from koe5_integrations.types import Role

KOE5 = PROFILES["nlpai-lab/KoE5"]
PLAIN = PROFILES["jhgan/ko-sroberta-multitask"]
# Only its questions have a prompt.
ARCTIC = PROFILES["dragonkue/snowflake-arctic-embed-l-v2.0-ko"]


@pytest.mark.parametrize(("role", "expected"), [("query", "query: 가"), ("passage", "passage: 가")])
@pytest.mark.parametrize("policy", ["warn", "error", "keep"])
def test_adds_the_prompt_of_the_role(role: Role, expected: str, policy: str) -> None:
    """A bare text gets the prompt of its role, whatever the policy on prefixed ones."""
    assert add_prompt(["가", "가"], KOE5, role, policy) == [expected] * 2


def test_adds_nothing_for_a_model_without_prompts() -> None:
    """A model without prompts reads the text as it is, even one that looks prefixed."""
    texts = ["가", "query: 나"]
    for policy in ("warn", "error", "keep"):
        assert add_prompt(texts, PLAIN, "query", policy) == texts


def test_replaces_nothing_but_concatenates() -> None:
    """The text behind the prompt is kept to the character, blanks and newlines included."""
    assert add_prompt([" 가\n나 "], KOE5, "query", "warn") == ["query:  가\n나 "]


@pytest.mark.parametrize("prefix", ["query: ", "passage: "])
def test_warns_of_prefixed_texts_and_adds_the_prompt_all_the_same(prefix: str) -> None:
    """By default a prefixed text is named in a warning, and prefixed again."""
    with pytest.warns(PrefixedTextWarning, match=r"2 of 3 texts \(positions 1, 2\).*'passage: '"):
        prompted = add_prompt(["가", f"{prefix}나", f"{prefix}다"], KOE5, "passage", "warn")
    assert prompted == ["passage: 가", f"passage: {prefix}나", f"passage: {prefix}다"]


@pytest.mark.parametrize("prefix", ["query: ", "passage: "])
def test_refuses_prefixed_texts_if_asked(prefix: str) -> None:
    """With ``error`` the first prefixed text is named by its position."""
    with pytest.raises(PrefixedTextError, match="already starts with a prefix") as caught:
        add_prompt(["가", f"{prefix}나", "query: 다"], KOE5, "query", "error")
    assert (caught.value.position, caught.value.value) == (1, f"{prefix}나")


def test_keeps_the_prefix_of_the_role_if_asked() -> None:
    """With ``keep`` a text that has the role's prefix is left alone and the others get it."""
    assert add_prompt(["query: 가", "나"], KOE5, "query", "keep") == ["query: 가", "query: 나"]


@pytest.mark.parametrize(
    ("profile", "role"), [(KOE5, "query"), (replace(KOE5, query_prompt=""), "query")]
)
def test_never_keeps_the_other_roles_prefix(profile, role) -> None:
    """With ``keep`` a question that starts with the passages' prefix is refused."""
    with pytest.raises(PrefixedTextError, match="other role") as caught:
        add_prompt(["가", "passage: 나"], profile, role, "keep")
    assert caught.value.position == 1


def test_a_model_with_one_prompt_recognises_it_in_both_roles() -> None:
    """Where only questions have a prompt, a passage that starts with it is still reported."""
    with pytest.warns(PrefixedTextWarning):
        assert add_prompt(["query: 가"], ARCTIC, "passage", "warn") == ["query: 가"]
    with pytest.raises(PrefixedTextError):
        add_prompt(["query: 가"], ARCTIC, "passage", "keep")
