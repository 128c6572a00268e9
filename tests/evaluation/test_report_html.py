import json
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from report_samples import (
    BOTH,
    CANARY,
    DENSE,
    WORDS,
    evaluated,
    faq_data,
    faq_result,
    hostile,
    measured,
    words_run,
)

from koe5_integrations.evaluation.datasets import RetrievalDataset
from koe5_integrations.evaluation.html import drilldown
from koe5_integrations.evaluation.metrics import GroupedRelevance
from koe5_integrations.evaluation.report_html import render_html
from koe5_integrations.evaluation.results import EvalResult, Hit

VOID = {"meta", "input", "br", "wbr", "link", "img", "hr"}


@pytest.fixture
def faq() -> RetrievalDataset:
    return faq_data()


@pytest.fixture
def result() -> EvalResult:
    return faq_result()


@pytest.fixture(scope="module")
def report() -> str:
    return render_html(faq_result(), faq_data())


class Outline(HTMLParser):
    """What a page consists of; fails where a tag is not closed or an id is repeated."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []
        ids = [value for _, name, value in self.attributes if name == "id"]
        assert len(ids) == len(set(ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.text.append(data)


def data_of(page: str) -> dict:
    return json.loads(Outline(page).scripts[0])


def test_is_one_well_formed_file_that_refers_to_nothing_outside(report: str):
    """Every tag is closed, and nothing in the page points to another file or host."""
    outline = Outline(report)
    assert outline.tags["script"] == 2
    assert outline.tags["style"] == 1
    assert not {"img", "link", "iframe", "object", "embed", "form", "base"} & set(outline.tags)
    fetched = {"src", "srcset", "action", "data", "poster", "style", "background", "xlink:href"}
    assert not fetched & {name for _, name, _ in outline.attributes}
    assert not [name for _, name, _ in outline.attributes if name.startswith("on")]
    assert {value for _, name, value in outline.attributes if name == "href"} == {"#queries-title"}
    style = report.partition("<style>")[2].partition("</style>")[0]
    assert not [word for word in ("url(", "@import", "http:", "https:", "//") if word in style]


def test_forbids_everything_but_its_own_style_and_script(report: str):
    """The content security policy allows nothing except two hashes."""
    policy = next(v for tag, name, v in Outline(report).attributes if "default-src" in v)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_says_which_system_leads_and_what_the_set_can_resolve(report: str):
    """The words of the page hold the facts, the warnings before the verdict, and every system."""
    text = "".join(Outline(report).text)
    for said in (DENSE, WORDS, BOTH, "135 queries", "136 documents", "koe5 evaluate"):
        assert said in text
    warning, verdict = text.index("Scores rise with the rank"), text.index("Verdict")
    assert warning < verdict
    assert "leads, but not significantly" in text or "is the best" in text
    assert "Differences of nDCG@10 below about" in text
    assert "not timed query by query" in text
    assert "of unknown index size" in text


def test_shows_value_interval_count_and_letters_of_every_measure(report: str, result: EvalResult):
    """Each cell holds its value and interval, a hit count where there is one, and its wins."""
    text = "".join(Outline(report).text)
    for system in result.systems.values():
        for found in system.measures.values():
            assert f"{found.value:.3f}" in text
            assert f"{found.ci[0]:.3f}–{found.ci[1]:.3f}" in text
    hits = result.systems[DENSE].measures["success@1"].hits
    assert f"{hits} of 135" in text
    won = [c for c in result.comparisons if c.measure == "ndcg@10" and c.significant]
    assert won, "the sample needs a significant pair"
    assert 'title="significantly better than' in report


def test_each_query_has_its_question_expected_and_retrieved_documents(
    report: str, result: EvalResult, faq: RetrievalDataset
):
    """The embedded data agree with the run and the qrels, and hold every document text once."""
    data = data_of(report)
    assert len(data["queries"]) == data["total"] == 135
    ids = [doc_id for doc_id, _ in data["documents"]]
    assert len(ids) == len(set(ids))
    for query in data["queries"]:
        assert query["text"] == faq.queries[query["id"]]
        expected = {ids[doc]: ranks for doc, _, ranks, _ in query["expected"]}
        assert expected.keys() == {d for d, value in faq.qrels[query["id"]].items() if value > 0}
        for place, (spec, _, _) in enumerate(data["systems"]):
            own = [hit.doc_id for hit in result.systems[spec].run[query["id"]]]
            assert [ids[doc] for doc, _ in query["hits"][place]] == own[:10]
            for doc_id, ranks in expected.items():
                assert ranks[place] == (own.index(doc_id) + 1 if doc_id in own else 0)
            value = result.systems[spec].per_query["ndcg@10"][query["id"]]
            assert query["values"][0][place] == pytest.approx(value, abs=1e-4)


def test_texts_can_not_become_markup():
    """Texts full of markup add no tag, survive as text, and the page can be written as UTF-8."""
    page = render_html(*hostile())
    page.encode("utf-8")
    outline = Outline(page)
    assert outline.tags["script"] == 2
    assert outline.tags["img"] == 0
    shown = CANARY.translate({0: "\ufffd", 0x1B: "\ufffd", 0xD800: "\ufffd"})
    assert not set("<>&\u2028\u2029") & set(outline.scripts[0])
    data = json.loads(outline.scripts[0])
    assert data["queries"][0]["text"] == shown
    assert "\x00" not in page


def test_odd_answers_are_shown_as_they_are(faq: RetrievalDataset):
    """No scores, NaN scores, repeats, unknown ids and no answer all have a place."""
    first, second, third = list(faq.qrels)[:3]
    found = next(iter(faq.qrels[first]))
    run = {
        first: [Hit("nowhere", None), Hit("nowhere", None), Hit(found, float("nan"))],
        second: [],
    }
    small = replace(faq, qrels={key: faq.qrels[key] for key in (first, second, third)})
    data = data_of(render_html(evaluated(small, measured(small, "odd", run)), small))
    queries = {query["id"]: query for query in data["queries"]}
    hits = [[data["documents"][doc], value] for doc, value in queries[first]["hits"][0]]
    assert [value for _, value in hits] == [None, None, None]
    assert hits[0][0] == ["nowhere", None]
    assert queries[first]["expected"][0][2] == [2]  # the repeat takes no rank
    assert queries[second]["hits"] == queries[third]["hits"] == [[]]
    assert queries[third]["found"] == [0]


def test_size_is_bounded(
    monkeypatch: pytest.MonkeyPatch, result: EvalResult, faq: RetrievalDataset
):
    """Beyond the limits texts are cut and the queries on which systems agree are left out."""
    monkeypatch.setattr(drilldown, "MAX_QUERIES", 20)
    monkeypatch.setattr(drilldown, "TEXT_CHARS", 1)
    data = data_of(render_html(result, faq))
    assert len(data["queries"]) == 20
    assert data["total"] == 135
    assert max(len(text) for _, text in data["documents"]) == data["documentChars"] == 200

    def spread(query_id: str) -> float:
        values = [s.per_query["ndcg@10"][query_id] for s in result.systems.values()]
        return max(values) - min(values)

    kept = {query["id"] for query in data["queries"]}
    left = set(faq.qrels) - kept
    assert min(map(spread, kept)) >= max(map(spread, left))
    monkeypatch.setattr(drilldown, "MAX_DOCUMENTS", 30)
    assert len(data_of(render_html(result, faq))["documents"]) <= 30


def test_nothing_to_report_is_an_error(result: EvalResult, faq: RetrievalDataset):
    """A result without systems is refused with the remedy."""
    with pytest.raises(ValueError, match="Evaluate at least one system"):
        render_html(replace(result, systems={}), faq)


def test_more_systems_than_colours_or_letters(faq: RetrievalDataset):
    """With 30 equal systems the letters go on after z, and none is called the best."""
    run = words_run(faq)
    page = render_html(evaluated(faq, *(measured(faq, f"copy {i}", run) for i in range(30))), faq)
    assert [mark for _, mark, _ in data_of(page)["systems"]][24:] == [
        *"yz",
        *("aa", "ab", "ac", "ad"),
    ]
    assert "is one of several that share the lead" in page


def test_alternatives_are_told_apart_from_documents_that_all_count(faq: RetrievalDataset):
    """Documents of which one is enough carry the number of their group."""
    query_id = next(iter(faq.qrels))
    judged = GroupedRelevance([["d1"], ["d2", "d3"]])
    data = replace(faq, qrels={query_id: judged})
    run = {query_id: [Hit("d3", 1.0)]}
    shown = data_of(render_html(evaluated(data, measured(data, "one", run)), data))
    ids = [doc_id for doc_id, _ in shown["documents"]]
    groups = {ids[doc]: group for doc, _, _, group in shown["queries"][0]["expected"]}
    assert groups == {"d1": 0, "d2": 1, "d3": 1}


def test_names_inside_longer_names_are_not_taken_for_systems(report: str):
    """A hybrid's name in the verdict is one system, though it holds the names of two others."""
    verdict = report.partition('aria-labelledby="verdict-title"')[2].partition("</section>")[0]
    assert verdict.count("hybrid:<wbr>words+<wbr>dense:<wbr>koe5-mini</code>") == verdict.count(
        "hybrid:"
    )


def test_one_system_alone(result: EvalResult, faq: RetrievalDataset):
    """A single system is reported without a comparison."""
    page = render_html(evaluated(faq, result.systems[DENSE]), faq)
    assert "was measured alone" in page
    assert "Every pair of systems" not in page
