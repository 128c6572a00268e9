"""Tests of koe5_integrations.evaluation.report_markdown and verdict."""

from __future__ import annotations

import re

import pytest
from evaluated import QRELS, result_of, system_result

from koe5_integrations.evaluation.report_markdown import render_markdown, table_in_seed_form
from koe5_integrations.evaluation.results import Comparison, EvalResult, IndexStats
from koe5_integrations.evaluation.verdict import human_bytes, letters, title, verdict

SEED = {
    "ndcg@1": [1.0, 0.0, 1.0],
    "f1_of_means@1": [1.0, 0.0, 1.0],
    "ndcg@3": [1.0, 0.5, 1.0],
    "f1_of_means@3": [0.5, 0.5, 0.5],
}


def rows(markdown: str, heading: str = "") -> list[list[str]]:
    """Return the cells of the first table after a heading."""
    after = markdown[markdown.index(heading) :]
    table = re.search(r"(?:^\|.*\n?)+", after, re.MULTILINE)
    assert table is not None
    lines = table[0].strip().splitlines()
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]


@pytest.fixture
def result() -> EvalResult:
    return result_of(
        system_result("bm25:bigram", SEED | {"ndcg@10": [0.9, 0.9, 0.9]}),
        system_result(
            "dense:koe5-mini",
            SEED | {"ndcg@10": [0.1, 0.2, 0.3]},
            latencies=[0.001, 0.002, 0.003],
            queries_per_second=1234.5,
            warnings=["ids | repeat"],
        ),
        system_result("hybrid:x", SEED | {"ndcg@10": [0.8, 0.9, 0.9]}, index=IndexStats(0, None)),
        comparisons=[
            Comparison("ndcg@10", "bm25:bigram", "dense:koe5-mini", 0.7, 0.001, 0.003),
            Comparison("ndcg@10", "bm25:bigram", "hybrid:x", 0.0333, 0.5, 0.5),
            Comparison("ndcg@10", "hybrid:x", "dense:koe5-mini", 0.6667, 0.00001, 0.00003),
        ],
    )


def test_significant_wins_are_superscripts(result: EvalResult) -> None:
    """The letters of the systems that a value is significantly better than stand above it."""
    table = rows(render_markdown(result))
    header = [cell.strip() for cell in table[0]]
    assert header == ["", "System", "nDCG@10", "n"]
    cells = {row[1].strip(): [cell.strip() for cell in row] for row in table[2:]}
    assert cells["`bm25:bigram`"] == ["a", "`bm25:bigram`", "0.900<sup>b</sup> [0.900, 0.900]", "3"]
    assert cells["`dense:koe5-mini`"][2] == "0.200 [0.100, 0.300]"
    assert cells["`hybrid:x`"][2] == "0.867<sup>b</sup> [0.800, 0.900]"


def test_the_verdict_says_what_is_open(result: EvalResult) -> None:
    """Sentences name the best, what it beats, what can't be told, and the smallest gap."""
    said = verdict(result)
    assert said[0].startswith("bm25:bigram is highest on nDCG@10: 0.900 (95% interval 0.900 to")
    assert "significantly better than dense:koe5-mini" in said[1]
    assert "Whether it is better than hybrid:x this set can't tell" in said[2]
    assert "below about 0.250" in said[3]
    assert "3 queries are few" in said[4]


def test_the_seeds_table_is_in_per_cent(result: EvalResult) -> None:
    """NDCG@1, F1@1, NDCG@3 and F1@3 stand as KoE5 publishes them."""
    table = rows(render_markdown(result), "## In KoE5's own form")
    assert [cell.split()[-1] for cell in table[0]] == ["System", "NDCG@1", "F1@1", "NDCG@3", "F1@3"]
    assert [cell.strip() for cell in table[2]] == [
        "`bm25:bigram`",
        "66.67",
        "66.67",
        "83.33",
        "50.00",
    ]


def test_the_seeds_table_of_several_sets_has_an_average() -> None:
    """A system that was not run on a set has neither a value there nor an average."""
    first = result_of(system_result("a", SEED), system_result("b", SEED))
    second = result_of(system_result("a", SEED | {"ndcg@1": [0.0, 0.0, 0.0]}))
    table = rows(table_in_seed_form([first, second]))
    assert table[0][-4].strip() == "Average NDCG@1"
    cells = [[cell.strip() for cell in row] for row in table[2:]]
    assert cells[0][9] == "33.33"
    assert cells[1][5:] == ["–"] * 8


def test_costs_and_warnings_are_told(result: EvalResult) -> None:
    """Latency in milliseconds, sizes in their unit, what is not known as a dash."""
    markdown = render_markdown(result)
    cells = [[cell.strip() for cell in row] for row in rows(markdown, "## Cost")]
    assert cells[0] == [
        "System",
        "index",
        "embedded",
        "index size",
        "latency p50",
        "p95",
        "queries/s",
    ]
    assert cells[3] == [
        "`dense:koe5-mini`",
        "1.50 s",
        "4",
        "2.0 KiB",
        "2.00 ms",
        "2.90 ms",
        "1,234",
    ]
    assert cells[4][3:] == ["–", "–", "–", "–"]
    assert "- `dense:koe5-mini`: ids \\| repeat" in markdown


def test_a_hostile_name_stays_in_its_cell() -> None:
    """Bars, brackets and line breaks of a name don't become markup or columns."""
    result = result_of(system_result("a|b\n<script>`x`", {"ndcg@10": [1.0, 1.0, 1.0]}))
    markdown = render_markdown(result)
    assert "<script>" not in markdown.split("## Manifest")[0].replace("\\<script>", "")
    assert all(len(row) == 4 for row in rows(markdown))


def test_the_manifest_is_at_the_end(result: EvalResult) -> None:
    """The report carries what reproduces it."""
    assert f'"sha256": "{"ab" * 32}"' in render_markdown(result).split("## Manifest")[1]


def test_letters_go_on_after_z() -> None:
    """The twenty-seventh system is aa."""
    many = result_of(*(system_result(f"s{i}", {"ndcg@10": [0, 0, 0]}) for i in range(30)))
    assert [letters(many)[f"s{i}"] for i in (0, 25, 26, 27)] == ["a", "z", "aa", "ab"]


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, "–"), (0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")],
)
def test_sizes_are_readable(count: int | None, shown: str) -> None:
    """Bytes are shown in the unit that fits."""
    assert human_bytes(count) == shown


def test_titles_are_written_as_people_write_them() -> None:
    """Abbreviations are capitals; other measures are as they are named."""
    assert [title(name) for name in ("ndcg@10", "mrr@3", "recall@5", "f1_of_means@1")] == [
        "nDCG@10",
        "MRR@3",
        "recall@5",
        "F1 of means@1",
    ]


def test_measures_show_their_hits(result: EvalResult) -> None:
    """The full table counts questions beside the mean."""
    cells = rows(render_markdown(result), "## All measures")
    assert cells[2][1].strip() == f"0.6667 (2 of {len(QRELS)})"


def test_ablations_have_a_table_of_their_own() -> None:
    """Variants stand with their change from the system itself, and in no other table."""
    result = result_of(
        system_result("m", {"ndcg@10": [0.9, 0.9, 0.9]}),
        system_result("m[prefix=none]", {"ndcg@10": [0.4, 0.5, 0.6]}),
        system_result("other", {"ndcg@10": [0.1, 0.1, 0.1]}),
        comparisons=[
            Comparison("ndcg@10", "m", "other", 0.8, 0.01, 0.01),
            Comparison("ndcg@10", "m", "m[prefix=none]", 0.4, 0.01, 0.02),
        ],
    )
    markdown = render_markdown(result)
    assert [[cell.strip() for cell in row] for row in rows(markdown, "## Ablations")][2:] == [
        ["`m[prefix=none]`", "0.500", "-0.400", "0.0200", "yes"]
    ]
    assert markdown.count("m[prefix=none]") == 1
    assert letters(result) == {"m": "a", "other": "b", "m[prefix=none]": "c"}
    assert not any("prefix=none" in sentence for sentence in verdict(result))


def test_truncation_is_told_in_words() -> None:
    """How many texts a model would cut is a sentence per kind of text."""
    counted = {"limit": 512, "texts": 3, "of_texts": 4, "tokens": 70, "of_tokens": 1000}
    facts = {"truncation": {"documents": counted | {"share": 0.75}}}
    markdown = render_markdown(
        result_of(system_result("m", {"ndcg@10": [1.0, 1.0, 1.0]}, facts=facts))
    )
    assert "m: 3 of 4 documents (75.0%) are longer than 512 tokens; 70 of 1,000 tokens" in markdown
