"""The plot of a benchmark: small multiples, a colour for each configuration."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from koe5_integrations.bench.results import BenchResult
from koe5_integrations.bench.tables import headline
from koe5_integrations.errors import MissingExtraError

try:
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
except ImportError as error:
    raise MissingExtraError("the plot of koe5 bench", "bench") from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["render_svg"]

# Okabe and Ito's, which the colour-blind can tell apart: https://jfly.uni-koeln.de/color/
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_PERCENTILES = ("p50", "p95", "p99")


def render_svg(result: BenchResult) -> str:
    """Draw throughput by length, waits of single questions, and the curve of callers.

    Args:
        result: of a benchmark in which at least one configuration was measured.
    """
    figure = Figure(figsize=(12, 4), layout="constrained")
    throughput, waits, callers = figure.subplots(1, 3)
    for number, each in enumerate(result.measured):
        color, name = _COLORS[number % len(_COLORS)], each.configuration.name
        points = [point for point in each.throughput if point.batch_tokens is None]
        throughput.plot(
            [point.length for point in points],
            [point.texts_per_second for point in points],
            marker="o",
            color=color,
            label=name,
        )
        for shift, found in ((0.0, each.query), (0.08, each.query_during_bulk)):
            waits.plot(
                [position + shift for position in range(len(_PERCENTILES))],
                [1000 * found.p50, 1000 * found.p95, 1000 * found.p99],
                marker="s" if shift else "o",
                linestyle=":" if shift else "-",
                color=color,
            )
        callers.plot(
            [point.callers for point in each.callers],
            [point.queries_per_second for point in each.callers],
            marker="o",
            color=color,
        )
    _label(throughput, "Bulk", "tokens in a passage", "passages a second")
    _ticks(throughput, sorted({p.length for each in result.measured for p in each.throughput}))
    _label(waits, "One question (dotted: during a bulk job)", "", "ms")
    waits.set_xticks(range(len(_PERCENTILES)), _PERCENTILES)
    _label(callers, "Concurrent callers", "callers", "questions a second, together")
    _ticks(callers, sorted({p.callers for each in result.measured for p in each.callers}))
    figure.suptitle(headline(result), wrap=True, parse_math=False)
    figure.legend(loc="outside lower center", ncols=min(4, len(result.measured)), frameon=False)
    drawn = io.StringIO()
    # The same figures make the same file; and text stays text, for fonts that know Hangul (in a
    # folder's name), which those that lines are measured with here do not.
    with (
        mpl.rc_context({"svg.hashsalt": "koe5", "svg.fonttype": "none"}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, which="major", alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _ticks(axes: Axes, values: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()
