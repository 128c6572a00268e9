import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromium import Page, find_chromium, open_chromium
from report_samples import (
    dense_run,
    evaluated,
    faq_data,
    faq_result,
    fused,
    hostile,
    measured,
    words_run,
)

from koe5_integrations.evaluation.datasets import RetrievalDataset, read_beir
from koe5_integrations.evaluation.report_html import render_html
from koe5_integrations.evaluation.results import EvalResult


@pytest.fixture
def faq() -> RetrievalDataset:
    return faq_data()


@pytest.fixture
def result() -> EvalResult:
    return faq_result()


@pytest.fixture(scope="module")
def report() -> str:
    return render_html(faq_result(), faq_data())


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    program = find_chromium()
    if program is None:
        pytest.skip("needs Chromium or Chrome on the PATH")
    with open_chromium(program) as page:
        yield page


@pytest.fixture
def show(browser: Page, tmp_path: Path) -> Iterator[Callable[[str], Page]]:
    """Open a page; afterwards it must have asked for nothing else and complained of nothing."""

    def opened(page: str) -> Page:
        browser.requests.clear()
        browser.problems.clear()
        browser.resize(1280)
        file = tmp_path / "report.html"
        file.write_text(page, encoding="utf-8")
        browser.open(file)
        return browser

    yield opened
    assert browser.problems == []
    assert [url.rpartition("/")[2] for url in browser.requests] == ["report.html"]


def column(page: Page, name: str) -> list[float]:
    return page.run(
        f"""(() => {{
          const heads = [...document.querySelectorAll('#systems thead th')];
          const at = heads.findIndex((th) => th.textContent === {name!r});
          return [...document.querySelectorAll('#systems tbody tr')]
            .map((row) => Number(row.children[at].dataset.v));
        }})()"""
    )


def click(page: Page, selector: str, text: str = "") -> None:
    page.run(
        f"""[...document.querySelectorAll({selector!r})]
          .find((node) => node.textContent.includes({text!r})).click()"""
    )


def enter(page: Page, control: str, value: str) -> None:
    """Give a control a value as a reader would, and wait until the list follows."""
    page.run(
        f"""(() => {{
          const control = document.getElementById({control!r});
          control.value = {json.dumps(value)};
          control.dispatchEvent(new Event('input'));
          control.dispatchEvent(new Event('change'));
          return new Promise((done) => setTimeout(done, 200));
        }})()"""
    )


def test_table_sorts_by_any_column_and_shows_other_cutoffs(show, report):
    """A click on a heading sorts, a second one turns the order, and chips change the cut-off."""
    page = show(report)
    values = column(page, "nDCG@10")
    assert values == sorted(values, reverse=True)
    click(page, "thead button", "nDCG@10")
    assert column(page, "nDCG@10") == sorted(values)
    click(page, "thead button", "recall@10")
    recalls = column(page, "recall@10")
    assert recalls == sorted(recalls, reverse=True)
    visible = "[...document.querySelectorAll('thead th:not([hidden])')].map((th) => th.textContent)"
    assert "nDCG@1" not in page.run(visible)
    click(page, "#cutoffs button", "@1")
    assert "nDCG@1" in page.run(visible)
    assert "nDCG@10" not in page.run(visible)


def test_filter_and_order_of_the_queries(show, report, faq, result):
    """Search finds by id and text, the filter by who misses, and disagreement comes first."""
    page = show(report)
    rows = "[...document.querySelectorAll('.query .question code')].map((node) => node.textContent)"
    per = [system.per_query["ndcg@10"] for system in result.systems.values()]
    spreads = [max(p[q] for p in per) - min(p[q] for p in per) for q in page.run(rows)]
    assert spreads == sorted(spreads, reverse=True)
    enter(page, "find", "들여쓰기를")
    found = page.run(rows)
    assert "q0" in found
    assert len(found) < 20
    enter(page, "find", unicodedata.normalize("NFD", "파이썬"))
    assert len(page.run(rows)) > 20
    enter(page, "find", "zzz")
    assert page.run("document.getElementById('count').textContent") == "0 of 135 queries"
    enter(page, "find", "")
    enter(page, "show", "none")
    missed = {
        query_id
        for query_id, judged in faq.qrels.items()
        if not any(
            hit.doc_id in judged for s in result.systems.values() for hit in s.run[query_id][:10]
        )
    }
    assert set(page.run(rows)) == missed


def test_drilldown_opens_by_keyboard_with_the_right_documents(show, report, result, faq):
    """Enter on a query shows each system's documents in order, and marks the expected ones."""
    page = show(report)
    page.run("document.querySelector('.query .head').focus()")
    page.press("Enter", 13, "\r")
    query_id = page.run("document.querySelector('.query .question code').textContent")
    shown = page.run(
        """[...document.querySelectorAll('.column')].map((column) => ({
          spec: column.getAttribute('aria-label'),
          ids: [...column.querySelectorAll('summary code')].map((node) => node.textContent),
          hits: [...column.querySelectorAll('.hit summary code')].map((node) => node.textContent),
        }))"""
    )
    assert [part["spec"] for part in shown] == list(result.systems)
    for part in shown:
        ids = [hit.doc_id for hit in result.systems[part["spec"]].run[query_id][:10]]
        assert part["ids"] == ids
        assert part["hits"] == [doc_id for doc_id in ids if faq.qrels[query_id].get(doc_id)]
    expected = page.run("document.querySelector('.expected .text').textContent")
    assert faq.corpus[next(iter(faq.qrels[query_id]))].startswith(expected[:100])
    page.press("Enter", 13, "\r")
    assert page.run("document.querySelectorAll('.detail').length") == 0


def test_hostile_texts_are_not_executed(show):
    """In the browser the canary stays text, everywhere, also once a query is opened."""
    page = show(render_html(*hostile()))
    click(page, ".query .head")
    for details in range(page.run("document.querySelectorAll('details').length")):
        page.run(f"document.querySelectorAll('details')[{details}].open = true")
    assert page.run("window.canary") is None
    assert page.run("document.images.length") == 0
    assert "<img src=x" in page.run("document.querySelector('.column .text').textContent")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_fits_the_width_of_the_screen(show, report, width):
    """Only the tables scroll sideways, never the page, and nothing is cut in the list."""
    page = show(report)
    page.resize(width)
    click(page, ".query .head")
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    over = """[...document.querySelectorAll('main > section, .query, .column, .chips, figure')]
      .filter((node) => node.scrollWidth > node.clientWidth + 1).map((node) => node.className)"""
    assert page.run(over) == []


def test_is_dark_where_the_reader_prefers_it(show, report):
    """The page follows the preferred colour scheme."""
    page = show(report)
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    assert page.run(brightness) > 200
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.call("Emulation.setEmulatedMedia", features=dark)
    assert page.run(brightness) < 50
    page.call("Emulation.setEmulatedMedia", features=[])


def test_prints_without_controls_and_with_the_manifest(show, report):
    """On paper there are no controls, only opened queries, and nothing stays folded."""
    page = show(report)
    click(page, ".query .head")
    page.run("dispatchEvent(new Event('beforeprint'))")
    page.call("Emulation.setEmulatedMedia", media="print")
    visible = """(selector) => [...document.querySelectorAll(selector)]
      .filter((node) => node.checkVisibility()).length"""
    assert page.run(f"({visible})('.controls, #cutoffs, #more')") == 0
    assert page.run(f"({visible})('.query')") == 1
    assert page.run(f"({visible})('dl.facts')") >= 1
    page.call("Emulation.setEmulatedMedia", media="")
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run(f"({visible})('dl.facts')") == 0


def test_900_queries_of_five_systems_stay_quick(show, shared_data):
    """The largest shipped set with five systems is a small file, and every step takes a moment."""
    data = read_beir(shared_data / "belebele_ko")
    dense, words = dense_run(data), words_run(data)
    runs = [
        dense,
        words,
        fused(dense, words),
        fused(dense, dense, words),
        fused(words, dense, words),
    ]
    systems = [measured(data, f"system {i}", run) for i, run in enumerate(runs)]
    report = render_html(evaluated(data, *systems), data)
    assert len(report.encode()) < 3_000_000
    page = show(report)
    assert page.run("document.querySelectorAll('.query').length") < 200
    milliseconds = page.run(
        """(() => { const begun = performance.now(); sort.value = '1';
        sort.dispatchEvent(new Event('change')); document.body.offsetHeight;
        return performance.now() - begun; })()"""
    )
    assert milliseconds < 1000
