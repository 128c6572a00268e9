"""``koe5 evaluate``: how well systems retrieve, and whether the difference means anything."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from koe5_integrations.cli import options
from koe5_integrations.cli.exits import CommandError
from koe5_integrations.cli.seed_tables import published_models, run_replay, run_sts
from koe5_integrations.cli.terminal import say, terminal_width

if TYPE_CHECKING:
    from koe5_integrations.evaluation.gates import Baseline, Threshold, Verdict
    from koe5_integrations.evaluation.results import EvalResult

__all__ = ["EXIT_CODES", "evaluate_retrieval"]

EXIT_CODES = (
    "Exit codes: 0 done, and every gate passed; 3 done and written, but a gate of --fail-under or "
    "--no-regression failed; 2 it can't be done, and stderr says why. What was finished before an "
    "interruption (130) is kept in --out, and the same command goes on from there."
)


class Ablation(StrEnum):
    """The package's ablations, spelled out because importing them would import numpy for --help."""

    prefix = "prefix"
    unicode = "unicode"
    spacing = "spacing"
    truncation = "truncation"


_GATE_FAILED = 3
# Wide enough that nothing is wrapped for a file or another program.
_UNLIMITED = 200
_GATES = "Gates for continuous integration"
_SEEDS = "The seeds' own tables"
_FLOOR = "bm25:bigram"


def evaluate_retrieval(
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="A set by name (python_faq_ko and belebele_ko are shipped; ko-strategyqa, autorag "
            "and publichealthqa are fetched, or read from --data-dir), or a folder: BEIR "
            "(corpus.jsonl, queries.jsonl, qrels.tsv), AutoRAG parquet, or TREC. Give it again for "
            "another set.",
            show_default=False,
        ),
    ] = None,
    system: Annotated[
        list[str] | None,
        typer.Option(
            help="What to measure: bm25:bigram, bm25:whitespace, bm25:char, bm25:kiwi, "
            "dense:MODEL, chroma:MODEL, hybrid:SPEC+SPEC, or python:module:attribute for a "
            "LangChain or LlamaIndex retriever of your own. dense:MODEL@256 cuts vectors, @int8, "
            "@binary, @binary-int8, @binary-float and @hamming compress them, @256@int8 does both. "
            "Give it again for another.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for metrics.json, per_query.jsonl, report.md, report.html, run.trec and "
            "mteb's layout. Each file appears when complete.",
            show_default="nothing is written",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of data sets already on this machine.", show_default="none"),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="ndcg@10, recall@5, mrr@10, map@10, precision@3, success@1, f1_of_means@3, "
            "mean_f1@3. Give it again for another.",
            show_default="all at 1, 3, 5, 10 and 100",
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Documents retrieved per question.")] = 100,
    lexical_floor: Annotated[
        bool,
        typer.Option(
            "--lexical-floor/--no-lexical-floor",
            help=f"Measure {_FLOOR} too, which no embedding should fall below.",
        ),
    ] = True,
    ablation: Annotated[
        list[Ablation] | None,
        typer.Option(
            help="Run each system again under a change: no, swapped and doubled prefixes; "
            "decomposed Hangul; spaces lost or in wrong places. Or count what is cut at 512 "
            "tokens. Give it again for another.",
            show_default="none",
        ),
    ] = None,
    latency_queries: Annotated[
        int, typer.Option(min=0, help="Questions asked one at a time, to time them; 0 for none.")
    ] = 50,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            help="Keep embeddings here, so that another evaluation computes only what is new.",
            show_default="none kept",
        ),
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with 3 if a measure is lower: ndcg@10=0.80 for the first --system, or "
            "SPEC:ndcg@10=0.80 for another. Give it again for another.",
            show_default="no threshold",
            rich_help_panel=_GATES,
        ),
    ] = None,
    no_regression: Annotated[
        Path | None,
        typer.Option(
            help="Exit with 3 if a system's ndcg@10 (or else the first --measure) is significantly "
            "lower than in an earlier run: its folder or its baseline.json.",
            show_default="no comparison",
            rich_help_panel=_GATES,
        ),
    ] = None,
    replay: Annotated[
        bool,
        typer.Option(
            "--replay",
            help="Hold results against published ones, cell by cell: reproduced, within N hits, "
            "different, or known to be bad. Alone, it shows what is published of KoE5.",
            rich_help_panel=_SEEDS,
        ),
    ] = False,
    replay_as: Annotated[
        str | None,
        typer.Option(
            help="The published model that the first dense --system is a copy of.",
            show_default="the one it is named as",
            rich_help_panel=_SEEDS,
        ),
    ] = None,
    sts: Annotated[
        list[str] | None,
        typer.Option(
            help="Correlate dense systems with human scores of sentence pairs: korsts, klue-sts, "
            "or a file in either form. Needs no --dataset. Give it again for another.",
            show_default="none",
            rich_help_panel=_SEEDS,
        ),
    ] = None,
    sts_prefix: Annotated[
        Literal["none", "query", "passage"],
        typer.Option(help="Put before the sentences of --sts.", rich_help_panel=_SEEDS),
    ] = "none",
    sts_dim: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Also cut vectors to so many dimensions (Matryoshka). Give it again for another.",
            show_default="all dimensions only",
            rich_help_panel=_SEEDS,
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bars, and no table on stdout.")
    ] = False,
    device: options.Device = None,
    precision: options.Precision = None,
    batch_size: options.BatchSize = None,
    max_seq_length: options.MaxSeqLength = None,
    truncate_dim: options.TruncateDim = None,
    cache_folder: options.CacheFolder = None,
) -> None:
    """Measure retrieval on a benchmark or on your own documents.

    Every number comes with a 95% interval and its number of questions,
    every difference with a paired test; the lexical floor is always beside.
    """
    systems = system or []
    if not dataset and not sts and not (replay and not systems):
        raise CommandError("--dataset is missing: python_faq_ko is shipped and works offline")
    if not systems and not (replay and not dataset and not sts):
        raise CommandError(
            "--system is missing: bm25:bigram, or dense:MODEL such as dense:koe5-mini"
        )
    encoder_options = options.chosen(locals())

    from koe5_integrations.evaluation.files import check_folder, write_whole
    from koe5_integrations.evaluation.gates import Baseline, Threshold, check_system
    from koe5_integrations.evaluation.harness import evaluate

    thresholds = [Threshold.parse(text) for text in fail_under or []]
    for threshold in thresholds:
        if threshold.spec is not None:
            check_system(threshold.spec, [*systems, *([_FLOOR] if lexical_floor else [])])
    if out is not None:
        check_folder(out)
    baseline = Baseline.read(no_regression) if no_regression else None
    if len(dataset or []) > 1 and baseline:
        raise CommandError("--no-regression compares one --dataset; run the command for each")
    models = published_models(systems, replay_as) if replay or replay_as else {}
    failed = False
    results = []
    for name, folder in _folders(dataset or [], out):
        result = evaluate(
            name,
            systems,
            measures=_measures(measure, thresholds, top_k),
            top_k=top_k,
            lexical_floor=lexical_floor,
            ablations=[each.value for each in ablation or []],
            out=folder,
            data_dir=data_dir,
            cache_dir=cache_dir,
            encoder_options=encoder_options,
            latency_queries=latency_queries,
            progress=not quiet and sys.stderr.isatty(),
            command=shlex.join(["koe5", *sys.argv[1:]]),
        )
        results.append(result)
        failed |= _report(result, thresholds, baseline, folder, quiet=quiet)
    if out is not None and len(results) > 1:
        from koe5_integrations.evaluation.report_markdown import table_in_seed_form

        write_whole(out, {"seed_table.md": [table_in_seed_form(results) + "\n"]})
    if replay or replay_as:
        run_replay(results, models, out)
    for pairs in sts or []:
        run_sts(
            pairs,
            systems,
            prefix=sts_prefix,
            dims=sts_dim or [],
            data_dir=data_dir,
            encoder_options=encoder_options,
            out=out,
        )
    if failed:
        raise typer.Exit(_GATE_FAILED)


def _folders(datasets: list[str], out: Path | None) -> list[tuple[str, Path | None]]:
    """Return each data set with the folder of its results: --out, or, for several, one in it."""
    if out is None or len(datasets) == 1:
        return [(name, out) for name in datasets]
    from koe5_integrations.evaluation.names import slug

    names = [Path(name).name for name in datasets]
    for name in names:
        if names.count(name) > 1:
            raise CommandError(f"two --dataset are called {name!r}: rename a folder")
    return [(given, out / slug(name)) for given, name in zip(datasets, names, strict=True)]


def _measures(given: list[str] | None, thresholds: list[Threshold], top_k: int) -> list[str]:
    """Return what to measure: what was asked for, and what the gates need."""
    from koe5_integrations.evaluation.measures import MEASURES, parse_measure

    chosen = given or [name for name in MEASURES if parse_measure(name).k <= top_k]
    return list(dict.fromkeys([*chosen, *(threshold.measure for threshold in thresholds)]))


def _report(
    result: EvalResult,
    thresholds: list[Threshold],
    baseline: Baseline | None,
    folder: Path | None,
    *,
    quiet: bool,
) -> bool:
    """Print a result and its gates; return whether one of them failed."""
    from rich.console import Console

    from koe5_integrations.evaluation.gates import check_regression, check_thresholds
    from koe5_integrations.evaluation.report_terminal import print_gates, print_result
    from koe5_integrations.evaluation.verdict import headlines

    console = Console(width=terminal_width() or _UNLIMITED, highlight=False)
    if not quiet:
        print_result(result, console)
    verdicts: list[Verdict] = check_thresholds(result, thresholds)
    if baseline is not None:
        first = next(iter(result.systems.values()))
        verdicts += check_regression(result, baseline, headlines(list(first.per_query))[:1])
    print_gates(verdicts, console)
    if folder is not None and not quiet:
        say(f"written to {folder}: report.html, report.md, metrics.json and more")
    return not all(verdict.passed for verdict in verdicts)
