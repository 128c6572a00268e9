"""A run's curves: loss and dev metric over updates."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from koe5_integrations.errors import MissingExtraError
from koe5_integrations.ingestion.shards.durable import new_file

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError("the curves of a run", "train") from error

__all__ = ["draw_curves"]


def draw_curves(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write a picture, the same for the same rows.

    Args:
        rows: of ``metrics.jsonl``.
        file: a PNG.
    """
    training = [row for row in rows if "loss" in row]
    measured = [row for row in rows if "dev" in row]
    figure = Figure(figsize=(10, 4) if measured else (5, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if measured else 1, squeeze=False)[0]
    names = list(dict.fromkeys(name for row in training for name in row["losses"]))
    for name in names:
        points = [(row["step"], row["losses"][name]) for row in training if name in row["losses"]]
        panels[0].plot(*zip(*points, strict=True), label=name)
    panels[0].set_title("loss")
    if len(names) > 1:
        panels[0].legend(frameon=False)
    if measured:
        steps = [row["step"] for row in measured]
        panels[1].plot(steps, [row["primary"] for row in measured], marker="o", color="#009E73")
        panels[1].set_title("dev metric (higher is better)")
    for axes in panels:
        axes.set_xlabel("update")
        axes.grid(visible=True, alpha=0.3)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    with new_file(file) as stream:
        stream.write(drawn.getvalue())
