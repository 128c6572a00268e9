"""A question and texts that the tests of LlamaIndex embed, as nodes too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiny_models import KOREAN

if TYPE_CHECKING:
    from llama_index.core.schema import TextNode

QUERY, TEXTS = KOREAN[0], KOREAN[1:5]


def text_nodes() -> list[TextNode]:
    """A node for each of the texts."""
    from llama_index.core.schema import TextNode

    return [TextNode(text=text, id_=f"node-{i}") for i, text in enumerate(TEXTS)]
