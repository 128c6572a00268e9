"""Tests of koe5_integrations.evaluation.harness."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from evaluated import CORPUS, QRELS, QUERIES, SharedWords, small_dataset

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError, KoE5Error
from koe5_integrations.evaluation import RetrievalDataset, evaluate, load_dataset, score
from koe5_integrations.evaluation.datasets import read_trec_run
from koe5_integrations.evaluation.results import Run


def run_small(*systems: Any, **options: Any) -> Any:
    return evaluate(small_dataset(), list(systems), **{"lexical_floor": False} | options)


def test_a_system_is_indexed_searched_and_scored() -> None:
    """What the system ranks is what is measured, with cost beside it."""
    system = SharedWords()
    result = run_small(system, top_k=3, latency_queries=2)
    found = result.systems["words"]
    assert system.indexed == 1
    assert found.measures == score(QRELS, found.run, list(found.measures))
    assert found.measures["ndcg@1"].value == 1.0
    assert found.measures["ndcg@1"].hits == 3
    assert set(found.per_query["ndcg@3"]) == set(QRELS)
    assert all(len(hits) == 3 for hits in found.run.values())
    assert len(found.latencies) == 2
    assert found.queries_per_second is not None
    assert found.index.bytes == sum(map(len, CORPUS.values()))
    assert found.facts == {"reverse": False}


def test_measures_look_no_deeper_than_is_retrieved() -> None:
    """With top_k=3 nothing is claimed of rank 10; asking for it is an error."""
    result = run_small(SharedWords(), top_k=3, latency_queries=0)
    assert {name.rpartition("@")[2] for name in result.systems["words"].measures} == {"1", "3"}
    with pytest.raises(ConfigError, match="'ndcg@10' looks at 10 documents, but top_k=3"):
        run_small(SharedWords(), top_k=3, measures=["ndcg@1", "ndcg@10"])


def test_the_lexical_floor_is_in_every_report() -> None:
    """Bigram BM25 is measured beside what was given, once, unless switched off."""
    data = small_dataset()
    beside = evaluate(data, SharedWords(), latency_queries=0)
    assert list(beside.systems) == ["words", "bm25:bigram"]
    assert list(evaluate(data, "bm25:bigram", latency_queries=0).systems) == ["bm25:bigram"]


def test_every_pair_is_compared_on_the_headline_measures() -> None:
    """Two systems give a comparison and a smallest gap per headline measure."""
    result = run_small(SharedWords(), SharedWords("reversed", reverse=True), latency_queries=0)
    compared = [(found.measure, found.better, found.worse) for found in result.comparisons]
    assert compared[0] == ("ndcg@10", "words", "reversed")
    assert [measure for measure, *_ in compared] == ["ndcg@10", "recall@10", "mrr@10", "success@1"]
    assert set(result.smallest_gap) == {measure for measure, *_ in compared}


def test_only_judged_queries_are_asked() -> None:
    """A question nobody judged costs nothing and counts nowhere."""
    data = RetrievalDataset("x", CORPUS, QUERIES | {"q9": "판정 없는 질문"}, QRELS)
    system = SharedWords()
    result = evaluate(data, system, lexical_floor=False, latency_queries=0)
    assert set(system.searched) == set(QRELS)
    assert result.systems["words"].measures["ndcg@1"].n == 3


def test_an_encoder_is_a_dense_system(static_model: Path) -> None:
    """A KoE5Encoder is searched exactly, and its fingerprint is in the facts."""
    encoder = KoE5Encoder(static_model)
    (result,) = run_small(encoder, latency_queries=0).systems.values()
    assert result.spec == f"dense:{encoder.model}"
    assert result.facts["fingerprint"] == encoder.fingerprint.digest


def test_the_manifest_has_every_fingerprint(static_model: Path) -> None:
    """What each system says of itself stands in the manifest, under its name."""
    result = run_small(KoE5Encoder(static_model), latency_queries=0)
    (facts,) = result.manifest["systems"].values()
    assert facts["fingerprint"] == KoE5Encoder(static_model).fingerprint.digest


def test_systems_can_be_named() -> None:
    """A mapping gives systems the names of the report."""
    result = evaluate(
        small_dataset(),
        {"mine": SharedWords(), "theirs": SharedWords(reverse=True), "floor": "bm25:bigram"},
        latency_queries=0,
        lexical_floor=False,
    )
    assert list(result.systems) == ["mine", "theirs", "floor"]


@pytest.mark.parametrize(
    ("systems", "options", "message"),
    [
        ([], {}, r"systems=\[\]"),
        ([SharedWords(), SharedWords()], {}, "two systems are called 'words'"),
        ([42], {}, "42|int"),
        (["bm26:bigram"], {}, "bm26"),
        ([SharedWords()], {"measures": ["ndgc@10"]}, "ndgc"),
        ([SharedWords()], {"measures": []}, "measures nothing"),
        ([SharedWords()], {"top_k": 0}, "top_k=0"),
        ([SharedWords()], {"latency_queries": -1}, "latency_queries=-1"),
        ([SharedWords()], {"ablations": ["upside-down"]}, "upside-down"),
    ],
)
def test_the_impossible_is_refused_before_anything_runs(
    systems: list[Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """A bad argument is one error, and no folder is made."""
    with pytest.raises(KoE5Error, match=message):
        run_small(*systems, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


class Breaks(SharedWords):
    """Fails as a retriever does whose server is down."""

    def search(self, queries: Mapping[str, str], top_k: int) -> Run:
        raise ConnectionError("the server is down")


def test_an_interrupted_evaluation_goes_on(tmp_path: Path) -> None:
    """What was finished is not run again; results appear when all is done, and nothing is left."""
    out = tmp_path / "out"
    first = SharedWords()
    with pytest.raises(ConnectionError):
        run_small(first, Breaks("second"), out=out)
    assert [path.name for path in out.iterdir()] == [".unfinished"]
    again, second = SharedWords(), SharedWords("second", reverse=True)
    result = run_small(again, second, out=out)
    assert (first.indexed, again.indexed, second.indexed) == (1, 0, 1)
    assert list(result.systems) == ["words", "second"]
    assert not (out / ".unfinished").exists()
    assert read_trec_run(out / "runs/words/run.trec").keys() == QRELS.keys()


def test_a_resumed_system_scores_the_same(tmp_path: Path) -> None:
    """Measures, runs and warnings of a resumed system are those of the run that finished it."""
    out = tmp_path / "out"
    with pytest.raises(ConnectionError):
        run_small(SharedWords(), Breaks("second"), out=out, latency_queries=0)
    resumed = run_small(SharedWords(), out=out, latency_queries=0).systems["words"]
    fresh = run_small(SharedWords(), latency_queries=0).systems["words"]
    assert resumed.measures == fresh.measures
    assert resumed.per_query == fresh.per_query
    assert resumed.run == fresh.run


def test_other_settings_do_not_resume(tmp_path: Path) -> None:
    """A system asked for more documents, or with other facts, is run again."""
    out = tmp_path / "out"
    for change in ({"top_k": 2}, {"top_k": 3}):
        system = SharedWords()
        with pytest.raises(ConnectionError):
            run_small(system, Breaks("second"), out=out, **change)
        assert system.indexed == 1


def test_a_finished_evaluation_is_run_anew(tmp_path: Path) -> None:
    """Results that are there are replaced, not repeated: a retriever may have changed."""
    for _ in range(2):
        system = SharedWords()
        run_small(system, out=tmp_path / "out")
        assert system.indexed == 1


def test_equal_evaluations_write_equal_numbers(tmp_path: Path) -> None:
    """Nothing but the date differs between two runs' metrics.json and baseline.json."""
    written = []
    for name in ("a", "b"):
        run_small(SharedWords(), SharedWords("r", reverse=True), out=tmp_path / name)
        metrics = json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8"))
        del metrics["manifest"]["created"]
        written.append((metrics, (tmp_path / name / "baseline.json").read_bytes()))
    assert written[0] == written[1]


def test_the_lexical_floor_is_the_published_one() -> None:
    """Bigram BM25 reaches .702 nDCG@10 on the shipped questions, whitespace .521."""
    result = evaluate("python_faq_ko", ["bm25:whitespace"], latency_queries=0)
    value = {spec: system.measures["ndcg@10"].value for spec, system in result.systems.items()}
    assert value["bm25:bigram"] == pytest.approx(0.702, abs=0.005)
    assert value["bm25:whitespace"] == pytest.approx(0.521, abs=0.005)


def test_progress_is_drawn_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Bars are drawn when asked for, and the answers stay the same."""
    shown = run_small(SharedWords(), progress=True, latency_queries=1)
    assert "words: 100%" in capsys.readouterr().err
    assert (
        shown.systems["words"].run
        == run_small(SharedWords(), latency_queries=0).systems["words"].run
    )
    assert capsys.readouterr().err == ""


def test_a_data_set_can_be_a_folder(tmp_path: Path) -> None:
    """A path is read as the data set it holds."""
    data = load_dataset("python_faq_ko")
    (tmp_path / "corpus.jsonl").write_text(
        "\n".join(json.dumps({"_id": k, "text": v}) for k, v in list(data.corpus.items())[:3]),
        encoding="utf-8",
    )
    (tmp_path / "queries.jsonl").write_text(
        json.dumps({"_id": "q", "text": "무엇인가요"}), encoding="utf-8"
    )
    (tmp_path / "qrels.tsv").write_text(
        f"query-id\tcorpus-id\tscore\nq\t{next(iter(data.corpus))}\t1\n", encoding="utf-8"
    )
    assert evaluate(tmp_path, "bm25:bigram", latency_queries=0).dataset == tmp_path.name


def test_ablations_are_compared_with_their_own_system() -> None:
    """Each variant is a system of its own, held against the one it varies and no other."""
    result = run_small("bm25:bigram", SharedWords(), ablations=["spacing"], latency_queries=0)
    variants = ["bm25:bigram[spaces=none]", "bm25:bigram[spaces=random]"]
    assert list(result.systems)[:3] == ["bm25:bigram", *variants]
    pairs = [
        {found.better, found.worse} for found in result.comparisons if found.measure == "ndcg@10"
    ]
    assert pairs[0] == {"bm25:bigram", "words"}
    bases = ("bm25:bigram", "words")
    assert pairs[1:] == [{b, f"{b}[spaces={how}]"} for b in bases for how in ("none", "random")]
    assert all(found.p_holm >= found.p_value for found in result.comparisons)
    assert not result.systems["words[spaces=none]"].latencies


def test_prefixes_are_varied_where_there_is_an_encoder(static_model: Path) -> None:
    """A dense system runs without, with swapped and with doubled prefixes; BM25 has none."""
    result = run_small(
        KoE5Encoder(static_model),
        "bm25:bigram",
        ablations="prefix",
        latency_queries=0,
    )
    dense = f"dense:{KoE5Encoder(static_model).model}"
    assert [spec for spec in result.systems if "[" in spec] == [
        f"{dense}[prefix={how}]" for how in ("none", "swapped", "doubled")
    ]


def test_truncation_is_counted_without_running_anything_again(xlm_roberta: Path) -> None:
    """What lies beyond 512 tokens is in the facts of each system that has a model."""
    long = RetrievalDataset("x", CORPUS | {"긴 글": "서울의 겨울은 춥다. " * 400}, QUERIES, QRELS)
    result = evaluate(long, f"dense:{xlm_roberta}", ablations=["truncation"], latency_queries=0)
    counted = result.systems[f"dense:{xlm_roberta}"].facts["truncation"]
    assert (counted["documents"]["texts"], counted["documents"]["of_texts"]) == (1, 5)
    assert counted["documents"]["share"] == 0.2
    assert counted["queries"]["texts"] == 0
    assert "truncation" not in result.systems["bm25:bigram"].facts
