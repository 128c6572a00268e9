"""The evaluation as one HTML file: self-contained, offline, readable without knowing the code."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from koe5_integrations.evaluation.html.conclusions import (
    comparisons_html,
    verdict_html,
    warnings_html,
)
from koe5_integrations.evaluation.html.drilldown import SHOWN_HITS, drilldown_data, to_script_json
from koe5_integrations.evaluation.html.plots import Cost, forest, scatter
from koe5_integrations.evaluation.html.table import chips_html, facts_html, systems_table
from koe5_integrations.evaluation.html.words import (
    cutoff,
    duration,
    escape,
    main_measure,
    marks,
    named,
    plural,
    relevant_per_query,
    size,
)
from koe5_integrations.evaluation.results import EvalResult, SystemResult
from koe5_integrations.evaluation.verdict import percentiles, title

if TYPE_CHECKING:
    from koe5_integrations.evaluation.datasets import RetrievalDataset

__all__ = ["render_html"]


def _median_latency(system: SystemResult) -> float | None:
    timed = percentiles(system)
    return timed[0] / 1000 if timed else None


_COSTS = {
    "latency": Cost(_median_latency, duration, "median latency", "not timed query by query"),
    "index": Cost(lambda s: s.index.bytes, size, "index size", "of unknown index size", base=2),
}


def render_html(result: EvalResult, dataset: RetrievalDataset) -> str:
    """Return a self-contained HTML page that shows an evaluation.

    It asks nothing of any network: style, script and data are inside it, and its content security
    policy forbids everything else. Every text of the data set, a system or the manifest is escaped.
    Bounds of its size: 10 retrieved and 20 expected documents a query, 2,000 queries (those where
    the systems disagree most) or 20,000 documents, each text once and cut to 600 characters, 4
    million characters of document text in all; a cut is said on the page.

    Args:
        result: the evaluation.
        dataset: the data set it was made on, for its texts.

    Returns:
        The page; write it as UTF-8.

    Raises:
        ValueError: the result holds no system, or its systems have no measure in common.
    """
    main = main_measure(result)
    if main is None:
        raise ValueError(
            "nothing to report: the evaluation needs a system, and its systems a measure in "
            f"common; systems: {list(result.systems)!r}. Evaluate at least one system"
        )
    data = drilldown_data(result, dataset, main)
    style, script = _asset("page.css"), _asset("page.js")
    return Template(_asset("page.html")).substitute(
        policy=(
            f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        style=style,
        script=script,
        name=escape(dataset.name),
        dataset_facts=_dataset_facts(dataset),
        warnings=warnings_html(result),
        verdict=verdict_html(result, main),
        chips=chips_html(result, cutoff(main)),
        table=systems_table(result, main),
        comparisons=comparisons_html(result, main),
        label=escape(title(main)),
        forest=forest(result, main),
        **{name: scatter(result, main, cost) for name, cost in _COSTS.items()},
        limits=(
            f"Of what a system retrieved, the first {SHOWN_HITS} documents are shown; texts are "
            f"cut after {data['documentChars']} characters."
        ),
        legend=_legend(result),
        data=to_script_json(data),
        systems=_system_facts(result),
        manifest=facts_html(result.manifest) or "<p>The evaluation has no manifest.</p>",
    )


def _asset(name: str) -> str:
    return (files("koe5_integrations.evaluation") / "html" / name).read_text(encoding="utf-8")


def _hash(inline: str) -> str:
    """Return the source by which the policy allows exactly this inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()


def _dataset_facts(dataset: RetrievalDataset) -> str:
    each = relevant_per_query(dataset.qrels)
    known = (("licence", dataset.licence), ("from", dataset.source))
    facts = [
        plural(len(dataset.qrels), "query", "queries"),
        plural(len(dataset.corpus), "document"),
        f"{each:.3g} relevant per query",
        *(f"{name} {text}" for name, text in known if text),
        f"sha256 {dataset.sha256[:12]}…",
    ]
    return "".join(f"<li>{escape(fact)}</li>" for fact in facts)


def _legend(result: EvalResult) -> str:
    items = "".join(f"<li>{named(mark, spec)}</li>" for spec, mark in marks(result).items())
    return f'<ul class="legend">{items}</ul>'


def _system_facts(result: EvalResult) -> str:
    return "".join(
        f"<h3>{named(mark, spec)}</h3>"
        f"{facts_html(result.systems[spec].facts) or '<p>It says nothing of itself.</p>'}"
        for spec, mark in marks(result).items()
    )
