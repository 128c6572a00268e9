"""The measurements as a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

_HEAD = (
    "| peer | passages/s | ratio | short sentences/s | ratio | one query p50, p95 (ms) | ratio of "
    "time | 64 callers, queries/s | ratio | load (s) | peak (GB) | cosine | largest difference |\n"
    "|---|" + "--:|" * 12
)


def markdown(results: Mapping[str, Any]) -> str:
    """Return what was measured so far, as Markdown.

    Rates are medians over the turns. A ratio is the median of each turn's ratio to the reference,
    which had its turn within the same minutes.
    """
    lines = [
        f"{results['layers']} layers, random weights; {results['machine']}. Ratios are to "
        f"{results['reference']}. The peers are given texts that have the prefix already.",
        "",
        _HEAD,
        *(_row(name, row) for name, row in results["rows"].items()),
        "",
        *_padding(results["padding"]),
        "",
        *(
            f"- {environment}: {', '.join(f'{name} {v}' for name, v in found.items())}"
            for environment, found in results["versions"].items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, row: Mapping[str, Any]) -> str:
    if "unavailable" in row:
        name += f" (not measured: {row['unavailable']})"
    cells = [
        *_rate(row.get("passages")),
        *_rate(row.get("sentences")),
        *_query(row.get("query")),
        *_rate(row.get("callers")),
        f"{row['load']:.1f}" if "load" in row else "",
        f"{row['peak_mb'] / 1000:.1f}" if "peak_mb" in row else "",
        f"{row['cosine']:.5f}" if "cosine" in row else "",
        f"{row['difference']:.0e}" if "difference" in row else "",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _rate(turns: list[dict[str, float]] | None) -> list[str]:
    if not turns:
        return ["", ""]
    rate = statistics.median(turn["texts"] / turn["seconds"] for turn in turns)
    ratio = statistics.median(turn["reference"] / turn["seconds"] for turn in turns)
    return [f"{rate:.3g}", f"{ratio:.2f}x"]


def _query(turns: list[dict[str, Any]] | None) -> list[str]:
    if not turns:
        return ["", ""]
    all_ms = sorted(1000 * seconds for turn in turns for seconds in turn["each"])
    p95 = all_ms[min(len(all_ms) - 1, round(0.95 * len(all_ms)))]
    ratio = statistics.median(
        statistics.median(turn["each"]) / statistics.median(turn["reference_each"])
        for turn in turns
    )
    return [f"{statistics.median(all_ms):.0f}, {p95:.0f}", f"{ratio:.2f}"]


def _padding(padding: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Padded over real tokens: one line per way of batching, the whole set and the sample."""
    columns = [(name, part) for name, parts in padding.items() for part in parts]
    batchings = next(iter(padding.values()))["all"]
    return [
        "Padded over real tokens:",
        "",
        "| batches | " + " | ".join(f"{name}, {part}" for name, part in columns) + " |",
        "|---|" + "--:|" * len(columns),
        *(
            f"| {batching} | "
            + " | ".join(f"{padding[name][part][batching]:.3f}" for name, part in columns)
            + " |"
            for batching in batchings
        ),
    ]
