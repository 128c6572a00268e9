"""``koe5 bench``: what this machine does with this model, and how best to run it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from koe5_integrations.cli import options
from koe5_integrations.cli.exits import CommandError
from koe5_integrations.cli.terminal import say, terminal_width

if TYPE_CHECKING:
    from koe5_integrations.bench.results import BenchResult

__all__ = ["EXIT_CODES", "bench_model"]

EXIT_CODES = (
    "Exit codes: 0 measured, and something could be recommended; 3 no configuration ran, or none "
    "is faithful enough; 2 it can't be done, and stderr says why; 130 stopped by Ctrl-C, and no "
    "process is left."
)

_NOTHING_TO_RECOMMEND = 3
# Wide enough that nothing is wrapped for a file or another program.
_UNLIMITED = 200


def bench_model(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A model of `koe5 models`, or a folder. koe5-mini is bundled and works offline.",
            show_default="nlpai-lab/KoE5",
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="What to measure: torch, onnx, openvino, static or auto, in fp32, or with a "
            "precision as torch:bf16 or onnx:int8. Give it again for another.",
            show_default="all that can run here",
        ),
    ] = None,
    lengths: Annotated[
        str, typer.Option(help="Tokens of a passage, prefix included; several with commas.")
    ] = "16,128,512",
    batch_tokens: Annotated[
        str | None,
        typer.Option(
            help="Most tokens in a pass, tried besides the backend's own choice; several with "
            "commas.",
            show_default="512,2048,8192; none with --quick",
        ),
    ] = None,
    callers: Annotated[
        str, typer.Option(help="Concurrent callers; several with commas.")
    ] = "1,4,16,64",
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Length of one measurement; there are dozens for each configuration.",
            show_default="1, or 0.2 with --quick",
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help="Measurements of each kind.", show_default="5, or 3 with --quick"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first impression: less of everything.")
    ] = False,
    fidelity_floor: Annotated[
        float,
        typer.Option(
            min=-1, max=1, help="Mean cosine to fp32 that a recommended configuration keeps."
        ),
    ] = 0.99,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for bench.json (all figures), bench.md (to paste) and bench.svg (a plot).",
            show_default="nothing is written",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print bench.json instead of the tables.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    profile: options.Profile = None,
    revision: options.Revision = None,
    query_prompt: options.QueryPrompt = None,
    passage_prompt: options.PassagePrompt = None,
    device: options.Device = None,
    max_seq_length: options.MaxSeqLength = None,
    truncate_dim: options.TruncateDim = None,
    cache_folder: options.CacheFolder = None,
) -> None:
    """Measure this model on this machine, and recommend how to run it.

    Passages a second by length, waits of questions, many callers at once,
    memory and time of loading, for each backend in a process of its own,
    in turns; with what each loses against fp32.
    """
    given = {
        "profile": profile,
        "revision": revision,
        "query_prompt": query_prompt,
        "passage_prompt": passage_prompt,
        "device": device,
        "max_seq_length": max_seq_length,
        "truncate_dim": truncate_dim,
        "cache_folder": cache_folder,
    }

    from koe5_integrations.bench.files import check_output, write_bench
    from koe5_integrations.bench.running import run_bench
    from koe5_integrations.profiles import DEFAULT_MODEL

    if output is not None:
        check_output(output)
    encoder_options = {key: value for key, value in given.items() if value is not None}
    result = run_bench(
        model or DEFAULT_MODEL,
        backends=backend,
        lengths=_numbers("--lengths", lengths),
        batch_tokens=None if batch_tokens is None else _numbers("--batch-tokens", batch_tokens),
        callers=_numbers("--callers", callers),
        seconds=seconds,
        rounds=rounds,
        quick=quick,
        fidelity_floor=fidelity_floor,
        encoder_options=encoder_options,
        progress=not quiet and sys.stderr.isatty(),
    )
    _show(result, as_json=as_json)
    if output is not None:
        write_bench(result, output)
        if not quiet:
            say(f"written to {output}: bench.json, bench.md and bench.svg")
    if result.recommendation.bulk is None:
        raise typer.Exit(_NOTHING_TO_RECOMMEND)


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise CommandError(f"{option} {text!r} must be whole numbers with commas: 16,128") from None


def _show(result: BenchResult, *, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from koe5_integrations.bench.tables import headline, remarks, tables

    if as_json:
        from koe5_integrations.evaluation.files import to_json

        typer.echo(to_json(result.as_json()), nl=False)
        return
    console = Console(width=terminal_width() or _UNLIMITED, highlight=False)
    console.print(Text(headline(result), style="bold"))
    for each in tables(result):
        console.print()
        console.print(Text(each.title))
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for number, name in enumerate(each.header):
            table.add_column(
                name,
                justify="right" if number else "left",
                style=None if number else "cyan",
            )
        for row in each.rows:
            # Text, so that no bracket is taken for markup.
            table.add_row(*map(Text, row))
        console.print(table)
    console.print()
    for remark in remarks(result):
        console.print(Text(remark, style="yellow"))
    console.print(Text(result.recommendation.text))
