"""The files of a benchmark: ``bench.json``, ``bench.md`` and ``bench.svg``."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from koe5_integrations.bench.results import BenchResult
from koe5_integrations.bench.tables import Table, headline, remarks, tables
from koe5_integrations.errors import ConfigError, MissingExtraError
from koe5_integrations.evaluation.files import to_json, write_whole

__all__ = ["check_output", "render_markdown", "write_bench"]


def check_output(folder: Path) -> None:
    """Make the folder, before anything is measured, and check that all can be written into it.

    Raises:
        ConfigError: it is no folder, or can't be written.
        MissingExtraError: matplotlib, which draws the plot, is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("output= (its plot)", "bench")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"output={str(folder)!r} can't be made ({error.strerror}); choose another folder"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"output={str(folder)!r} can't be written: no permission")


def write_bench(result: BenchResult, folder: Path) -> list[Path]:
    """Write all figures as JSON, the tables as Markdown and a plot as SVG; return the paths.

    Files of these names are replaced, none before all are complete; others are left alone.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: the disk is full, or the folder can't be written; no file is changed then.
    """
    from koe5_integrations.bench.plot import render_svg

    contents = {
        "bench.json": [to_json(result.as_json())],
        "bench.md": [render_markdown(result)],
    }
    if result.measured:
        contents["bench.svg"] = [render_svg(result)]
    return write_whole(folder, contents)


def render_markdown(result: BenchResult) -> str:
    """Return the tables for pasting into an issue or a page."""
    machine = result.machine
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    settings = result.settings
    parts = [
        f"### koe5 bench: {headline(result)}",
        result.recommendation.text,
        *(_markdown_table(each) for each in tables(result)),
        *(f"- {remark}" for remark in remarks(result)),
        f"Medians of {settings['rounds']} rounds of {settings['seconds']:g} s, in which the "
        "configurations took turns; percentiles of single questions over all rounds. "
        f"{result.recommendation.rule}",
        f"{machine['system']} {machine['architecture']}; {versions}; model fingerprint "
        f"{result.model['fingerprint']}; {result.created}",
    ]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = ["---", *(["---:"] * (len(table.header) - 1))]
    return "\n".join(
        [f"**{table.title}**", "", line(table.header), line(rule), *map(line, table.rows)]
    )
