"""Measure retrieval: a benchmark or your own documents, any retriever, numbers with their limits.

::

    from koe5_integrations.evaluation import evaluate

    result = evaluate("python_faq_ko", ["dense:koe5-mini", my_langchain_retriever], out="verdict")

Importing this package loads no model library and no framework; names are resolved when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from koe5_integrations.evaluation.datasets import (
        DatasetError,
        RetrievalDataset,
        StsDataset,
        load_dataset,
        load_sts,
    )
    from koe5_integrations.evaluation.gates import (
        Baseline,
        Threshold,
        check_regression,
        check_thresholds,
    )
    from koe5_integrations.evaluation.harness import evaluate
    from koe5_integrations.evaluation.measures import MEASURES
    from koe5_integrations.evaluation.report_html import render_html
    from koe5_integrations.evaluation.report_markdown import render_markdown
    from koe5_integrations.evaluation.results import (
        Comparison,
        EvalResult,
        Hit,
        IndexStats,
        Measured,
        System,
        SystemResult,
    )
    from koe5_integrations.evaluation.significance import compare, score
    from koe5_integrations.evaluation.sts import evaluate_sts, sts_table
    from koe5_integrations.evaluation.systems.specs import as_system

_HOME = {
    "MEASURES": "measures",
    "Baseline": "gates",
    "Comparison": "results",
    "DatasetError": "datasets",
    "EvalResult": "results",
    "Hit": "results",
    "IndexStats": "results",
    "Measured": "results",
    "RetrievalDataset": "datasets",
    "System": "results",
    "SystemResult": "results",
    "Threshold": "gates",
    "as_system": "systems.specs",
    "check_regression": "gates",
    "check_thresholds": "gates",
    "compare": "significance",
    "evaluate": "harness",
    "evaluate_sts": "sts",
    "load_sts": "datasets",
    "StsDataset": "datasets",
    "load_dataset": "datasets",
    "render_html": "report_html",
    "render_markdown": "report_markdown",
    "score": "significance",
    "sts_table": "sts",
}

__all__ = [
    "MEASURES",
    "Baseline",
    "Comparison",
    "DatasetError",
    "EvalResult",
    "Hit",
    "IndexStats",
    "Measured",
    "RetrievalDataset",
    "StsDataset",
    "System",
    "SystemResult",
    "Threshold",
    "as_system",
    "check_regression",
    "check_thresholds",
    "compare",
    "evaluate",
    "evaluate_sts",
    "load_dataset",
    "load_sts",
    "render_html",
    "render_markdown",
    "score",
    "sts_table",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
