"""``koe5 export``: a model as a graph that runs without torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from koe5_integrations.cli import options
from koe5_integrations.cli.terminal import say, terminal_width

if TYPE_CHECKING:
    from rich.table import Table

    from koe5_integrations.exporting import Fidelity

__all__ = ["export_model"]

# Wide enough that nothing is wrapped for a file or another program.
_UNLIMITED = 200


def export_model(
    to: Annotated[Literal["onnx", "openvino"], typer.Option(help="What is to run the model.")],
    model: Annotated[
        str | None,
        typer.Argument(
            help="A model of `koe5 models`, or a folder.", show_default="nlpai-lab/KoE5"
        ),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Weights in 8 bits, for CPUs: a quarter of the size, faster, not exact."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="New folder to write. It appears when complete.",
            show_default="where encoders of the model find it",
        ),
    ] = None,
    min_cosine: Annotated[
        float | None,
        typer.Option(
            help="Don't keep an export whose cosine to fp32 is lower: that of the worst text, or, "
            "with --int8, the mean.",
            show_default="0.9999; with --int8 0.99",
        ),
    ] = None,
    keep_anyway: Annotated[
        bool, typer.Option("--keep-anyway", help="Keep the export whatever it lost.")
    ] = False,
    sample: Annotated[
        int,
        typer.Option(
            min=1,
            help="Questions of each shipped set on which that is measured, with their passages.",
        ),
    ] = 64,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress, and no table on stdout.")
    ] = False,
    profile: options.Profile = None,
    revision: options.Revision = None,
    query_prompt: options.QueryPrompt = None,
    passage_prompt: options.PassagePrompt = None,
    cache_folder: options.CacheFolder = None,
) -> None:
    """Write a model as a graph that runs without torch, sooner than with it.

    The folder also holds tokenizer and configuration and can be opened by its path, on any machine,
    offline. Before it is kept, its vectors are held against those of torch in fp32 on Korean
    questions and passages: on two cores, a minute or two for KoE5.
    """
    from koe5_integrations.exporting import export_model as run
    from koe5_integrations.profiles import DEFAULT_MODEL

    def show(fidelity: Fidelity) -> None:
        if not quiet:
            from rich.console import Console

            console = Console(width=terminal_width() or _UNLIMITED, highlight=False)
            console.print(_table(fidelity))

    exported = run(
        model or DEFAULT_MODEL,
        to=to,
        int8=int8,
        output=output,
        min_cosine=min_cosine,
        keep_anyway=keep_anyway,
        sample=sample,
        profile=profile,
        revision=revision,
        query_prompt=query_prompt,
        passage_prompt=passage_prompt,
        cache_folder=cache_folder,
        on_step=(lambda step: None) if quiet else say,
        on_fidelity=show,
        show_progress=not quiet and sys.stderr.isatty(),
    )
    if not quiet:
        megabytes = sum(exported.export.sizes.values()) / 1e6
        say(f"written to {exported.folder} ({megabytes:,.0f} MB)")


def _table(fidelity: Fidelity) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(f"against fp32 on {fidelity.texts} Korean texts")
    for name in ("fp32", "export", "difference"):
        table.add_column(name, justify="right")
    for name, cosine in (
        ("cosine, mean", fidelity.mean_cosine),
        ("cosine, 1% are below", fidelity.p1_cosine),
        ("cosine, least", fidelity.min_cosine),
    ):
        table.add_row(name, "", f"{cosine:.6f}", "")
    for name, (model, export) in fidelity.ndcg.items():
        row = (f"{model:.4f}", f"{export:.4f}", f"{export - model:+.4f}")
        table.add_row(f"nDCG@10, sample of {name}", *row)
    return table
