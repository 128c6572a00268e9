"""What an evaluation supports, marked up: warnings, verdict, and every pair of systems."""

from __future__ import annotations

import re

from koe5_integrations.evaluation.html.words import by_value, escape, marks, named, score
from koe5_integrations.evaluation.results import EvalResult
from koe5_integrations.evaluation.verdict import title, verdict


def warnings_html(result: EvalResult) -> str:
    """Return the findings of the sanity checks, by system; empty if there are none."""
    mark = marks(result)
    rows = [
        f"<li>{named(mark[spec], spec)} {escape(sentence)}</li>"
        for spec, system in result.systems.items()
        for sentence in system.warnings
    ]
    if not rows:
        return ""
    return (
        '<section class="warnings" aria-labelledby="warnings-title">'
        '<h2 id="warnings-title">Read this first: what the sanity checks found</h2>'
        f"<ul>{''.join(rows)}</ul></section>"
    )


def verdict_html(result: EvalResult, measure: str) -> str:
    """Return a headline, and the sentences of the verdict with every system marked."""
    sentences = "".join(f"<li>{_marked(result, sentence)}</li>" for sentence in verdict(result))
    return f'<p class="headline">{_headline(result, measure)}</p><ul>{sentences}</ul>'


def comparisons_html(result: EvalResult, measure: str) -> str:
    """Return every pair of systems on one measure as a table; empty if none was compared."""
    mark = marks(result)
    rows = [
        f"<tr><td>{named(mark[one.better], one.better)}</td>"
        f"<td>{named(mark[one.worse], one.worse)}</td>"
        f'<td class="number">{score(one.difference)}</td><td class="number">{_p(one.p_value)}</td>'
        f'<td class="number">{_p(one.p_holm)}</td>'
        f"<td>{'<b>yes</b>' if one.significant else 'no'}</td></tr>"
        for one in sorted(result.comparisons, key=lambda one: -one.difference)
        if one.measure == measure
    ]
    if not rows:
        return ""
    return (
        f"<details><summary>Every pair of systems on {escape(title(measure))}</summary>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Every pair of systems">'
        '<table class="plain"><thead><tr><th scope="col">Higher</th><th scope="col">Lower</th>'
        '<th scope="col">Difference</th><th scope="col">p</th><th scope="col">p (Holm)</th>'
        f'<th scope="col">Significant</th></tr></thead><tbody>{"".join(rows)}</tbody></table>'
        "</div></details>"
    )


def _headline(result: EvalResult, measure: str) -> str:
    best, *others = by_value(result, measure)
    leader = named(marks(result)[best.spec], best.spec)
    if not others:
        return f"{leader} was measured alone"
    beaten = {
        one.worse
        for one in result.comparisons
        if one.measure == measure and one.better == best.spec and one.significant
    }
    if all(system.spec in beaten for system in others):
        return f"{leader} is the best"
    if others[0].measures[measure].value == best.measures[measure].value:
        return f"{leader} is one of several that share the lead"
    if beaten:
        return f"{leader} leads, but not significantly over all"
    return f"{leader} leads, but not significantly"


def _marked(result: EvalResult, sentence: str) -> str:
    """Escape a sentence and mark the systems it names; where several fit, the longest."""
    mark = marks(result)
    specs = sorted(result.systems, key=len, reverse=True)
    parts = re.split(rf"(?<!\w)({'|'.join(map(re.escape, specs))})(?!\w)", sentence)
    return "".join(
        named(mark[part], part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


def _p(value: float) -> str:
    return "&lt; 0.0001" if value < 0.0001 else f"{value:.4f}"
