"""Documents from objects of the frameworks, mappings and texts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document as LangChainDocument
from llama_index.core.schema import Document as LlamaIndexDocument
from llama_index.core.schema import NodeWithScore, TextNode

from koe5_integrations.errors import ConfigError
from koe5_integrations.ingestion.documents import Document, Rejected
from koe5_integrations.ingestion.sources import documents_from


class Unreadable:
    """Looks like LangChain's, and raises when it is asked."""

    page_content = "글"
    metadata: Any = {}  # noqa: RUF012  # as a stranger writes it

    @property
    def id(self) -> str:
        raise RuntimeError("the database is gone")


class Nameless:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_langchain_documents_are_taken() -> None:
    """By their id, or else the one in the metadata."""
    items = [
        LangChainDocument("글", id="a", metadata={"source": "x.txt", "page": 1}),
        LangChainDocument("글", metadata={"id": 5}),
    ]

    first, second = documents_from(items)

    assert first == Document("a", "글", {"source": "x.txt", "page": 1}, "documents", "documents[0]")
    assert second.id == "5"


def test_llama_index_documents_and_nodes_are_taken() -> None:
    """With their text alone: metadata is not written into it."""
    metadata = {"file": "x.txt", "pages": [1, 2]}
    node = TextNode(text="글", id_="n", metadata=metadata)
    items = [
        LlamaIndexDocument(text="글", id_="d", metadata=metadata),
        node,
        NodeWithScore(node=node),
    ]

    found = list(documents_from(items, source="wiki"))

    assert [item.id for item in found] == ["d", "n", "n"]
    assert {item.text for item in found} == {"글"}
    assert {item.source for item in found} == {"wiki"}
    assert found[0].metadata == {"file": "x.txt", "pages": "[1, 2]"}


def test_mappings_are_taken() -> None:
    """Metadata is what is under ``metadata``, and all other keys."""
    items = [
        {"id": 1, "text": "글", "metadata": {"a": 1}, "b": 2},
        {"text": "글", "metadata": "text", "metadata2": None},
    ]

    first, second = documents_from(items)

    assert (first.id, first.metadata) == ("1", {"a": 1, "b": 2})
    assert second.metadata == {"metadata": "text"}


def test_our_documents_are_checked_and_keep_their_place() -> None:
    """What has no source of its own gets the one that is said."""
    items = [Document("a", "한", {}, "s", "s:1"), Document("b", "글"), Document("c", " ")]

    first, second, third = documents_from(items, source="mine")

    assert first == Document("a", "한", {}, "s", "s:1")
    assert second == Document("b", "글", {}, "mine", "mine[1]")
    assert isinstance(third, Rejected)
    assert third.id == "c"


def test_what_has_no_id_is_called_by_its_content() -> None:
    """The same in every run; the same text from another source is another document."""
    items = [
        "글",
        "글",
        "다른 글",
        LangChainDocument("글"),
        LangChainDocument("글", metadata={"source": "x"}),
        {"text": "글", "metadata": {"source": "x", "page": 1}},
    ]

    ids = [item.id for item in documents_from(items)]

    assert ids[0] == ids[1] == ids[3] != ids[2]
    assert ids[4] == ids[5] not in ids[:4]
    assert ids[0] == "2b2296fd906598a3c0e9d3fdd0e9d4ab", "what is stored is known by it"


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (None, "not NoneType"),
        (5, "not int"),
        (b"text", "not bytes"),
        (["text"], "not list"),
        (Path("a.txt"), "not "),
        ("", "nothing to embed"),
        ("\u200b\u3164", "nothing to embed"),
        ("\ud800", "lone surrogate"),
        ({}, "no key 'text'"),
        ({"page_content": "a"}, "it has: 'page_content'"),
        ({"text": None}, "must be a str, not NoneType"),
        ({"text": "a", "id": 1.5}, "string or an integer"),
        ({"text": "a", "id": True}, "string or an integer"),
        ({"text": "a", "id": " "}, "its id is empty"),
        ({"text": "a", "id": "\udc00"}, "its id is not valid"),
        ({"text": "a", "id": 10**5000}, "more than 64 bits"),
        ({"text": "a", "metadata": {1: 2}}, "metadata key 1"),
        ({"text": "a", "metadata": {"": 2}}, "metadata key ''"),
        ({"text": "a", "k": "\udc00"}, "metadata 'k' holds a lone surrogate"),
        ({"text": "a", "\udc00": 1}, "holds a lone surrogate"),
        ({"text": "a", "k": {1: 2, "b": 3}}, "can't be stored: TypeError"),
        ({"text": "a", "k": Nameless()}, "can't be stored: RuntimeError"),
        ({"text": "a", "source": Nameless()}, "can't be read: RuntimeError"),
        ({"text": "a", "k": 10**5000}, "can't be stored: ValueError"),
        (Unreadable(), "can't be read: RuntimeError: the database is gone"),
        (object(), "not object"),
    ],
)
def test_what_is_no_document_is_rejected(item: object, reason: str) -> None:
    """With its position; the rest goes on."""
    before, rejected, after = documents_from(["a", item, "b"], source="mine")

    assert isinstance(rejected, Rejected)
    assert reason in rejected.reason
    assert (rejected.place, rejected.source) == ("mine[1]", "mine")
    assert {type(before), type(after)} == {Document}


def test_metadata_can_be_stored_anywhere() -> None:
    """In NFC, without NUL, integers of more than 64 bits as text."""
    item = {"text": "글", "k": "한\0", "n": 2**63, "m": -(2**63), "ok": True}

    [document] = documents_from([item])

    assert document.metadata == {"k": "한", "n": str(2**63), "m": -(2**63), "ok": True}


@pytest.mark.parametrize(
    "items",
    [
        "notes",
        b"notes",
        Path("notes"),
        {"text": "a"},
        Document("a", "b"),
        LangChainDocument("a"),
        TextNode(text="a"),
        None,
        5,
    ],
)
def test_what_is_not_several_documents_is_refused(items: Any) -> None:
    """At once, with the remedy: a text would be read letter by letter."""
    with pytest.raises(ConfigError):
        documents_from(items)


def test_a_data_frame_is_refused() -> None:
    """Its columns' names are not documents."""

    class Frame:
        def iterrows(self) -> None: ...

        def __iter__(self) -> Iterator[str]:
            return iter(["text"])

    with pytest.raises(ConfigError, match="to_dict"):
        documents_from(Frame())


def test_an_empty_source_is_refused() -> None:
    """It is what documents are removed by."""
    with pytest.raises(ConfigError, match="source=''"):
        documents_from([], source="")


def test_no_item_is_taken_before_it_is_asked_for() -> None:
    """An endless generator is read one by one, and its own errors are not hidden."""
    taken = []

    def endless() -> Iterator[str]:
        for i in range(1_000_000):
            taken.append(i)
            if i == 1000:
                raise KeyError("mine")
            yield f"글 {i}"

    documents = documents_from(endless())

    assert taken == []
    for n in range(1, 1001):
        assert isinstance(next(documents), Document)
        assert len(taken) == n
    with pytest.raises(KeyError, match="mine"):
        next(documents)


def test_no_framework_is_imported_for_other_items() -> None:
    """Texts and mappings need neither of them."""
    code = (
        "import sys; from koe5_integrations.ingestion.sources import documents_from; "
        "list(documents_from(['a', {'text': 'b'}, None])); "
        "sys.exit(str([m for m in ('langchain_core', 'llama_index') if m in sys.modules] or ''))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""
