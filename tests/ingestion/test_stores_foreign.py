"""Any framework's store as a store of passages: the same promises from each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from uuid import UUID

import pytest
from tiny_models import KOREAN

pytest.importorskip("chromadb")
pytest.importorskip("langchain_chroma")
pytest.importorskip("llama_index.vector_stores.chroma")

import chromadb
from foreign_stores import (
    MAKERS,
    Made,
    langchain_chroma,
    langchain_memory,
    llama_chroma,
    passages,
)

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import open_collection
from koe5_integrations.errors import FingerprintMismatchError, StoreError
from koe5_integrations.ingestion.stores import Store, foreign
from koe5_integrations.ingestion.stores.wrapping import as_store

QUESTION, TEXTS = KOREAN[0], KOREAN[1:5]
PASSAGES = passages(*TEXTS, author="김철수")
IDS = [passage.id for passage in PASSAGES]


@pytest.fixture
def encoder(static_model: Path) -> KoE5Encoder:
    return KoE5Encoder(static_model)


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def made(request: pytest.FixtureRequest, static_model: Path, tmp_path: Path) -> Made:
    result: Made = request.param(static_model, tmp_path)
    return result


@pytest.fixture
def store(made: Made, encoder: KoE5Encoder) -> Store:
    """The framework's store with four passages."""
    store = as_store(made.store, encoder)
    store.upsert(PASSAGES, encoder.encode_passages(TEXTS))
    return store


def test_the_framework_finds_what_chroma_finds(
    store: Store, made: Made, encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """The retriever ranks as Chroma does by itself, and no passage was embedded for that."""
    assert made.computed() == 0
    direct = open_collection(chromadb.PersistentClient(tmp_path), "direct", encoder)
    direct.upsert(ids=IDS, documents=TEXTS)
    expected = direct.query(query_texts=[QUESTION], n_results=4)
    found = made.search(QUESTION)
    assert [id_ for id_, _, _ in found] == expected["ids"][0]
    assert [text for _, text, _ in found] == expected["documents"][0]
    assert all(metadata["author"] == "김철수" for _, _, metadata in found)
    assert {metadata["document_id"] for _, _, metadata in found} == set(IDS)


def test_loading_again_changes_nothing(store: Store, made: Made, encoder: KoE5Encoder) -> None:
    """What is loaded a second time, all or some, is there once."""
    before = made.search(QUESTION)
    store.upsert(PASSAGES, encoder.encode_passages(TEXTS))
    store.upsert(PASSAGES[1:3], encoder.encode_passages(TEXTS[1:3]))
    assert store.count() == 4
    assert made.search(QUESTION) == before


def test_a_changed_passage_is_replaced(store: Store, made: Made, encoder: KoE5Encoder) -> None:
    """New text, vector and metadata take the place of the old, of which nothing remains."""
    [changed] = passages(QUESTION, title="새 제목")
    store.upsert([changed], encoder.encode_passages([QUESTION]))
    found = {id_: (text, metadata) for id_, text, metadata in made.search(QUESTION)}
    text, metadata = found[changed.id]
    assert text == QUESTION
    assert metadata["title"] == "새 제목"
    assert "author" not in metadata
    assert TEXTS[0] not in [text for text, _ in found.values()]
    assert store.count() == 4


def test_deleted_passages_are_found_no_more(store: Store, made: Made) -> None:
    """Ids are deleted, and those that are not there are no error."""
    store.delete([IDS[0], "never-there", IDS[2]])
    store.delete(["never-there"])
    store.delete([])
    assert store.count() == 2
    pages = store.ids()
    assert pages is not None
    assert sorted(id_ for page in pages for id_ in page) == [IDS[1], IDS[3]]
    assert sorted(id_ or "" for id_, _, _ in made.search(QUESTION)) == [IDS[1], IDS[3]]


def test_only_some_go_in_one_call(
    made: Made, encoder: KoE5Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More passages than one call takes are split, and each keeps its vector."""
    monkeypatch.setattr(foreign, "_AT_ONCE", 3)
    texts = [" ".join(pair) for pair in combinations(KOREAN, 2)][:8]
    many = passages(*texts)
    store = as_store(made.store, encoder)
    store.upsert(many, encoder.encode_passages(texts))
    assert store.count() == 8
    assert made.search(texts[7])[0][1] == texts[7]
    store.delete([passage.id for passage in many[:7]])
    assert store.count() == 1


def test_an_emptied_store_has_another_key(store: Store, made: Made, encoder: KoE5Encoder) -> None:
    """After a reset nothing is left, and whoever asks for the store sees that it is another."""
    before = store.key
    store.reset()
    assert store.count() == 0
    assert made.search(QUESTION) == []
    assert store.key == as_store(made.store, encoder).key != before


def test_the_key_is_the_objects(store: Store, made: Made, encoder: KoE5Encoder) -> None:
    """The same object has the same key however often it is wrapped."""
    assert as_store(made.store, encoder).key == store.key


def test_stores_in_memory_differ_by_key(static_model: Path, encoder: KoE5Encoder) -> None:
    """No two objects share a key, also if one takes the place of the other in memory."""
    keys = {as_store(langchain_memory(static_model, Path()).store, encoder).key for _ in range(20)}
    assert len(keys) == 20


def test_a_name_promises_that_the_contents_last(static_model: Path, encoder: KoE5Encoder) -> None:
    """With a name, another object of the class has the same key, and none with another name."""
    first, second, third = (
        as_store(langchain_memory(static_model, Path()).store, encoder, name=name).key
        for name in ("notes", "notes", "others")
    )
    assert first == second != third


def test_a_chroma_collection_is_known_by_its_identifier(
    static_model: Path, encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """The same collection has the same key in another object, and one made anew another."""
    first = as_store(llama_chroma(static_model, tmp_path).store, encoder).key
    assert as_store(llama_chroma(static_model, tmp_path).store, encoder).key == first
    chromadb.PersistentClient(tmp_path).delete_collection("docs")
    assert as_store(llama_chroma(static_model, tmp_path).store, encoder).key != first


def test_ids_become_uuids_where_asked(made: Made, encoder: KoE5Encoder) -> None:
    """The same UUID for the same id, so that passages are replaced and deleted all the same."""
    store = as_store(made.store, encoder, uuids=True)
    for _ in range(2):
        store.upsert(PASSAGES, encoder.encode_passages(TEXTS))
    store.delete(IDS[1:])
    assert store.count() == 1
    assert store.ids() is None
    [(id_, _, metadata)] = made.search(QUESTION)
    assert str(UUID(id_)) == id_
    assert metadata["document_id"] == IDS[0] or "Old" in store.key
    store.reset()
    assert store.count() == 0


def test_another_models_collection_is_refused(
    static_model: Path, encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """A collection that says it was made with other settings is refused, naming them."""
    made = llama_chroma(static_model, tmp_path)
    other = KoE5Encoder(static_model, passage_prompt="문서: ")
    with pytest.raises(FingerprintMismatchError, match="passage_prompt"):
        as_store(made.store, other)


@pytest.mark.parametrize("maker", [langchain_chroma, llama_chroma], ids=["langchain", "llama"])
def test_metadata_that_chroma_can_not_keep_is_changed_for_it(
    maker: Callable[[Path, Path], Made], static_model: Path, encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """Keys that Chroma reserves and integers it can't hold are stored as in our own collections."""
    made = maker(static_model, tmp_path)
    odd = [replace(PASSAGES[0], metadata={"#tag": "글", "big": 2**70})]
    as_store(made.store, encoder).upsert(odd, encoder.encode_passages(TEXTS[:1]))
    [(_, _, metadata)] = made.search(QUESTION)
    assert metadata["metadata:#tag"] == "글"
    assert metadata["big"] == str(2**70)


@pytest.mark.parametrize("maker", [langchain_chroma, llama_chroma], ids=["langchain", "llama"])
def test_a_failing_store_is_one_error(
    maker: Callable[[Path, Path], Made], static_model: Path, encoder: KoE5Encoder, tmp_path: Path
) -> None:
    """What a store raises becomes a StoreError that names it and says what to do."""
    store = as_store(maker(static_model, tmp_path).store, encoder)
    chromadb.PersistentClient(tmp_path).delete_collection("docs")
    for call in (
        lambda: store.upsert(PASSAGES, encoder.encode_passages(TEXTS)),
        lambda: store.delete(IDS),
        store.count,
        lambda: list(store.ids() or ()),
        store.reset,
    ):
        with pytest.raises(StoreError, match=r"Chroma.*NotFoundError.*run the same again"):
            call()
