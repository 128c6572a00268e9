"""Passages, and the ids and hashes they are known by."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from koe5_integrations.ingestion.documents import Document
from koe5_integrations.ingestion.passages import (
    FROM_COLLECTION,
    document_hash,
    passages_of,
    text_hash,
)

DOCUMENT = Document("휴가.md", "연차는 입사일 기준입니다.", {"쪽": 1}, "docs", "docs/휴가.md")


def test_the_only_passage_has_the_documents_id() -> None:
    """What is short enough is found under the id its user gave it."""
    (passage,) = passages_of(DOCUMENT, ["연차는 입사일 기준입니다."], "v")
    assert (passage.id, passage.document_id) == ("휴가.md", "휴가.md")
    assert passage.stored_metadata == {
        "쪽": 1,
        "document_id": "휴가.md",
        "chunk": 0,
        "chunks": 1,
    }


def test_a_row_taken_over_keeps_its_metadata() -> None:
    """What came from another collection gets nothing of ours, not even where it had nothing."""
    row = replace(DOCUMENT, source=f"{FROM_COLLECTION}notes")
    assert passages_of(row, [row.text], "v")[0].stored_metadata == {"쪽": 1}
    assert passages_of(replace(row, metadata={}), [row.text], "v")[0].stored_metadata == {}


def test_several_passages_are_numbered() -> None:
    """A long document's passages are told apart."""
    passages = passages_of(DOCUMENT, ["가", "나"], "v")
    assert [p.id for p in passages] == ["휴가.md#0", "휴가.md#1"]
    assert [(p.chunk, p.chunks, p.source) for p in passages] == [(0, 2, "docs"), (1, 2, "docs")]


@given(st.dictionaries(st.from_regex(r"\Aa(#[0-9]{1,2}){0,2}\Z"), st.integers(1, 3)))
def test_no_two_documents_share_a_passages_id(sizes: dict[str, int]) -> None:
    """Whatever documents are called, also like another one's passage."""
    ids = [
        passage.id
        for name, n in sizes.items()
        for passage in passages_of(replace(DOCUMENT, id=name), ["글"] * n, "v")
    ]
    assert len(ids) == len(set(ids))


def test_a_version_is_its_text_metadata_source_and_splitting() -> None:
    """Where a document stands does not make it another version; everything else does."""
    version = document_hash(DOCUMENT, {"chunk_tokens": 512})
    assert len(version) == 32
    assert document_hash(replace(DOCUMENT, place="elsewhere"), {"chunk_tokens": 512}) == version
    others = [
        document_hash(replace(DOCUMENT, text="다른 글"), {"chunk_tokens": 512}),
        document_hash(replace(DOCUMENT, metadata={"쪽": 2}), {"chunk_tokens": 512}),
        document_hash(replace(DOCUMENT, source="other"), {"chunk_tokens": 512}),
        document_hash(DOCUMENT, {"chunk_tokens": 256}),
    ]
    assert len({version, *others}) == 5


def test_metadata_in_another_order_is_the_same_version() -> None:
    """Keys have no order."""
    one, other = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert document_hash(replace(DOCUMENT, metadata=one), {}) == document_hash(
        replace(DOCUMENT, metadata=other), {}
    )


def test_a_texts_hash_is_the_same_everywhere() -> None:
    """Shards of other machines and years find each other's vectors."""
    assert text_hash("가") == "64ee5293d31bc58b72d76ae9a86a902e"
    assert passages_of(DOCUMENT, ["가"], "v")[0].text_hash == text_hash("가")
