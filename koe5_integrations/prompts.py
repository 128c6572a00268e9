"""Puts a role's prompt in front of texts, exactly once."""

from __future__ import annotations

from koe5_integrations.errors import PrefixedTextError, PrefixedTextWarning
from koe5_integrations.options import OnPrefixed
from koe5_integrations.profiles import ModelProfile
from koe5_integrations.text import describe_positions, prefixed_positions
from koe5_integrations.types import Role
from koe5_integrations.warn import warn

__all__ = ["add_prompt"]


def add_prompt(
    texts: list[str], profile: ModelProfile, role: Role, on_prefixed: OnPrefixed
) -> list[str]:
    """Return the texts with the prompt of their role in front.

    Args:
        texts: checked texts.
        profile: whose prompts.
        role: which of them.
        on_prefixed: ``warn`` and add the prompt all the same, raise an ``error``, or ``keep`` a
            text that starts with this role's prompt as it is.

    Raises:
        PrefixedTextError: a text starts with a prompt and that is an ``error``, or it is the other
            role's and would be kept.
    """
    prompt = profile.prompt(role)
    prefixed = prefixed_positions(texts, (profile.query_prompt, profile.passage_prompt))
    if prefixed and on_prefixed == "error":
        raise PrefixedTextError(
            f"already starts with a prefix; pass the bare text, {prompt!r} is added to it here "
            "(or choose on_prefixed='keep')",
            position=prefixed[0],
            value=texts[prefixed[0]],
        )
    if prefixed and on_prefixed == "keep":
        for i in prefixed:
            if not prompt or not texts[i].startswith(prompt):
                raise PrefixedTextError(
                    "starts with the other role's prefix, but is embedded as a "
                    f"{role} ({prompt!r})",
                    position=i,
                    value=texts[i],
                )
        kept = set(prefixed)
        return [text if i in kept else prompt + text for i, text in enumerate(texts)]
    if prefixed:
        warn(
            PrefixedTextWarning(
                f"{len(prefixed)} of {len(texts)} texts (positions {describe_positions(prefixed)}) "
                f"already start with a prefix, and {prompt!r} is added in front of it: pass bare "
                "texts, or choose on_prefixed='keep' or 'error'"
            )
        )
    return [prompt + text for text in texts]
