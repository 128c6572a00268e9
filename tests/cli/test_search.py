"""``koe5 search`` over real Chroma collections on disk."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len
from tiny_models import KOREAN, make_static
from typer.testing import Result

pytest.importorskip("chromadb")

import chromadb
from chromadb.api.models.Collection import Collection

from koe5_integrations import KoE5Encoder
from koe5_integrations.chroma import KoE5EmbeddingFunction, open_collection
from koe5_integrations.cli import search

Invoke = Callable[..., Result]
Koe5 = Callable[..., "subprocess.CompletedProcess[str]"]

TEXTS = KOREAN[:5]
QUESTION = "겨울이 추운 도시는 어디입니까?"


@pytest.fixture
def persist_dir(tmp_path: Path, static_model: Path) -> Path:
    """A database with one of our collections, ``faq``, and one that is not, ``others``."""
    path = tmp_path / "db"
    client = chromadb.PersistentClient(path)
    collection = open_collection(client, "faq", KoE5EmbeddingFunction(static_model))
    collection.add(
        ids=[f"문서-{i}" for i in range(5)],
        documents=TEXTS,
        metadatas=[{"출처": f"page{i}.html", "_node_content": "{}", "제목": ""} for i in range(5)],
    )
    client.create_collection("others", embedding_function=None)
    return path


@pytest.fixture
def faq(persist_dir: Path, static_model: Path) -> Collection:
    client = chromadb.PersistentClient(persist_dir)
    return open_collection(client, "faq", KoE5EmbeddingFunction(static_model))


@pytest.fixture
def ask(invoke: Invoke, persist_dir: Path) -> Invoke:
    """Run ``koe5 search`` over the collection ``faq``."""

    def run(*args: str | Path, stdin: str | None = None, collection: str = "faq") -> Result:
        place = ("--persist-dir", persist_dir, "--collection", collection)
        return invoke("search", *place, *args, stdin=stdin)

    return run


def test_json_is_one_document(ask: Invoke, static_model: Path) -> None:
    """``--json`` prints the query and its results, best first, with cosine similarities."""
    document = json.loads(ask("--json", "--top-k", "3", QUESTION).stdout)
    assert document["query"] == QUESTION
    encoder = KoE5Encoder(static_model)
    scores = encoder.encode_passages(TEXTS) @ encoder.encode_queries([QUESTION])[0]
    best = sorted(range(5), key=lambda i: -scores[i])[:3]
    assert [list(result) for result in document["results"]] == [
        ["id", "score", "text", "metadata"]
    ] * 3
    assert [result["id"] for result in document["results"]] == [f"문서-{i}" for i in best]
    assert [result["text"] for result in document["results"]] == [TEXTS[i] for i in best]
    assert [result["score"] for result in document["results"]] == pytest.approx(
        scores[best].tolist(), abs=1e-5
    )
    assert document["results"][0]["metadata"] == {
        "출처": f"page{best[0]}.html",
        "_node_content": "{}",
        "제목": "",
    }


def test_people_see_score_id_metadata_and_text(ask: Invoke) -> None:
    """Away from a terminal, each result is two lines, nothing of the text is cut."""
    lines = ask(TEXTS[4], "-k", "2").stdout.splitlines()
    assert len(lines) == 4
    score, id, metadata = lines[0].split("  ")
    assert 0.5 < float(score) <= 1
    assert (id, metadata) == ("문서-4", "출처=page4.html")
    assert lines[1] == " " * 8 + TEXTS[4]


def test_questions_come_line_by_line(ask: Invoke) -> None:
    """Without a query, or with -, each line of stdin is one; empty lines are none."""
    for dash in ([], ["-"]):
        result = ask(*dash, "-k", "1", stdin="겨울\n\n빵\n")
        lines = result.stdout.splitlines()
        assert lines[::3] == ["겨울", "빵"]
        assert len(lines) == 6
        documents = ask(*dash, "--json", stdin="겨울\n\n빵\n").stdout.splitlines()
        assert [json.loads(line)["query"] for line in documents] == ["겨울", "빵"]


@pytest.mark.parametrize("width", [30, 60, 100])
def test_results_fit_the_terminal(
    ask: Invoke, faq: Collection, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Hangul counts two cells: no line is too wide, and what is cut ends in an ellipsis."""
    monkeypatch.setattr(search, "terminal_width", lambda: width)
    faq.upsert(ids=["긴-문서" * 10], documents=["서울의 겨울은 춥고 건조하다. " * 40])
    shown = ask("서울의 겨울은 춥고 건조하다.", "-k", "1").stdout.splitlines()
    assert len(shown) == 3
    assert all(cell_len(line) <= width for line in shown)
    assert shown[-1].endswith("…")


def test_stored_texts_cannot_drive_the_terminal(ask: Invoke, faq: Collection) -> None:
    """Escape sequences and line breaks of a document are not passed on."""
    faq.upsert(ids=["나쁜\n글"], documents=["\x1b[2J빨강\r\n\x07색"])
    shown = ask("빨강 색", "-k", "6").stdout
    assert "나쁜 글" in shown
    assert "[2J빨강 색" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_the_model_is_the_collections(koe5: Koe5, persist_dir: Path, static_model: Path) -> None:
    """A new process takes the model from the collection and needs no torch."""
    place = ("--persist-dir", persist_dir, "--collection", "faq")
    done = koe5("search", *place, "--json", QUESTION, without=("torch", "transformers"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(json.loads(done.stdout)["results"]) == 5


def test_a_model_that_moved_is_found_again(
    invoke: Invoke, tmp_path: Path, static_model: Path
) -> None:
    """The error for a missing model folder says what to do, and doing it works."""
    old, new = tmp_path / "old-model", tmp_path / "new-model"
    shutil.copytree(static_model, old)
    client = chromadb.PersistentClient(tmp_path / "moved")
    collection = open_collection(
        client, "docs", KoE5EmbeddingFunction(old, passage_prompt="문서: ")
    )
    collection.add(ids=["1"], documents=["겨울"])
    old.rename(new)
    place = ("search", "--persist-dir", tmp_path / "moved", "--collection", "docs")
    result = invoke(*place, "겨울")
    assert result.exit_code == 2
    assert "say with --model where it is now" in result.stderr
    assert invoke(*place, "--model", new, "겨울").exit_code == 0


def test_another_model_is_refused(ask: Invoke, tmp_path: Path) -> None:
    """A model with other weights is refused with both sides shown."""
    result = ask("--model", make_static(tmp_path / "other", seed=1), "겨울")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "was embedded with" in result.stderr
    assert "weights:" in result.stderr


def test_a_missing_collection_lists_those_there(ask: Invoke, persist_dir: Path) -> None:
    """A mistyped name is answered with the right ones, and is not created."""
    result = ask("겨울", collection="fag")
    assert result.exit_code == 2
    assert "has no collection 'fag'; its collections: 'faq', 'others'" in result.stderr
    client = chromadb.PersistentClient(persist_dir)
    assert sorted(c.name for c in client.list_collections()) == ["faq", "others"]


def test_a_collection_of_unknown_vectors_is_refused(ask: Invoke) -> None:
    """A collection that doesn't say how it was embedded is not searched."""
    result = ask("겨울", collection="others")
    assert result.exit_code == 2
    assert "doesn't say which model" in result.stderr
    assert "open_collection()" in result.stderr


def test_a_folder_without_a_database_stays_as_it_is(invoke: Invoke, tmp_path: Path) -> None:
    """Searching where nothing is creates nothing."""
    place = ("search", "--collection", "faq", "겨울", "--persist-dir")
    assert "holds no Chroma database" in invoke(*place, tmp_path).stderr
    assert list(tmp_path.iterdir()) == []
    result = invoke(*place, tmp_path / "nowhere")
    assert result.exit_code == 2
    assert not (tmp_path / "nowhere").exists()


def test_a_broken_database_is_one_message(koe5: Koe5, tmp_path: Path) -> None:
    """A file that is no database is told in a line, not in a traceback."""
    (tmp_path / "chroma.sqlite3").write_text("no database at all", encoding="utf-8")
    done = koe5("search", "--persist-dir", tmp_path, "--collection", "faq", "겨울")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path} can't be read by Chroma")
    assert "Traceback" not in done.stderr


def test_a_bad_question_is_named(ask: Invoke) -> None:
    """What can't be asked is told in the reader's terms."""
    result = ask("  ")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: the query has nothing to embed")
    result = ask("--json", stdin="겨울\n\u3164\n")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: stdin:2 has nothing to embed")
    assert len(result.stdout.splitlines()) == 1


def test_a_prefixed_question_is_warned_of(ask: Invoke) -> None:
    """A question that brings its own prefix is searched, with a warning on stderr."""
    result = ask("query: 겨울", "--json")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: the query starts with a prefix")
    assert json.loads(result.stdout)["query"] == "query: 겨울"


def test_an_empty_collection_has_no_results(
    invoke: Invoke, tmp_path: Path, static_model: Path
) -> None:
    """Nothing stored is nothing found, and no error."""
    client = chromadb.PersistentClient(tmp_path)
    open_collection(client, "empty", KoE5EmbeddingFunction(static_model))
    place = ("search", "--persist-dir", tmp_path, "--collection", "empty", "겨울")
    result = invoke(*place)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "is empty" in result.stderr
    assert json.loads(invoke(*place, "--json").stdout)["results"] == []


def test_texts_need_not_be_stored(invoke: Invoke, tmp_path: Path, static_model: Path) -> None:
    """A collection of bare vectors is searched, and its texts are null."""
    client = chromadb.PersistentClient(tmp_path)
    collection = open_collection(client, "bare", KoE5EmbeddingFunction(static_model))
    vectors = KoE5Encoder(static_model).encode_passages(["겨울"])
    collection.add(ids=["1"], embeddings=vectors)
    place = ("search", "--persist-dir", tmp_path, "--collection", "bare", "겨울")
    (found,) = json.loads(invoke(*place, "--json").stdout)["results"]
    assert (found["text"], found["metadata"]) == (None, {})
    assert "(no text is stored)" in invoke(*place).stdout
