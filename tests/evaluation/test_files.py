"""Tests of koe5_integrations.evaluation.files."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from evaluated import CORPUS, QRELS, result_of, small_dataset, system_result
from hypothesis import given
from hypothesis import strategies as st

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.datasets import read_trec_run
from koe5_integrations.evaluation.files import (
    check_folder,
    write_files,
    write_whole,
)
from koe5_integrations.evaluation.names import slug
from koe5_integrations.evaluation.results import EvalResult, Hit
from koe5_integrations.evaluation.run_file import trec_lines


@pytest.fixture
def result() -> EvalResult:
    values = {"ndcg@1": [1.0, 0.0, 0.5], "ndcg@10": [1.0, 0.5, 0.6]}
    facts = {"fingerprint": "0123abcd"}
    return result_of(
        system_result("bm25:bigram", values), system_result("dense:a/b", values, facts=facts)
    )


def test_every_output_is_written(result: EvalResult, tmp_path: Path) -> None:
    """The folder holds what the issue names, and nothing temporary."""
    written = write_files(result, small_dataset(), tmp_path / "out")
    found = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == set(written)
    names = {str(path.relative_to(tmp_path / "out")) for path in found}
    dense = slug("dense:a/b")
    assert names >= {
        "metrics.json",
        "details.json",
        "baseline.json",
        "per_query.jsonl",
        "report.md",
        "report.html",
        "runs/bm25-bigram/run.trec",
        f"runs/{dense}/run.trec",
        f"mteb/results/koe5-integrations__{dense}/0123abcd/작은_모음.json",
        "mteb/results/koe5-integrations__bm25-bigram/no_revision_available/작은_모음.json",
    }


def test_metrics_json_is_as_promised(result: EvalResult, tmp_path: Path) -> None:
    """Systems by spec, measures by name, and the manifest; nothing else at the top."""
    write_files(result, small_dataset(), tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert list(metrics) == ["systems", "manifest"]
    assert list(metrics["systems"]) == ["bm25:bigram", "dense:a/b"]
    assert metrics["systems"]["bm25:bigram"]["ndcg@1"] == {
        "value": 0.5,
        "ci": [0.0, 1.0],
        "n": 3,
        "hits": 2,
    }
    assert metrics["manifest"] == result.manifest


def test_per_query_has_what_one_looks_for(result: EvalResult, tmp_path: Path) -> None:
    """A line per query: the question, the expected, and what each system found and was worth."""
    write_files(result, small_dataset(), tmp_path)
    lines = (tmp_path / "per_query.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["query_id"] for row in rows] == list(QRELS)
    assert rows[2]["expected"] == {"100%": 1}
    assert rows[2]["systems"]["dense:a/b"] == {
        "measures": {"ndcg@1": 0.5, "ndcg@10": 0.6},
        "retrieved": list(CORPUS),
    }


def test_a_run_without_scores_keeps_its_order(result: EvalResult, tmp_path: Path) -> None:
    """run.trec holds falling scores and ids that have no space left in them."""
    write_files(result, small_dataset(), tmp_path)
    file = tmp_path / "runs/bm25-bigram/run.trec"
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert first.endswith("%201 1 4.0 bm25:bigram")
    assert len(first.split()) == 6
    assert {q: [hit.doc_id for hit in hits] for q, hits in read_trec_run(file).items()} == {
        query_id: list(CORPUS) for query_id in QRELS
    }


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.lists(
            st.tuples(
                st.text(max_size=8),
                st.none() | st.floats(allow_nan=True, allow_infinity=True),
            ),
            max_size=6,
        ),
        max_size=4,
    )
)
def test_ids_and_order_survive_trec(run: dict[str, list[tuple[str, float | None]]]) -> None:
    """Any id comes back as it was, in order, repeats left out, whatever the scores are."""
    hits = {query_id: [Hit(*hit) for hit in found] for query_id, found in run.items()}
    system = system_result("dense:무엇 이든", {}, run=hits)
    lines = list(trec_lines(system))
    assert all(len(line.split()) == 6 for line in lines)
    expected = {
        query_id: list(dict.fromkeys(hit.doc_id for hit in found if hit.doc_id))
        for query_id, found in hits.items()
        if any(hit.doc_id for hit in found)
    }
    if not expected:
        assert lines == []
        return
    with TemporaryDirectory() as folder:
        file = Path(folder) / "run.trec"
        file.write_text("".join(lines), encoding="utf-8")
        back = read_trec_run(file)
    assert {query_id: [hit.doc_id for hit in found] for query_id, found in back.items()} == expected
    for found in back.values():
        scores = [hit.score for hit in found if hit.score is not None]
        assert scores == sorted(scores, reverse=True)
        assert len(set(scores)) == len(scores)


def test_other_tools_see_our_ranking(result: EvalResult, tmp_path: Path) -> None:
    """trec_eval reads run.trec and ranks as we did, tied scores included."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    tied = {"q": [Hit("b", 1.0), Hit("c", 1.0), Hit("a", 1.0)]}
    lines = "".join(trec_lines(system_result("s", {}, run=tied)))
    run = pytrec_eval.parse_run(lines.splitlines())
    scores = pytrec_eval.RelevanceEvaluator({"q": {"c": 1}}, {"recip_rank"}).evaluate(run)
    assert scores["q"]["recip_rank"] == 0.5


def test_mteb_reads_its_files(result: EvalResult, tmp_path: Path) -> None:
    """The cache of mteb finds the results, the model and the main score."""
    mteb = pytest.importorskip("mteb")
    write_files(result, small_dataset(), tmp_path)
    cache = mteb.ResultCache(tmp_path / "mteb")
    found = cache.load_results(include_remote=False, require_model_meta=True)
    scores = {model.model_name: model.task_results for model in found.model_results}
    assert set(scores) == {
        "koe5-integrations/bm25-bigram",
        f"koe5-integrations/{slug('dense:a/b')}",
    }
    (task,) = scores["koe5-integrations/bm25-bigram"]
    assert task.task_name == "작은_모음"
    assert task.scores["test"][0]["main_score"] == pytest.approx(0.7)


def test_a_failure_changes_nothing(result: EvalResult, tmp_path: Path) -> None:
    """An error on the way leaves no file, no temporary one, and no folder that was not there."""

    def fails() -> Iterator[str]:
        yield "half"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "new" / "out", {"a/b.txt": ["whole"], "c.txt": fails()})
    assert not (tmp_path / "new" / "out").exists()
    (tmp_path / "c.txt").write_text("before", encoding="utf-8")
    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path, {"b.txt": ["whole"], "c.txt": fails()})
    assert (tmp_path / "c.txt").read_text(encoding="utf-8") == "before"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "c.txt"]


def test_systems_of_an_earlier_run_go(result: EvalResult, tmp_path: Path) -> None:
    """A folder written again holds the new systems only, and a user's own file stays."""
    write_files(result, small_dataset(), tmp_path)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    write_files(result_of(*list(result.systems.values())[:1]), small_dataset(), tmp_path)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["bm25-bigram"]
    assert len(list((tmp_path / "mteb/results").iterdir())) == 1
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (["bm25:bigram"], ["bm25-bigram"]),
        (["dense:koe5-mini", "dense-koe5-mini"], ["dense-koe5-mini"]),
    ],
)
def test_plain_names_stay_readable(specs: list[str], expected: list[str]) -> None:
    """A spec of ordinary characters gives its folder's name."""
    assert slug(specs[0]) == expected[0]


@given(st.sets(st.text(max_size=120), min_size=2, max_size=5))
def test_slugs_are_distinct_and_safe(specs: set[str]) -> None:
    """Different systems never share a folder, whatever they are called."""
    slugs = {slug(spec) for spec in specs}
    assert len({name.casefold() for name in slugs}) == len(specs)
    allowed = set(string.ascii_letters + string.digits + "._-")
    assert all(set(name) <= allowed and name.strip(".") and len(name) <= 90 for name in slugs)


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    """Results are not strewn among files that are not ours."""
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(ConfigError, match="empty folder"):
        check_folder(tmp_path)
    with pytest.raises(ConfigError, match="not a folder"):
        check_folder(tmp_path / "thesis.docx")
    with pytest.raises(ConfigError, match="not a folder"):
        check_folder(tmp_path / "thesis.docx" / "out")
    check_folder(tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists()


def test_a_folder_of_results_may_be_written_again(result: EvalResult, tmp_path: Path) -> None:
    """Evaluating again into the same folder is allowed."""
    write_files(result, small_dataset(), tmp_path)
    check_folder(tmp_path)
