"""The table of systems and measures, and the plain facts around it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from koe5_integrations.evaluation.html.plots import whisker
from koe5_integrations.evaluation.html.words import (
    by_value,
    clean,
    cut,
    cutoff,
    duration,
    escape,
    marks,
    meaning,
    score,
    size,
    spec_code,
)
from koe5_integrations.evaluation.results import EvalResult, Measured, SystemResult
from koe5_integrations.evaluation.verdict import percentiles, title, wins

FACTS_CHARS = 50_000
"""Longest manifest entry shown; files beside the report hold all of it."""


def chips_html(result: EvalResult, shown: str) -> str:
    """Return the buttons that choose which cut-off the table shows."""
    found = {cutoff(name) for system in result.systems.values() for name in system.measures}
    ordered = sorted(found - {""}, key=lambda k: (len(k), k))
    if len(ordered) < 2:
        return ""
    buttons = "".join(
        f'<button type="button" data-cutoff="{escape(k)}" '
        f'aria-pressed="{"true" if k == shown else "false"}">{label}</button>'
        for k, label in [*((k, f"@{escape(k)}") for k in ordered), ("", "all")]
    )
    return (
        '<div class="chips needs-js" id="cutoffs" role="group" aria-label="Cut-off">'
        f"<span>Measured at</span>{buttons}</div>"
    )


def systems_table(result: EvalResult, main: str) -> str:
    """Return the table of systems (rows, best first) by measures and costs (columns).

    Measures at another cut-off than the main one are there, but hidden.
    """
    shown = cutoff(main)
    names = list(dict.fromkeys(n for s in result.systems.values() for n in s.measures))
    # The deciding measure stands first among those of its cut-off.
    names.sort(key=lambda name: name != main)
    head = [_header("system", "System", "")]
    for name in names:
        direction = "descending" if name == main else "none"
        head.append(_header("measure", title(name), meaning(name), direction, _place(name, shown)))
    head += [
        _header("cost", "Latency", "One query asked alone: median, then 95th percentile."),
        _header("cost", "Queries/s", "Throughput of all queries asked at once."),
        _header("cost", "Index", "Size of the index, and the time it took to make."),
    ]
    mark = marks(result)
    columns = [_column(result, name, name == main, shown) for name in names]
    rows = [
        f'<tr><th scope="row" data-v="{place}"><div>{mark[system.spec].badge} '
        f"{spec_code(system.spec)}</div></th>"
        f"{''.join(column[system.spec] for column in columns)}{_costs(system)}</tr>"
        for place, system in enumerate(by_value(result, main))
    ]
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Systems by measure">'
        '<table id="systems"><caption>Systems by measure, best first</caption>'
        f"<thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def facts_html(facts: Mapping[str, Any]) -> str:
    """Return JSON-like facts as a list of terms; what is nested is written as JSON."""
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{_fact(value)}</dd>" for key, value in facts.items())
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def _header(kind: str, label: str, explained: str, sort: str = "none", place: str = "") -> str:
    hint = f' title="{escape(explained)}"' if explained else ""
    return (
        f'<th scope="col" class="{kind}" aria-sort="{sort}"{place}>'
        f'<button type="button"{hint}>{escape(label)}'
        '<span class="arrow" aria-hidden="true"></span></button></th>'
    )


def _place(name: str, shown: str) -> str:
    """Return the attributes by which a column belongs to a cut-off."""
    k = cutoff(name)
    if not k:
        return ""
    return f' data-k="{escape(k)}"' + ("" if k == shown else " hidden")


def _column(result: EvalResult, name: str, deciding: bool, shown: str) -> dict[str, str]:
    """Return the cells of one measure, by system."""
    won, place = wins(result, name, result.systems), _place(name, shown)
    found = {spec: s.measures[name] for spec, s in result.systems.items() if name in s.measures}
    best = max(measured.value for measured in found.values())
    cells = {}
    for spec in result.systems:
        measured = found.get(spec)
        if measured is None:
            cells[spec] = f'<td{place}><span class="dim">–</span></td>'
            continue
        kinds = ["measure", "main"] if deciding else ["measure"]
        if measured.value == best and len(found) > 1:
            kinds.append("best")
        cells[spec] = (
            f'<td class="{" ".join(kinds)}" data-v="{measured.value!r}"{place}>'
            f"<b>{score(measured.value)}</b>{_superscript(won[spec])}{whisker(measured)}"
            f"<small>{_counted(measured)}</small></td>"
        )
    return cells


def _superscript(won: list[str]) -> str:
    if not won:
        return ""
    shown = " ".join(won)
    return f'<sup title="significantly better than {shown}">{shown}</sup>'


def _counted(measured: Measured) -> str:
    low, high = measured.ci
    interval = f"{score(low)}–{score(high)}"
    if measured.hits is None:
        return interval
    return f"{interval}<br>{measured.hits:,} of {measured.n:,}"


def _costs(system: SystemResult) -> str:
    timed = percentiles(system)
    latency = (
        _cost(timed[0], duration(timed[0] / 1000), f"p95 {duration(timed[1] / 1000)}")
        if timed
        else _cost(None, "", "not timed")
    )
    speed, weight = system.queries_per_second, system.index.bytes
    throughput = _cost(speed, "" if speed is None else f"{speed:,.0f}", "")
    made = f"made in {duration(system.index.seconds)}"
    return latency + throughput + _cost(weight, "" if weight is None else size(weight), made)


def _cost(value: float | None, text: str, small: str) -> str:
    if value is None:
        return f'<td class="cost"><span class="dim">–</span><small>{small}</small></td>'
    return f'<td class="cost" data-v="{value!r}"><b>{text}</b><small>{small}</small></td>'


def _fact(value: object) -> str:
    if isinstance(value, Mapping | list | tuple):
        text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
        return f"<pre>{escape(cut(text, FACTS_CHARS))}</pre>"
    return f"<code>{escape(cut(clean(str(value)), FACTS_CHARS))}</code>"
