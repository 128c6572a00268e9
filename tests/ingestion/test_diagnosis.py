"""What a diagnosis says of collections made in right and wrong ways, all of them real."""

from __future__ import annotations

import itertools
import random
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import KOREAN, make_bag, make_static, make_xlm_roberta

pytest.importorskip("chromadb")

import chromadb
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import KoE5EmbeddingFunction, open_collection
from koe5_integrations.evaluation import load_dataset
from koe5_integrations.ingestion.diagnosis import Diagnosis, diagnose
from koe5_integrations.ingestion.diagnosis.sampling import Repeated, chance_of_seeing, scan

N = 48
NAMES = itertools.count()


def sentences(n: int = N, words: int = 9, seed: int = 0) -> list[str]:
    """Different texts, two lines each, of words that the tiny tokenizers know."""
    draw = random.Random(seed)
    vocabulary = " ".join(KOREAN[:5]).split()
    return [
        " ".join(draw.choices(vocabulary, k=words)) + "\n" + " ".join(draw.choices(vocabulary, k=3))
        for _ in range(n)
    ]


TEXTS = sentences()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientAPI]:
    client = chromadb.PersistentClient(tmp_path_factory.mktemp("diagnosis") / "db")
    yield client
    client.close()


@pytest.fixture(scope="module")
def encoder(xlm_roberta: Path) -> KoE5Encoder:
    return KoE5Encoder(xlm_roberta)


@pytest.fixture(scope="module")
def unmoved(tmp_path_factory: pytest.TempPathFactory) -> KoE5Encoder:
    """A static model of 768 dimensions that a prefix hardly moves: by a cosine of 0.998."""
    model = make_static(
        tmp_path_factory.mktemp("models") / "unmoved", dim=768, prompt_weight=0.15, seed=1
    )
    return KoE5Encoder(model, profile="nlpai-lab/KoE5", max_seq_length=4096)


@pytest.fixture(scope="module")
def stretched(tmp_path_factory: pytest.TempPathFactory) -> KoE5Encoder:
    """A model in koe5-mini's form, a dimension of which is large in passages and 0 otherwise."""
    model = make_bag(tmp_path_factory.mktemp("models") / "stretched", dim=1024, longest=4000.0)
    return KoE5Encoder(model, profile="nlpai-lab/KoE5", max_seq_length=4096)


def without_prompts(encoder: KoE5Encoder, passage_prompt: str = "") -> KoE5Encoder:
    """The same model, with another prefix or none."""
    given = {"query_prompt": "", "passage_prompt": passage_prompt, "on_prefixed": "keep"}
    return KoE5Encoder(**encoder.config() | given)


@pytest.fixture(scope="module")
def raw(encoder: KoE5Encoder) -> Callable[..., Any]:
    """Embed texts as they are, with whatever stands in front of them."""
    bare = KoE5Encoder(encoder.model, query_prompt="", passage_prompt="", normalize_unicode=False)
    return bare.encode_passages


Store = Callable[..., Collection]


@pytest.fixture
def store(client: ClientAPI) -> Store:
    """Put vectors and texts into a collection of their own, as one would by hand."""

    def make(vectors: Any, texts: Any = TEXTS, space: str = "cosine", **columns: Any) -> Collection:
        collection = client.create_collection(
            f"by-hand-{next(NAMES)}",
            embedding_function=None,
            configuration={"hnsw": {"space": space}},
        )
        collection.add(
            ids=[f"r{i}" for i in range(len(vectors))],
            embeddings=np.asarray(vectors, dtype=np.float32),
            documents=texts,
            **columns,
        )
        return collection

    return make


def kinds(diagnosis: Diagnosis) -> set[str]:
    """What was found, but for the missing fingerprint that all of these have."""
    return {finding.kind for finding in diagnosis.findings} - {"no_fingerprint"}


@pytest.mark.parametrize(
    ("prefix", "made", "found"),
    [
        ("passage: ", "right", None),
        ("", "no prefix", "no_prefix"),
        ("query: ", "query prefix", "query_prefix"),
        ("document: ", "document prefix", "document_prefix"),
        ("passage: passage: ", "doubled prefix", "doubled_prefix"),
        ("query: passage: ", "doubled prefix", "doubled_prefix"),
    ],
)
@pytest.mark.parametrize("model", ["encoder", "unmoved", "stretched", "koe5-mini"])
def test_each_prefix_is_recognised(
    model: str,
    prefix: str,
    made: str,
    found: str | None,
    store: Store,
    request: pytest.FixtureRequest,
) -> None:
    """Right and wrong prefixes are told apart in every row, for a transformer and static models.

    In one a prefix moves all vectors by little, in another by so much that a second is near it.
    """
    encoder: KoE5Encoder = (
        KoE5Encoder(model) if model == "koe5-mini" else request.getfixturevalue(model)
    )
    texts = sentences(24)
    vectors = without_prompts(encoder).encode_passages([prefix + text for text in texts])
    diagnosis = diagnose(store(vectors, texts), encoder)
    assert diagnosis.made == {made: 24}
    assert kinds(diagnosis) == ({found} if found else set())
    assert diagnosis.healthy is (found is None)
    assert (diagnosis.compared, diagnosis.dim) == (24, encoder.dim)


def test_a_model_without_prompts_misses_none(static_model: Path, store: Store) -> None:
    """Where the model has no prefixes, plain vectors are right and E5's prefixes are foreign."""
    encoder = KoE5Encoder(static_model, query_prompt="", passage_prompt="")
    assert diagnose(store(encoder.encode_passages(TEXTS)), encoder).made == {"right": N}
    prefixed = encoder.encode_passages(["passage: " + text for text in TEXTS])
    assert kinds(diagnose(store(prefixed), encoder)) == {"foreign_prefix"}


@pytest.mark.parametrize(
    ("model", "prefix"), [("unmoved", "문서: "), ("koe5-mini", "search_document: ")]
)
def test_a_prefix_nobody_knows_is_seen_to_be_one(
    model: str, prefix: str, store: Store, unmoved: KoE5Encoder
) -> None:
    """Vectors that are all moved in one direction are neither called right nor another model's."""
    encoder = unmoved if model == "unmoved" else KoE5Encoder(model)
    vectors = without_prompts(encoder, prefix).encode_passages(TEXTS)
    assert diagnose(store(vectors), encoder).made == {"unknown prefix": N}


@pytest.mark.parametrize("rounding", ["fp16", "bf16", "int8 by range", "int8 codes", "noise"])
def test_rounding_is_no_other_prefix(rounding: str, store: Store, unmoved: KoE5Encoder) -> None:
    """Vectors kept or made in fewer bits are recognised, though a prefix moves them no farther."""
    prefixes = ["passage: ", ""] * (N // 2)
    vectors = without_prompts(unmoved).encode_passages(list(map(str.__add__, prefixes, TEXTS)))
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    steps = (high - low) / 255
    noise = np.random.default_rng(0).normal(size=vectors.shape)
    rounded = {
        "fp16": vectors.astype(np.float16),
        "bf16": (vectors.view(np.uint32) & 0xFFFF0000).view(np.float32),
        "int8 by range": np.round((vectors - low) / steps) * steps + low,
        "int8 codes": np.round(vectors / np.abs(vectors).max() * 127),
        # As far off as the prefix is: a cosine of about 0.999.
        "noise": vectors + noise * np.sqrt(2e-3 / vectors.shape[1]),
    }[rounding]
    diagnosis = diagnose(store(rounded), unmoved)
    hidden = diagnosis.made.pop("can't tell", 0)
    assert diagnosis.made.keys() == {"right", "no prefix"}
    assert max(diagnosis.made.values()) <= N // 2
    assert hidden <= 0.2 * N
    assert ("not_unit_length" in kinds(diagnosis)) is (rounding == "int8 codes")


def test_what_cannot_be_told_is_not_guessed(store: Store, unmoved: KoE5Encoder) -> None:
    """Where rounding hides the prefix, the diagnosis says so and claims no fault."""
    texts = sentences(words=60)
    vectors = unmoved.encode_passages(texts)
    noise = np.random.default_rng(0).normal(size=vectors.shape)
    diagnosis = diagnose(store(vectors + noise * np.sqrt(2e-2 / vectors.shape[1]), texts), unmoved)
    assert diagnosis.made.get("can't tell", 0) >= 0.9 * N
    assert "cannot_tell" in kinds(diagnosis)
    assert diagnosis.made.keys() <= {"can't tell", "right"}


def test_a_prefix_that_changes_nothing_is_not_missed(store: Store, unmoved: KoE5Encoder) -> None:
    """In texts of so many tokens that a prefix is lost in their mean, int8 hides it."""
    texts = sentences(5, words=1000)
    vectors = without_prompts(unmoved).encode_passages(texts)
    diagnosis = diagnose(store(np.round(vectors / np.abs(vectors).max() * 127), texts), unmoved)
    assert diagnosis.made == {"can't tell": 5}
    assert diagnosis.healthy


def test_another_model_is_named_so(
    store: Store, encoder: KoE5Encoder, tmp_path: Path, xlm_roberta: Path
) -> None:
    """Vectors of the same length from other weights are another model's in every row."""
    other = KoE5Encoder(make_xlm_roberta(tmp_path / "other", seed=7))
    diagnosis = diagnose(store(other.encode_passages(TEXTS)), encoder)
    assert kinds(diagnosis) == {"wrong_model"}
    assert diagnosis.made == {"another model": N}
    assert "another model's" in diagnosis.findings[0].sentence


def test_a_model_akin_is_told_from_a_stranger(tmp_path: Path, store: Store) -> None:
    """A model that differs, but puts each text near where this one does, is called akin."""
    encoder = KoE5Encoder(make_static(tmp_path / "one", dim=64))
    vectors = encoder.encode_passages(TEXTS)
    noise = np.random.default_rng(0).normal(size=vectors.shape) * 0.06
    diagnosis = diagnose(store(vectors + noise), encoder)
    finding = next(f for f in diagnosis.findings if f.kind == "wrong_model")
    assert "a model akin to it" in finding.sentence


def test_other_dimensions_are_another_model(store: Store, encoder: KoE5Encoder) -> None:
    """Longer vectors, and shorter ones that fit nothing, are reported with the models of the size.

    Of longer ones nothing is embedded.
    """
    longer = np.random.default_rng(0).normal(size=(N, 384))
    diagnosis = diagnose(store(longer), encoder)
    assert "wrong_dimension" in kinds(diagnosis)
    assert "all-MiniLM-L6-v2" in diagnosis.findings[0].sentence
    assert "multilingual-e5-small" in diagnosis.findings[0].sentence
    assert diagnosis.compared == 0
    assert "wrong_dimension" in kinds(diagnose(store(longer[:, :8]), encoder))


def test_cut_vectors_are_recognised(store: Store) -> None:
    """The first dimensions of the model's vectors are no other model's."""
    encoder = KoE5Encoder("koe5-mini")
    vectors = encoder.encode_passages(TEXTS)[:, :256]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    diagnosis = diagnose(store(vectors), encoder)
    assert diagnosis.made == {"right": N}
    assert kinds(diagnosis) == {"fewer_dimensions"}


def test_a_mixed_collection_is_counted(
    store: Store, encoder: KoE5Encoder, raw: Callable[..., Any]
) -> None:
    """Each part of a mixed collection is counted, and ids of the wrong rows are shown."""
    vectors = encoder.encode_passages(TEXTS)
    vectors[10:20] = raw(TEXTS[10:20])
    vectors[30:33] = raw(["document: " + text for text in TEXTS[30:33]])
    diagnosis = diagnose(store(vectors), encoder)
    assert diagnosis.made == {"right": 35, "no prefix": 10, "document prefix": 3}
    found = {finding.kind: finding for finding in diagnosis.findings}
    assert found["mixed"].count == 13
    assert "35 right, 10 no prefix, 3 document prefix" in found["mixed"].sentence
    assert set(found["document_prefix"].examples) == {"r30", "r31", "r32"}
    assert found["no_prefix"].share == pytest.approx(10 / N)


def test_stale_vectors_are_found(store: Store, encoder: KoE5Encoder) -> None:
    """A vector of another text of this model is not taken for another model's."""
    vectors = encoder.encode_passages(TEXTS)
    vectors[5:9] = encoder.encode_passages(sentences(4, seed=9))
    diagnosis = diagnose(store(vectors), encoder)
    assert diagnosis.made == {"right": N - 4, "another text": 4}
    assert kinds(diagnosis) == {"stale"}
    assert set(diagnosis.findings[0].examples) == {"r5", "r6", "r7", "r8"}


def test_a_second_model_is_told_from_stale_vectors(store: Store, encoder: KoE5Encoder) -> None:
    """Vectors that do not lie where this model's do are another model's."""
    vectors = encoder.encode_passages(TEXTS)
    strange = np.random.default_rng(0).normal(size=(12, encoder.dim))
    vectors[20:32] = strange / np.linalg.norm(strange, axis=1, keepdims=True)
    diagnosis = diagnose(store(vectors), encoder)
    assert diagnosis.made == {"right": N - 12, "another model": 12}
    assert kinds(diagnosis) == {"mixed", "wrong_model"}


def test_with_few_rows_it_stays_open_which(store: Store, encoder: KoE5Encoder) -> None:
    """Of a handful of rows nobody can say what a vector that fits nothing is of."""
    vectors = encoder.encode_passages(TEXTS[:6])
    vectors[2] = np.random.default_rng(0).normal(size=encoder.dim)
    diagnosis = diagnose(store(vectors, TEXTS[:6]), encoder)
    assert diagnosis.made == {"right": 5, "another text or model": 1}
    assert "unfit" in kinds(diagnosis)


@pytest.mark.parametrize(
    ("space", "scale", "severity"),
    [("l2", 1, "warning"), ("ip", 1, "warning"), ("l2", 3, "fault"), ("ip", 3, "fault")],
)
def test_another_space_is_explained(
    space: str, scale: int, severity: str, store: Store, encoder: KoE5Encoder
) -> None:
    """Unit vectors rank alike in every space, others don't; both is said."""
    diagnosis = diagnose(store(encoder.encode_passages(TEXTS) * scale, space=space), encoder)
    found = {finding.kind: finding for finding in diagnosis.findings}
    assert found["wrong_space"].severity == severity
    assert ("not_unit_length" in found) is (scale != 1)
    assert diagnosis.made == {"right": N}


def test_other_forms_of_the_text_are_recognised(
    store: Store, encoder: KoE5Encoder, raw: Callable[..., Any]
) -> None:
    """Line breaks made spaces, and Hangul in pieces, are neither stale nor another model."""
    no_newlines = raw(["passage: " + text.replace("\n", " ") for text in TEXTS])
    diagnosis = diagnose(store(no_newlines), encoder)
    assert diagnosis.made == {"right": N}
    assert kinds(diagnosis) == {"newlines_as_spaces"}
    assert diagnosis.healthy
    pieces = [unicodedata.normalize("NFD", text) for text in TEXTS]
    assert diagnose(store(encoder.encode_passages(TEXTS), pieces), encoder).made == {"right": N}


def test_texts_that_were_cut_shorter_are_found(store: Store) -> None:
    """Vectors of the first 128 tokens only are recognised where a text has up to 512."""
    encoder = KoE5Encoder("koe5-mini")
    answers = list(load_dataset("python_faq_ko").corpus.values())
    tokens = encoder.count_tokens(answers, "passage")
    texts = [text for text, count in zip(answers, tokens, strict=True) if 128 < count <= 512]
    vectors = KoE5Encoder("koe5-mini", max_seq_length=128, on_truncation="ignore").encode_passages(
        texts
    )
    diagnosis = diagnose(store(vectors, texts), encoder)
    assert diagnosis.made == {"right": len(texts)}
    assert kinds(diagnosis) == {"read_less"}
    (finding,) = (f for f in diagnosis.findings if f.kind == "read_less")
    assert finding.count == len(texts) > 50
    assert "128 tokens, though the model reads all of them" in finding.sentence


def test_texts_longer_than_the_model_reads_are_counted(store: Store, encoder: KoE5Encoder) -> None:
    """A text beyond the model's limit is a warning, with the share of tokens lost."""
    long = [" ".join(KOREAN[:5] * 2), *sentences(30, words=2)]
    quiet = KoE5Encoder(encoder.model, on_truncation="ignore")
    (finding,) = (
        f
        for f in diagnose(store(quiet.encode_passages(long), long), encoder).findings
        if f.kind == "too_long"
    )
    assert (finding.count, finding.of, list(finding.examples)) == (1, 31, ["r0"])
    assert "longer than the 64 tokens" in finding.sentence


def test_stored_prefixes_are_seen_through(
    store: Store, encoder: KoE5Encoder, raw: Callable[..., Any]
) -> None:
    """A prefix that is part of the stored text counts once, and is mentioned."""
    texts = ["passage: " + text for text in TEXTS]
    diagnosis = diagnose(store(raw(texts), texts), encoder)
    assert diagnosis.made == {"right": N}
    assert kinds(diagnosis) == {"prefix_in_text"}
    doubled = diagnose(store(raw(["passage: " + text for text in texts]), texts), encoder)
    assert doubled.made == {"doubled prefix": N}


def test_rows_that_cannot_be_compared_are_counted(store: Store, encoder: KoE5Encoder) -> None:
    """Vectors without text, blank texts and zero vectors are findings, and the rest is compared."""
    vectors = encoder.encode_passages(TEXTS)
    vectors[3] = 0
    texts: list[str | None] = list(TEXTS)
    texts[7], texts[8], texts[9] = None, None, " \u3164"
    diagnosis = diagnose(store(vectors, texts), encoder)
    found = {finding.kind: finding for finding in diagnosis.findings}
    assert found["zero_vector"].examples == ["r3"]
    assert found["no_text"].count == 3
    assert "2 none at all, 1 nothing visible" in found["no_text"].sentence
    assert list(found["no_text"].examples) == ["r7", "r8", "r9"]
    assert diagnosis.compared == N - 4


def test_duplicates_are_counted_over_all_rows(store: Store, encoder: KoE5Encoder) -> None:
    """Equal texts under different ids are counted in the whole collection, not in the sample."""
    texts = [*TEXTS, *TEXTS[:10], unicodedata.normalize("NFD", TEXTS[0])]
    diagnosis = diagnose(store(encoder.encode_passages(texts), texts), encoder, sample=5)
    (finding,) = (f for f in diagnosis.findings if f.kind == "duplicates")
    assert (finding.count, finding.of) == (11, N + 11)
    assert finding.examples[0] == f"r0 = r{N}"
    unread = diagnose(store(encoder.encode_passages(texts), texts), encoder, read_all=False)
    assert "duplicates" not in kinds(unread)
    assert not unread.scanned


def test_repeated_texts_are_counted_in_constant_memory() -> None:
    """Beyond so many texts a sample of them is kept, and the share of repetitions stays right."""
    repeated = Repeated(most=500)
    for i in range(40_000):
        repeated.add(str(i), f"글 {i // 2}" if i < 20_000 else f"글 {i}")
    assert len(repeated._rows) <= 500
    assert repeated.superfluous / repeated.counted == pytest.approx(0.25, abs=0.06)


def test_an_empty_collection_has_nothing_wrong(client: ClientAPI, encoder: KoE5Encoder) -> None:
    """No rows are no fault; the missing record is a note."""
    empty = client.create_collection(f"empty-{next(NAMES)}", embedding_function=None)
    diagnosis = diagnose(empty, encoder)
    assert (diagnosis.rows, diagnosis.compared, diagnosis.dim) == (0, 0, None)
    assert diagnosis.healthy


def test_our_own_collections_are_healthy(client: ClientAPI, encoder: KoE5Encoder) -> None:
    """A collection of open_collection has a record, and it is compared."""
    ours = open_collection(client, f"ours-{next(NAMES)}", encoder)
    ours.add(ids=[str(i) for i in range(N)], documents=TEXTS)
    diagnosis = diagnose(ours, encoder)
    assert (diagnosis.made, diagnosis.findings) == ({"right": N}, [])
    assert diagnosis.recorded == diagnosis.fingerprint
    assert diagnosis.made_by == f"koe5 ({encoder.model})"
    other = diagnose(ours, KoE5Encoder(encoder.model, query_prompt="질문: "))
    assert kinds(other) == {"other_fingerprint"}


class PlainHuggingFace:
    """What LangChain's HuggingFaceEmbeddings does by default: no prefix, newlines made spaces."""

    def __init__(self, model: str) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(model, device="cpu")

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        lines = [text.replace("\n", " ") for text in texts]
        vectors: list[list[float]] = self._model.encode(lines, prompt="").tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def test_langchains_default_is_seen(client: ClientAPI, encoder: KoE5Encoder) -> None:
    """A LangChain store over a plain model has no prefix, l2 and no fingerprint."""
    langchain_chroma = pytest.importorskip("langchain_chroma")
    name = f"langchain-{next(NAMES)}"
    store = langchain_chroma.Chroma(name, PlainHuggingFace(encoder.model), client=client)
    store.add_texts(TEXTS, metadatas=[{"page": i} for i in range(N)])
    diagnosis = diagnose(client.get_collection(name, embedding_function=None), encoder)
    assert diagnosis.made == {"no prefix": N}
    assert {"no_prefix", "newlines_as_spaces", "wrong_space"} <= kinds(diagnosis)


def test_llama_indexs_metadata_is_seen(client: ClientAPI, encoder: KoE5Encoder) -> None:
    """Nodes embedded with their metadata in front are right, and that is noted."""
    pytest.importorskip("llama_index.vector_stores.chroma")
    from llama_index.core import Document, StorageContext, VectorStoreIndex
    from llama_index.vector_stores.chroma import ChromaVectorStore

    from koe5_integrations.llama_index import KoE5Embedding

    collection = client.create_collection(
        f"llama-{next(NAMES)}",
        embedding_function=None,
        configuration={"hnsw": {"space": "cosine"}},
    )
    texts = sentences(30, words=3)
    VectorStoreIndex.from_documents(
        [Document(text=text, metadata={"제목": f"글 {i}"}) for i, text in enumerate(texts)],
        storage_context=StorageContext.from_defaults(
            vector_store=ChromaVectorStore(chroma_collection=collection)
        ),
        embed_model=KoE5Embedding(model_name=encoder.model),
    )
    diagnosis = diagnose(collection, encoder)
    assert diagnosis.made == {"right": 30}
    assert kinds(diagnosis) == {"with_metadata"}
    assert diagnosis.healthy


def test_chromas_own_function_falls_into_the_prompt_trap(
    client: ClientAPI, encoder: KoE5Encoder
) -> None:
    """Chroma's SentenceTransformerEmbeddingFunction applies the model's default prompt to texts.

    This model's is the query's, so that all passages were embedded as questions.
    """
    from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction

    name = f"sentence-transformers-{next(NAMES)}"
    function: Any = SentenceTransformerEmbeddingFunction(model_name=encoder.model)
    client.create_collection(name, embedding_function=function).add(
        ids=[str(i) for i in range(N)], documents=TEXTS
    )
    diagnosis = diagnose(client.get_collection(name, embedding_function=None), encoder)
    assert diagnosis.made == {"query prefix": N}
    assert diagnosis.made_by == f"sentence_transformer ({encoder.model})"


def test_a_sample_meets_every_part(client: ClientAPI) -> None:
    """Of each part of the collection one row is drawn: a fault in 5% in a row is surely seen."""
    collection = client.create_collection(f"many-{next(NAMES)}", embedding_function=None)
    rows = 5_000
    for start in range(0, rows, 2500):
        ids = [f"{i:05}" for i in range(start, start + 2500)]
        collection.add(ids=ids, embeddings=np.ones((2500, 2), dtype=np.float32))
    drawn = scan(collection, sample=200, seed=3, texts=False, on_progress=lambda n: None)
    places = [int(id) for id in drawn.sampled]
    assert [place // 25 for place in places] == list(range(200))
    assert len({place % 25 for place in places}) == 25
    again = scan(collection, sample=200, seed=3, texts=False, on_progress=lambda n: None)
    assert again.sampled == drawn.sampled


def test_the_probability_of_seeing_a_fault_is_stated(store: Store, encoder: KoE5Encoder) -> None:
    """The report says what a sample of its size can't miss; all rows miss nothing."""
    assert chance_of_seeing(0.05, 200, 20_000) == pytest.approx(1 - 0.95**200)
    collection = store(encoder.encode_passages(TEXTS))
    diagnosis = diagnose(collection, encoder, sample=30)
    assert diagnosis.sureness == (
        "30 of 48 rows were compared: a fault in 5% of the rows is seen with a probability of "
        "78.53% or more."
    )
    assert diagnose(collection, encoder).sureness == "All 48 rows were compared."


def test_no_stored_function_is_built(
    client: ClientAPI, encoder: KoE5Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the collection says it was made with is read, and never made."""
    ours = open_collection(client, f"ours-{next(NAMES)}", encoder)
    ours.add(ids=["a", "b"], documents=TEXTS[:2])

    def refuse(config: dict[str, Any]) -> None:
        raise AssertionError(config)

    monkeypatch.setattr(KoE5EmbeddingFunction, "build_from_config", staticmethod(refuse))
    opened = client.get_collection(ours.name, embedding_function=None)
    assert diagnose(opened, encoder).made == {"right": 2}
