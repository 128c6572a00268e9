"""The examples as their users run them: as processes, from any folder, without torch or network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("chromadb")
pytest.importorskip("langchain_chroma")
pytest.importorskip("llama_index.vector_stores.chroma")

from example_runs import (
    EXAMPLES,
    FOUND,
    QUESTIONS,
    SCRIPTS,
    STRINGS,
    Examples,
    Filled,
    Ran,
    collection_in,
    fill,
)

from koe5_integrations.chroma import KoE5EmbeddingFunction
from koe5_integrations.evaluation.datasets import load_dataset

BOTH = pytest.mark.parametrize("framework", list(SCRIPTS))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return Examples(tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def filled(run: Examples) -> dict[str, Filled]:
    """Each example's first run."""
    return fill(run)


def test_torch_is_really_forbidden(run: Examples, tmp_path: Path) -> None:
    """The environment of these tests can't import torch."""
    script = tmp_path / "script.py"
    script.write_text("import torch")
    assert "No module named 'torch'" in run(script).err


@BOTH
def test_first_run_embeds_the_whole_faq(filled: dict[str, Filled], framework: str) -> None:
    """The first run embeds all 136 passages, in a folder under the current one."""
    ran = filled[framework].first
    assert (ran.code, ran.err) == (0, "")
    assert "0 of 136 passages stored, embedding 136 passages" in ran.out
    assert filled[framework].folder.is_dir()


@BOTH
def test_says_that_the_bundled_model_is_used(filled: dict[str, Filled], framework: str) -> None:
    """With the bundled model, the output says so and how to switch to KoE5."""
    out = filled[framework].first.out
    assert "koe5-mini: the compact model that comes with the package" in out
    assert 'pip install "koe5-integrations[torch]"' in out
    assert "--model nlpai-lab/KoE5" in out


@BOTH
def test_right_passages_are_found(filled: dict[str, Filled], framework: str) -> None:
    """Each question read from the pipe finds its answer in the first five."""
    sections = filled[framework].first.out.split("\nQuestion: ")[1:]
    assert [section.splitlines()[0] for section in sections] == list(QUESTIONS)
    for section, (question, doc_id) in zip(sections, QUESTIONS.items(), strict=True):
        ids = [found[1] for found in FOUND.findall(section)]
        assert len(ids) == 5
        assert doc_id in ids, question


def test_both_frameworks_show_the_same(filled: dict[str, Filled]) -> None:
    """Scores are cosine similarities in either framework, so both show the same numbers."""
    langchain, llama_index = (filled[name].first.found for name in SCRIPTS)
    assert [found[1:] for found in langchain] == [found[1:] for found in llama_index]
    for one, other in zip(langchain, llama_index, strict=True):
        assert one[0] == pytest.approx(other[0], abs=2e-4)


def test_scores_are_cosine_similarities(filled: dict[str, Filled]) -> None:
    """A score is the dot product of the unit vectors of question and passage."""
    encoder = KoE5EmbeddingFunction("koe5-mini").encoder
    corpus = load_dataset("python_faq_ko").corpus
    found = filled["langchain"].first.found[:5]
    question = encoder.encode_queries([STRINGS])[0]
    passages = encoder.encode_passages([corpus[doc_id] for _, doc_id, _ in found])
    assert [score for score, _, _ in found] == pytest.approx(list(passages @ question), abs=1e-3)
    assert [score for score, _, _ in found] == sorted((s for s, _, _ in found), reverse=True)


def test_sources_are_pages_of_the_faq(filled: dict[str, Filled]) -> None:
    """Each passage is shown with the page it stands on."""
    sources = {doc_id: source for _, doc_id, source in filled["langchain"].first.found}
    assert sources["d2"] == "https://docs.python.org/ko/3/faq/design.html"
    assert all(s.startswith("https://docs.python.org/ko/3/faq/") for s in sources.values())


@BOTH
def test_second_run_embeds_nothing(
    run: Examples, filled: dict[str, Filled], framework: str
) -> None:
    """A second process embeds nothing, and shows the passages asked for and their prompt."""
    folder = filled[framework].folder
    ran = run(framework, "--query", STRINGS, "--top-k", "2", "--persist-dir", folder)
    assert (ran.code, ran.err) == (0, "")
    assert "136 of 136 passages stored, nothing to embed" in ran.out
    assert ran.found == filled[framework].first.found[:2]
    prompt = ran.out.partition("--- Prompt, system")[2]
    assert re.findall(r'^<passage id="(d\d+)" source="(\S+)">$', prompt, re.MULTILINE) == [
        found[1:] for found in ran.found
    ]
    assert f"<question>{STRINGS}</question>" in prompt
    with collection_in(folder, framework) as collection:
        assert collection.count() == 136


@BOTH
def test_only_what_is_missing_is_embedded(
    run: Examples, filled: dict[str, Filled], framework: str, tmp_path: Path
) -> None:
    """A collection that is short of passages, or holds an old text of one, is completed."""
    folder = Path(shutil.copytree(filled[framework].folder, tmp_path / "copy"))
    with collection_in(folder, framework) as collection:
        collection.delete(ids=[f"d{i}" for i in range(100, 136)])
        collection.update(ids=["d2"], documents=["an older text"])
    ran = run(framework, "--persist-dir", folder, "--query", STRINGS, "--top-k", "5")
    assert ran.code == 0
    assert "99 of 136 passages stored, embedding 37 passages" in ran.out
    assert ran.found == filled[framework].first.found[:5]
    with collection_in(folder, framework) as collection:
        assert collection.count() == 136


def test_asks_for_questions_at_a_terminal(run: Examples, filled: dict[str, Filled]) -> None:
    """At a terminal it asks in Korean until a line is empty, past a question it can't embed."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    args = [sys.executable, str(SCRIPTS["langchain"])]
    with subprocess.Popen(
        args,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=run.cwd,
        env=run.env,
    ) as process:
        os.close(theirs)
        os.write(ours, f"\u200b\n{STRINGS}\n\n".encode())
        out, err = process.communicate(timeout=60)
        os.close(ours)
    assert out.count("질문> ") == 3
    assert "빈 줄을 입력하면 끝납니다" in out
    ran = Ran(process.returncode, out, err)
    ran.refused(2, "texts[0]")
    assert ran.found == filled["langchain"].first.found[:3]


@pytest.mark.parametrize("script", [*SCRIPTS, EXAMPLES / "semantic_search.py"])
def test_help(run: Examples, script: str | Path) -> None:
    """Help tells what the example is, and of each option what it does."""
    ran = run(script, "--help")
    assert ran.code == 0
    assert "python " in ran.out
    options = re.findall(r"^  (?:-h, )?(--[a-z-]+)(?: [A-Z:]+)?(\s+\S.*)$", ran.out, re.MULTILINE)
    assert {"--model", "--query", "--top-k"} <= {name for name, _ in options}
    assert all(text.strip() for _, text in options)


# Refused


def test_another_model_is_refused(
    run: Examples, filled: dict[str, Filled], static_model: Path
) -> None:
    """A collection made with another model is refused in one message that says what to do."""
    ran = run("llama_index", "--persist-dir", filled["llama_index"].folder, "--model", static_model)
    ran.refused(2, "'koe5-mini'", str(static_model), "give another --persist-dir")


def test_unknown_model(run: Examples, tmp_path: Path) -> None:
    """A model nobody knows is an error that leaves no collection behind."""
    ran = run("langchain", "--persist-dir", tmp_path / "db", "--model", "nlpai-lab/KoE55")
    ran.refused(2, "did you mean 'nlpai-lab/KoE5'?")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--top-k", "0"], "--top-k: '0' must be a whole number, 1 or more"),
        (["--query", " "], "--query: the question is empty"),
        (["--llm", "gpt"], "--llm: 'gpt' must be provider:model"),
    ],
)
def test_bad_arguments(run: Examples, args: list[str], message: str) -> None:
    """An impossible argument is refused by its name, before anything is opened."""
    ran = run("langchain", *args, "--persist-dir", "never_made")
    assert ran.code == 2
    assert message in ran.err.splitlines()[-1]
    assert not (run.cwd / "never_made").exists()


def test_unwritable_folder(run: Examples, tmp_path: Path) -> None:
    """A folder that can't be written is named in the error."""
    (tmp_path / "file").touch()
    ran = run("langchain", "--persist-dir", tmp_path / "file" / "db")
    ran.refused(2, "--persist-dir", "can't be written")


def test_broken_database(run: Examples, tmp_path: Path) -> None:
    """A folder whose database is damaged is an error, not a traceback."""
    (tmp_path / "chroma.sqlite3").write_text("not a database" * 1000)
    run("langchain", "--persist-dir", tmp_path).refused(2, "not a database")


@pytest.mark.parametrize(
    ("framework", "missing"),
    [("langchain", "chromadb"), ("langchain", "langchain_chroma"), ("llama_index", "llama_index")],
)
def test_missing_extra(run: Examples, framework: str, missing: str) -> None:
    """Without an optional dependency, the message holds the pip line."""
    ran = run(framework, "--help", FORBIDDEN=missing)
    assert ran.code == 2
    assert "Traceback" not in ran.err
    assert 'pip install "koe5-integrations[rag]"' in ran.err
