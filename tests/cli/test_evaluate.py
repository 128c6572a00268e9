"""``koe5 evaluate``: the verdict, its files, its gates and their exit codes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

pytest.importorskip("bm25s")

from koe5_integrations.cli import evaluate as command
from koe5_integrations.evaluation import load_dataset
from koe5_integrations.evaluation.ablations import ABLATIONS
from koe5_integrations.evaluation.harness import LEXICAL_FLOOR, TRUNCATION

Invoke = Callable[..., Result]
Koe5 = Callable[..., "subprocess.CompletedProcess[str]"]

QUICK = ("--latency-queries", "0")


@pytest.fixture
def my_data(tmp_path: Path) -> Path:
    """A user's BEIR folder: forty questions of the shipped set."""
    data = load_dataset("python_faq_ko")
    folder = tmp_path / "내 문서"
    folder.mkdir()

    def lines(name: str, texts: dict[str, str]) -> None:
        rows = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")

    asked = list(data.qrels)[:40]
    lines("corpus.jsonl", dict(data.corpus))
    lines("queries.jsonl", {query_id: data.queries[query_id] for query_id in asked})
    judged = [f"{q}\t{d}\t{v}" for q in asked for d, v in data.qrels[q].items()]
    header = "query-id\tcorpus-id\tscore"
    (folder / "qrels.tsv").write_text("\n".join([header, *judged]) + "\n", encoding="utf-8")
    return folder


def test_a_verdict_on_my_documents(koe5: Koe5, my_data: Path, tmp_path: Path) -> None:
    """One command in a new process prints the table and writes every output."""
    out = tmp_path / "out"
    done = koe5(
        "evaluate", "--dataset", my_data, "--system", "dense:koe5-mini", "--out", out, "--top-k", 20
    )
    assert done.returncode == 0, done.stderr
    for part in ("내 문서: 40 queries, 136 documents", "dense:koe5-mini", "bm25:bigram", "nDCG@10"):
        assert part in done.stdout
    assert "few: one query more or less right moves a rate by 0.025" in done.stdout
    assert done.stderr == f"written to {out}: report.html, report.md, metrics.json and more\n"
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert list(metrics["systems"]) == ["dense:koe5-mini", "bm25:bigram"]
    assert set(metrics["systems"]["bm25:bigram"]["ndcg@10"]) == {"value", "ci", "n", "hits"}
    assert metrics["manifest"]["command"].startswith("koe5 evaluate --dataset")
    assert (out / "report.html").stat().st_size > 1000


def test_thresholds_decide_the_exit_code(invoke: Invoke, my_data: Path, tmp_path: Path) -> None:
    """A threshold that is not reached ends with 3, after everything was written."""
    place = ("evaluate", "--dataset", my_data, "--system", "bm25:bigram", *QUICK)
    passed = invoke(*place, "--fail-under", "ndcg@10=0.5", "--fail-under", "recall@7=0.5")
    assert passed.exit_code == 0, passed.stderr
    assert passed.stdout.count("passed: bm25:bigram: ") == 2
    failed = invoke(*place, "--fail-under", "ndcg@10=0.99", "--out", tmp_path / "out", "--quiet")
    assert failed.exit_code == 3
    assert failed.stdout.startswith("FAILED: bm25:bigram: ndcg@10 0.")
    assert (tmp_path / "out/metrics.json").is_file()


def test_a_regression_decides_the_exit_code(invoke: Invoke, my_data: Path, tmp_path: Path) -> None:
    """A system significantly worse than in the earlier run ends with 3; the same one with 0."""
    before = tmp_path / "before"
    place = ("evaluate", "--dataset", my_data, "--system", "bm25:bigram", *QUICK)
    assert invoke(*place, "--out", before).exit_code == 0
    same = invoke(*place, "--no-regression", before)
    assert same.exit_code == 0
    assert "passed: bm25:bigram: ndcg@10" in same.stdout
    good = json.loads((before / "baseline.json").read_text(encoding="utf-8"))
    values = good["per_query"]["bm25:bigram"]["ndcg@10"]
    good["per_query"]["bm25:bigram"]["ndcg@10"] = dict.fromkeys(values, 1.0)
    better = tmp_path / "baseline.json"
    better.write_text(json.dumps(good), encoding="utf-8")
    worse = invoke(*place, "--no-regression", better)
    assert worse.exit_code == 3
    assert "FAILED: bm25:bigram: ndcg@10 1.0000 before" in worse.stdout


def test_the_results_may_replace_their_own_baseline(
    invoke: Invoke, my_data: Path, tmp_path: Path
) -> None:
    """The folder of the earlier run can be the folder of this one."""
    place = ("evaluate", "--dataset", my_data, "--system", "bm25:bigram", *QUICK)
    place += ("--out", tmp_path / "out")
    assert invoke(*place).exit_code == 0
    assert invoke(*place, "--no-regression", tmp_path / "out").exit_code == 0


def test_other_questions_than_the_baselines_are_an_error(
    invoke: Invoke, my_data: Path, tmp_path: Path
) -> None:
    """Runs that can't be paired end with 2, and with what to do."""
    system = ("--system", "bm25:bigram", *QUICK)
    before = tmp_path / "before"
    invoke("evaluate", "--dataset", "python_faq_ko", *system, "--out", before)
    result = invoke("evaluate", "--dataset", my_data, *system, "--no-regression", before)
    assert result.exit_code == 2
    assert "error: --no-regression" in result.stderr or "no_regression" in result.stderr
    assert "95 only there" in result.stderr


def test_ablations_are_beside_their_system(invoke: Invoke, my_data: Path) -> None:
    """Each variant is shown with its change from the system itself."""
    result = invoke(
        "evaluate", "--dataset", my_data, "--system", "bm25:whitespace", "--no-lexical-floor",
        "--ablation", "spacing", "--ablation", "truncation", *QUICK,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "bm25:whitespace[spaces=none]" in result.stdout
    assert "bm25:bigram" not in result.stdout


def test_several_sets_have_a_folder_each(invoke: Invoke, my_data: Path, tmp_path: Path) -> None:
    """Two data sets are two results, and KoE5's table over both."""
    out = tmp_path / "out"
    result = invoke(
        "evaluate", "--dataset", "python_faq_ko", "--dataset", my_data, "--system", "bm25:bigram",
        "--out", out, *QUICK,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert sorted(path.parent.name for path in out.glob("*/metrics.json"))[1] == "python_faq_ko"
    table = (out / "seed_table.md").read_text(encoding="utf-8")
    assert "Average NDCG@1" in table


def test_a_users_own_retriever(
    koe5: Koe5, my_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``python:module:attribute`` asks a LangChain retriever of the current directory."""
    pytest.importorskip("langchain_core")
    (tmp_path / "my_search.py").write_text(
        "from langchain_core.documents import Document\n"
        "from langchain_core.runnables import RunnableLambda\n"
        "def retriever(corpus):\n"
        "    def ask(query):\n"
        "        shared = lambda text: len(set(text) & set(query))\n"
        "        best = sorted(corpus, key=lambda key: -shared(corpus[key]))[:10]\n"
        "        return [Document(corpus[key], id=key) for key in best]\n"
        "    return RunnableLambda(ask)\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    spec = "python:my_search:retriever"
    done = koe5("evaluate", "--dataset", my_data, "--system", spec, "--out", "out", *QUICK)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out/metrics.json").read_text(encoding="utf-8"))
    assert metrics["systems"][spec]["success@10"]["n"] == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--system", "bm25:bigram"], "--dataset is missing"),
        (["--dataset", "python_faq_ko"], "--system is missing"),
        (["--dataset", "no-such-set", "--system", "bm25:bigram"], "no-such-set"),
        (["--dataset", "python_faq_ko", "--system", "bm26:x"], "bm26:x"),
        (["--dataset", "python_faq_ko", "--system", "dense:no/such"], "no/such"),
        (["--dataset", "python_faq_ko", "--system", "bm25:bigram", "--measure", "ndgc@1"], "ndgc"),
        (
            ["--dataset", "python_faq_ko", "--system", "bm25:bigram", "--fail-under", "ndcg=1"],
            "ndcg",
        ),
        (
            ["--dataset", "python_faq_ko", "--system", "bm25:char", "--fail-under", "x:mrr@1=1"],
            "'x', which is not evaluated",
        ),
        (
            ["--dataset", "python_faq_ko", "--system", "bm25:char", "--no-regression", "gone"],
            "there is no file gone",
        ),
    ],
)
def test_what_cannot_be_done_ends_with_2(
    invoke: Invoke, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """A mistake is one line that names it, before anything is run or written."""
    result = invoke("evaluate", *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_broken_file_is_named_with_its_line(invoke: Invoke, my_data: Path) -> None:
    """A malformed line of the user's data ends with 2, its file and its number."""
    with (my_data / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write("{not json\n")
    result = invoke("evaluate", "--dataset", my_data, "--system", "bm25:bigram")
    assert result.exit_code == 2
    assert "corpus.jsonl, line 137" in result.stderr


def test_a_folder_of_other_files_is_left_alone(invoke: Invoke, my_data: Path) -> None:
    """Results are not written among the user's own files."""
    before = sorted(my_data.iterdir())
    result = invoke("evaluate", "--dataset", my_data, "--system", "bm25:bigram", "--out", my_data)
    assert result.exit_code == 2
    assert "choose an empty folder" in result.stderr
    assert sorted(my_data.iterdir()) == before


def test_a_cache_computes_only_what_is_new(
    invoke: Invoke, my_data: Path, tmp_path: Path, static_model: Path
) -> None:
    """The second evaluation with --cache-dir embeds no document again."""
    place = ("evaluate", "--dataset", my_data, "--system", f"dense:{static_model}", *QUICK)
    place += ("--cache-dir", tmp_path / "cache", "--out", tmp_path / "out")
    embedded = []
    for _ in range(2):
        assert invoke(*place).exit_code == 0
        details = json.loads((tmp_path / "out/details.json").read_text(encoding="utf-8"))
        embedded.append(details["systems"][f"dense:{static_model}"]["index"]["embedded"])
    assert embedded == [136, 0]


def test_choices_are_the_packages() -> None:
    """The command's ablations and its floor are those of the package, all of them."""
    assert [each.value for each in command.Ablation] == [*ABLATIONS, TRUNCATION]
    assert command._FLOOR == LEXICAL_FLOOR


def test_exit_codes_are_in_the_help(invoke: Invoke) -> None:
    """Whoever writes a pipeline finds what 3 means."""
    shown = " ".join(invoke("evaluate", "--help").stdout.split())
    assert "3 done and written, but a gate" in shown


def test_a_missing_extra_is_named(koe5: Koe5, my_data: Path) -> None:
    """Without bm25s the error says what to install."""
    done = koe5("evaluate", "--dataset", my_data, "--system", "bm25:bigram", without=("bm25s",))
    assert done.returncode == 2
    assert 'pip install "koe5-integrations[eval]"' in done.stderr


def test_replay_alone_shows_what_is_published(invoke: Invoke) -> None:
    """KoE5's published figures, and the right value beside the one that is known to be bad."""
    result = invoke("evaluate", "--replay")
    assert result.exit_code == 0, result.stderr
    (bad,) = [line for line in result.stdout.splitlines() if "known-bad [2]  " in line][:1]
    assert bad.split()[:4] == ["AutoRAG", "ndcg@3", "47.57", "80.46"]
    assert "47.57* (80.46)" in result.stdout


def test_replay_compares_cell_by_cell(invoke: Invoke, tmp_path: Path, shared_data: Path) -> None:
    """What was measured stands beside the published value, and in replay.md."""
    result = invoke(
        "evaluate", "--dataset", "autorag", "--data-dir", shared_data, "--system",
        "dense:koe5-mini", "--replay-as", "nlpai-lab/KoE5", "--out", tmp_path / "out", *QUICK,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "dense:koe5-mini beside what is published of nlpai-lab/KoE5" in result.stdout
    written = (tmp_path / "out/replay.md").read_text(encoding="utf-8")
    assert "| different" in written
    assert "known-bad" in written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--replay", "--dataset", "python_faq_ko", "--system", "dense:koe5-mini"], "--replay-as"),
        (["--replay-as", "who/what", "--dataset", "python_faq_ko", "--system", "x:y"], "who/what"),
        (["--sts", "korsts", "--system", "bm25:bigram"], "--system dense:MODEL"),
    ],
)
def test_tables_that_cannot_be_made_end_with_2(
    invoke: Invoke, arguments: list[str], message: str
) -> None:
    """A table with nothing to compare is refused before anything is run."""
    result = invoke("evaluate", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_sts_in_the_seeds_form(invoke: Invoke, tmp_path: Path) -> None:
    """Sentence pairs need no data set; cut dimensions are a row of their own."""
    pairs = tmp_path / "my-pairs.tsv"
    head = "genre\tfilename\tyear\tid\tscore\tsentence1\tsentence2"
    sentences = ["비가 온다", "비가 내린다", "빵을 굽는다", "빵을 만든다", "길을 걷는다"]
    rows = [
        f"main\tx\t2012\t{i}\t{score}\t{sentences[i]}\t{sentences[i + 1]}"
        for i, score in enumerate((4.5, 0.2, 4.0, 0.1))
    ]
    pairs.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    out = tmp_path / "out"
    place = ("--system", "dense:koe5-mini", "--sts-dim", "64", "--out", out)
    result = invoke("evaluate", "--sts", pairs, *place)
    assert result.exit_code == 0, result.stderr
    assert "my-pairs: 4 pairs" in result.stdout or "4 pairs" in result.stdout
    (written,) = out.glob("sts_*.json")
    rows_written = json.loads(written.read_text(encoding="utf-8"))
    assert [row["dim"] for row in rows_written][1] == 64
    assert len(rows_written[0]["values"]) == 8
