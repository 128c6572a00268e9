"""Inline SVG plots. Places along an axis are percentages, so that a plot fits any width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from koe5_integrations.evaluation.html.axes import LinearAxis, LogAxis
from koe5_integrations.evaluation.html.words import by_value, escape, marks, score, spec_code
from koe5_integrations.evaluation.results import EvalResult, Measured, SystemResult
from koe5_integrations.evaluation.verdict import letters, title, wins


@dataclass(frozen=True, slots=True)
class Cost:
    """What quality is set against.

    Attributes:
        of: a system's cost, above 0; None where it is not known.
        written: a cost in words, with its unit.
        name: what it is: ``median latency``.
        missing: why a system has none, said of those left out.
        base: of its round numbers: 10, or 2 for bytes.
    """

    of: Callable[[SystemResult], float | None]
    written: Callable[[float], str]
    name: str
    missing: str
    base: int = 10


class _Point(NamedTuple):
    spec: str
    cost: float
    measured: Measured


def whisker(measured: Measured) -> str:
    """Return a value and its interval as a small bar on the scale 0 to 1."""
    low, high = measured.ci
    return (
        '<svg class="whisker" aria-hidden="true">'
        '<line class="track" x1="0" x2="100%" y1="5" y2="5"/>'
        f'<line class="interval" x1="{_percent(low)}" x2="{_percent(high)}" y1="5" y2="5"/>'
        f'<circle cx="{_percent(measured.value)}" cy="5" r="3"/></svg>'
    )


def forest(result: EvalResult, measure: str) -> str:
    """Return one row per system, best first, with the measure's interval on a shared axis.

    A hollow marker is a system that the best one beats significantly.
    """
    ranked = by_value(result, measure)
    axis = LinearAxis.of(v for system in ranked for v in _range(system.measures[measure]))
    mark = marks(result)
    lost = wins(result, measure, result.systems)[ranked[0].spec]
    ticks = [(_percent(axis.place(tick)), f"{tick:.2f}") for tick in axis.ticks()]
    grid = "".join(f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="100%"/>' for x, _ in ticks)
    rows = []
    for system in ranked:
        measured, (letter, colour) = system.measures[measure], mark[system.spec]
        x, low, high = (_percent(axis.place(value)) for value in _range(measured))
        rows.append(
            f'<div class="name">{mark[system.spec].badge} {spec_code(system.spec)}</div>'
            f'<svg class="row {colour}" role="img" aria-label="interval {score(measured.ci[0])} to '
            f'{score(measured.ci[1])}">{grid}'
            f'<line class="interval" x1="{low}" x2="{high}" y1="50%" y2="50%"/>'
            f'<circle class="{"hollow" if letter in lost else "filled"}" cx="{x}" cy="50%" r="5"/>'
            f'</svg><div class="value">{score(measured.value)}</div>'
        )
    labels = "".join(f'<text x="{x}" y="14">{text}</text>' for x, text in ticks)
    return (
        f'<div class="forest">{"".join(rows)}'
        f'<svg class="axis" aria-hidden="true">{labels}</svg></div>'
    )


def scatter(result: EvalResult, measure: str, cost: Cost) -> str:
    """Return a figure of quality, with its interval, against a cost on a logarithmic axis."""
    points, left_out = [], []
    for spec, system in result.systems.items():
        value = cost.of(system)
        if value is None or value <= 0:
            left_out.append(spec)
        else:
            points.append(_Point(spec, value, system.measures[measure]))
    name = f"{title(measure)} against {cost.name}"
    note = ""
    if left_out:
        shown = " ".join(marks(result)[spec].badge for spec in left_out)
        note = f'<p class="note">Not shown: {shown} {escape(cost.missing)}.</p>'
    if points:
        said = "; ".join(
            f"{p.spec} {score(p.measured.value)} at {cost.written(p.cost)}" for p in points
        )
        plot = (
            f'<svg class="scatter" role="img" aria-label="{escape(f"{name}: {said}")}">'
            f"{_plotted(result, points, cost)}</svg>"
        )
    else:
        plot = '<p class="empty">Nothing to plot.</p>'
    return f"<figure><figcaption>{escape(name)}</figcaption>{plot}{note}</figure>"


def _plotted(result: EvalResult, points: list[_Point], cost: Cost) -> str:
    quality = LinearAxis.of(value for point in points for value in _range(point.measured))
    costs = LogAxis.of((point.cost for point in points), cost.base)

    def across(value: float) -> str:
        return _percent(costs.place(value))

    def up(value: float) -> str:
        return _percent(1 - quality.place(value))

    parts = [
        f'<line class="grid" x1="0" x2="100%" y1="{up(tick)}" y2="{up(tick)}"/>'
        f'<text class="y" x="-8" y="{up(tick)}" dy="4">{tick:.2f}</text>'
        for tick in quality.ticks()
    ]
    parts += [
        f'<line class="grid" x1="{across(tick)}" x2="{across(tick)}" y1="0" y2="100%"/>'
        f'<text class="x" x="{across(tick)}" y="100%" dy="18">{cost.written(tick)}</text>'
        for tick in costs.ticks()
    ]
    front = [(across(point.cost), up(point.measured.value)) for point in _front(points)]
    parts += [
        f'<line class="front" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'
        for (x1, y1), (x2, y2) in pairwise(front)
    ]
    mark, letter = marks(result), letters(result)
    for spec, value, measured in points:
        x, y = across(value), up(measured.value)
        low, high = map(up, measured.ci)
        parts.append(
            f'<g class="{mark[spec].colour}"><title>{escape(spec)}: {score(measured.value)} at '
            f"{cost.written(value)}</title>"
            f'<line class="interval" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>'
            f'<circle cx="{x}" cy="{y}" r="10"/>'
            f'<text class="mark" x="{x}" y="{y}" dy="4">{letter[spec]}</text></g>'
        )
    return "".join(parts)


def _front(points: list[_Point]) -> list[_Point]:
    """Return the points that no other beats on both axes, cheapest first."""
    kept: list[_Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.measured.value)):
        if not kept or point.measured.value > kept[-1].measured.value:
            kept.append(point)
    return kept


def _range(measured: Measured) -> tuple[float, float, float]:
    return (measured.value, *measured.ci)


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"
