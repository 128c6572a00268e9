import pytest

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.metrics import MEASURES, per_query
from koe5_integrations.evaluation.published import published
from koe5_integrations.evaluation.replay import figures, replay, replay_table, seed_table
from koe5_integrations.evaluation.results import EvalResult, Hit, IndexStats, SystemResult
from koe5_integrations.evaluation.reversed_ranks import reverse
from koe5_integrations.evaluation.significance import score

KOE5 = "nlpai-lab/KoE5"


def verdicts(measured, **options):
    """Return the cells by data set and measure, of one source."""
    cells = replay(measured, KOE5, **{"sources": ["kure"], **options})
    return {(cell.published.dataset, cell.published.measure): cell for cell in cells}


def autorag_result(ranks, *, queries=114, name="autorag_ko", turned=False):
    """Evaluate a system that has its one relevant document at these ranks (from 1)."""
    places = [rank for rank, count in ranks.items() for _ in range(count)]
    places += [0] * (queries - len(places))
    ranked = {
        f"q{n}": ["gold" if rank == place else f"x{rank}" for rank in range(1, 11)]
        for n, place in enumerate(places)
    }
    if turned:
        ranked = reverse(ranked, 3)
    qrels = {query: {"gold": 1} for query in ranked}
    run = {query: [Hit(doc_id, None) for doc_id in ids] for query, ids in ranked.items()}
    system = SystemResult(
        spec="dense:koe5",
        measures=score(qrels, run, samples=20),
        per_query=per_query(qrels, ranked, MEASURES),
        run=run,
        index=IndexStats(0.0, None),
    )
    return EvalResult(name, {"dense:koe5": system}, (), {}, {})


def test_the_published_figures_are_reproduced_by_themselves():
    """Every cell that is not known to be bad is reproduced by its own value."""
    own = {}
    for cell in published():
        if cell.model == KOE5 and cell.source == "kure":
            own.setdefault(cell.dataset, {})[cell.measure] = cell.value
    cells = replay(own, KOE5, sources=["kure"])
    assert len(cells) == 18
    assert {(cell.verdict, round(cell.hits, 6)) for cell in cells} == {("reproduced", 0.0)}


def test_differences_are_counted_in_whole_queries():
    """On 114 queries one more is .88 points of NDCG; on 592 it is .17, and half of it in F1@3."""
    found = verdicts(
        {
            "autorag": {"ndcg@1": 83 / 114, "ndcg@10": 0.8434 - 2 / 114, "recall@10": 105 / 114},
            "ko-strategyqa": {"ndcg@1": 0.7669 + 1.4 / 592, "f1_of_means@3": 0.5632 + 2 / 592},
        }
    )
    assert found["autorag", "ndcg@1"].verdict == "within 1 hit"
    assert found["autorag", "ndcg@1"].hits == pytest.approx(1, abs=0.01)
    assert found["autorag", "ndcg@10"].verdict == "within 2 hits"
    assert found["autorag", "recall@10"].verdict == "different"
    assert found["autorag", "recall@10"].hits == pytest.approx(-3, abs=0.01)
    assert found["ko-strategyqa", "ndcg@1"].verdict == "within 2 hits"
    assert found["ko-strategyqa", "f1_of_means@3"].hits == pytest.approx(4, abs=0.01)
    assert found["publichealthqa", "ndcg@1"].verdict == "not measured"


def test_the_tolerance_can_be_chosen():
    """With none, a query more is a difference; with three, three less are not."""
    one_more = {"autorag": {"ndcg@1": 83 / 114, "recall@10": 105 / 114}}
    strict, lenient = verdicts(one_more, within=0), verdicts(one_more, within=3)
    assert strict["autorag", "ndcg@1"].verdict == "different"
    assert lenient["autorag", "recall@10"].verdict == "within 3 hits"


def test_the_artefact_is_known_bad_with_the_right_value_beside_it():
    """KoE5's 47.57 is known-bad whatever was measured; hits count from the right 80.46."""
    (cell,) = (
        c
        for c in replay({"autorag": {"ndcg@3": 0.8199}}, KOE5, sources=["seed"])
        if c.published.known_bad
    )
    assert (cell.verdict, round(cell.published.right, 4)) == ("known-bad", 0.8046)
    assert cell.hits == pytest.approx((0.8199 - 0.8046) * 114, abs=0.02)
    assert "79, 17, 4 of 114" in cell.explanation
    assert "same fault" not in cell.explanation


def test_a_run_ranked_worst_first_is_told_so():
    """Measured figures that reproduce the artefact are not praised for it."""
    measured = figures(autorag_result({1: 79, 2: 17, 3: 4}, turned=True), "dense:koe5")
    assert measured["autorag"]["ndcg@3"] == pytest.approx(0.4757, abs=5e-5)
    bad = [c for c in replay(measured, KOE5, sources=["seed", "autorag"]) if c.kind == "known-bad"]
    assert [c.published.measure for c in bad] == ["ndcg@3", "ndcg@3", "mrr@3"]
    assert all("shows the same fault: is it ranked worst first?" in c.explanation for c in bad)


def test_an_evaluation_without_prefixes_reproduces_the_seed():
    """Ranks 79, 17 and 4 reproduce N1, F1 and F3, and the right N3 to no hit."""
    measured = figures([autorag_result({1: 79, 2: 17, 3: 4})], "dense:koe5")
    cells = [c for c in replay(measured, KOE5, sources=["seed"]) if c.measured is not None]
    assert {c.published.measure: c.verdict for c in cells} == {
        "ndcg@1": "reproduced",
        "f1_of_means@1": "reproduced",
        "ndcg@3": "known-bad",
        "f1_of_means@3": "reproduced",
    }
    assert max(abs(c.hits) for c in cells) < 0.02


def test_figures_pass_over_other_sets_and_systems():
    """A set nobody published is left out; a system that is not there is an error."""
    other = autorag_result({1: 3}, queries=5, name="my-data")
    assert figures(other, "dense:koe5") == {}
    with pytest.raises(ConfigError, match=r"no result has the system 'bm25'; there is dense:koe5"):
        figures(other, "bm25")


def test_a_part_of_a_set_is_not_compared():
    """Figures of 50 of 114 queries are refused instead of called different."""
    part = autorag_result({1: 40}, queries=50)
    with pytest.raises(ConfigError, match=r"measured on 50 queries, and the published .* 114"):
        figures(part, "dense:koe5")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: replay({}, "nlpai-lab/KoE6"), "nothing is published here of .*nlpai-lab/KoE5"),
        (lambda: replay({}, KOE5, sources=["blog"]), "source 'blog' is unknown; there is seed"),
        (
            lambda: replay({}, "Qwen/Qwen3-Embedding-8B", sources=["seed"]),
            "nothing is published here of 'Qwen/Qwen3-Embedding-8B' by seed",
        ),
        (lambda: replay({"autorag": {"ndcg@1": 71.9}}), "is 71.9; give a number from 0 to 1"),
        (lambda: replay({"autorag": {"ndcg@1": "0.7"}}), "is '0.7'; give a number from 0 to 1"),
        (lambda: replay({"autorag": {"ndgc@1": 0.7}}), "did you mean ndcg@1"),
    ],
)
def test_what_cannot_be_replayed_is_named(call, message):
    """An unknown model, source or measure, and percent instead of shares, raise."""
    with pytest.raises(ConfigError, match=message):
        call()


def test_a_model_is_known_by_the_seeds_name_too():
    """BGE-m3 is BAAI/bge-m3, in any case of letters."""
    by_label = replay({}, "bge-M3", sources=["seed"])
    assert by_label == replay({}, "BAAI/bge-m3", sources=["seed"])
    assert {cell.verdict for cell in by_label} == {"not measured", "known-bad"}


def test_the_table_of_verdicts_explains_itself():
    """Published, right and measured values, hits, verdict, and the notes and sources below."""
    cells = replay({"autorag": {"ndcg@1": 0.6930, "ndcg@3": 0.8199}}, KOE5, sources=["seed"])
    table = replay_table(cells)
    assert "| AutoRAG | ndcg@3 | 47.57 | 80.46 | 81.99 | +1.7 | known-bad [2] | seed |" in table
    assert "| AutoRAG | ndcg@1 | 69.30 |  | 69.30 | +0.0 | reproduced [1] | seed |" in table
    assert "- [1] embedded without prefixes\n- [2] AutoRAG before 0.2.17" in table
    assert "- seed: nlpai-lab/KoE5, model card\n" in table
    text = replay_table(cells, "text")
    assert len({len(line) for line in text.split("\n\n")[0].splitlines()}) == 1


def test_the_seeds_table_is_reproduced_with_its_averages():
    """The published row of KoE5, its averages, and the right values where it is known bad."""
    row = next(line for line in seed_table().splitlines() if line.startswith("| KoE5 "))
    assert row == (
        "| KoE5 | 76.69 | 60.70 | 75.70 | 56.32 | 69.30 | 69.30 | 47.57* (80.46) | 43.86 "
        "| 71.43 | 71.43 | 80.10 | 42.86 | 72.47 | 67.14 | 67.79* (78.75) | 47.68 |"
    )
    assert seed_table().count("\n| ") == 6
    assert "\\* Known bad: AutoRAG before 0.2.17" in seed_table()


def test_measured_rows_stand_in_the_seeds_form():
    """A measured row has its values, and an average only if all three sets were measured."""
    values = {"ndcg@1": 0.5, "f1_of_means@1": 0.4, "ndcg@3": 0.6, "f1_of_means@3": 0.3}
    sets = ("ko-strategyqa", "autorag_ko", "publichealthqa")
    measured = {"전부": dict.fromkeys(sets, values), "하나": {"autorag": values}}
    table = seed_table(measured, with_published=False)
    whole, part = table.splitlines()[2:]
    assert whole == "| 전부 |" + " 50.00 | 40.00 | 60.00 | 30.00 |" * 4
    assert part == "| 하나 |" + " – |" * 4 + " 50.00 | 40.00 | 60.00 | 30.00 |" + " – |" * 8
    assert "Known bad" not in table
    text = seed_table(measured, with_published=False, style="text").splitlines()
    # Hangul takes two places each, so the rows named by it are two characters shorter.
    assert [len(line) - len(text[0]) for line in text] == [0, -2, -2]
