"""``koe5 train mine-negatives``: pairs to triplets."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from koe5_integrations.cli import options
from koe5_integrations.cli.ingest_output import show
from koe5_integrations.cli.terminal import say

__all__ = ["mine"]

_WHICH = "What becomes a negative"
_DATA = "The data"


def mine(
    data: Annotated[
        list[str],
        typer.Option(
            help="Pairs of a question and its answer: a Parquet, JSONL, JSON, CSV or TSV file, a "
            "folder of them, or a data set on the hub. Give it again for another.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Parquet file of triplets to write. It appears when complete.",
            show_default=False,
        ),
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over --out if it is there.")
    ] = False,
    embedding_cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps vectors, so that another run need not compute them again.",
            file_okay=False,
            show_default="none kept",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as JSON on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table.")] = False,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            help="More passages to choose negatives from: a file or folder of texts or pairs. Give "
            "it again for another.",
            show_default="the answers only",
            rich_help_panel=_DATA,
        ),
    ] = None,
    data_revision: Annotated[
        str | None,
        typer.Option(help="Commit, branch or tag of a data set on the hub.", rich_help_panel=_DATA),
    ] = None,
    query_column: Annotated[
        str | None,
        typer.Option(
            help="Column of the questions.",
            show_default="query, question, anchor, …",
            rich_help_panel=_DATA,
        ),
    ] = None,
    positive_column: Annotated[
        str | None,
        typer.Option(
            help="Column of the answers.",
            show_default="positive, passage, answer, …",
            rich_help_panel=_DATA,
        ),
    ] = None,
    num_negatives: Annotated[
        int, typer.Option(min=1, help="Negatives of each pair, at most.", rich_help_panel=_WHICH)
    ] = 1,
    range_min: Annotated[
        int,
        typer.Option(
            min=0,
            help="Nearest passages to pass over: they may be answers nobody has marked.",
            rich_help_panel=_WHICH,
        ),
    ] = 0,
    range_max: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rank up to which passages are looked at.",
            show_default="50, or 10 a negative, beyond --range-min",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    max_score: Annotated[
        float | None,
        typer.Option(help="Highest cosine with the question.", rich_help_panel=_WHICH),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(help="Lowest cosine with the question.", rich_help_panel=_WHICH),
    ] = None,
    absolute_margin: Annotated[
        float | None,
        typer.Option(
            help="How far its cosine must be below that of the right answer.",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    relative_margin: Annotated[
        float,
        typer.Option(
            help="The same, as a share of the right answer's cosine; 0 for none.",
            rich_help_panel=_WHICH,
        ),
    ] = 0.05,
    near_duplicate: Annotated[
        float,
        typer.Option(
            max=1,
            help="Share of letters in sequence from which on two passages are the same but for "
            "details, and not each other's negatives; 0 compares none.",
            rich_help_panel=_WHICH,
        ),
    ] = 0.8,
    sampling: Annotated[
        Literal["top", "random"],
        typer.Option(
            help="Take the nearest that are left, or any of them.", rich_help_panel=_WHICH
        ),
    ] = "top",
    seed: Annotated[int, typer.Option(help="Of the random ones.", rich_help_panel=_WHICH)] = 777,
    model: options.Model = None,
    profile: options.Profile = None,
    revision: options.Revision = None,
    query_prompt: options.QueryPrompt = None,
    passage_prompt: options.PassagePrompt = None,
    backend: options.Backend = None,
    base_url: options.BaseUrl = None,
    api_key_env: options.ApiKeyEnv = None,
    device: options.Device = None,
    precision: options.Precision = None,
    batch_size: options.BatchSize = None,
    max_seq_length: options.MaxSeqLength = None,
    truncate_dim: options.TruncateDim = None,
    on_prefixed: options.OnPrefixed = None,
    on_truncation: options.OnTruncation = None,
    cache_folder: options.CacheFolder = None,
) -> None:
    """Find hard negatives: passages a model takes for an answer that isn't one.

    The file is what `koe5 train koe5 --data` reads. The answers of a question,
    and texts that are nearly one of them, never become its negatives.
    """
    given = options.chosen(locals())

    from koe5_integrations.encoder import KoE5Encoder
    from koe5_integrations.training import mine_negatives

    mined = mine_negatives(
        data,
        out,
        encoder=KoE5Encoder(**given, embedding_cache=embedding_cache),
        num_negatives=num_negatives,
        range_min=range_min,
        range_max=range_max,
        max_score=max_score,
        min_score=min_score,
        absolute_margin=absolute_margin,
        relative_margin=relative_margin or None,
        sampling=sampling,
        seed=seed,
        near_duplicate=near_duplicate or None,
        corpus=corpus or (),
        revision=data_revision,
        query_column=query_column,
        positive_column=positive_column,
        replace=replace,
        on_step=(lambda step: None) if quiet else say,
        show_progress=not quiet and sys.stderr.isatty(),
    )
    rows = [
        ("pairs read", f"{mined.pairs:,}, of {mined.queries:,} questions"),
        ("passages searched", f"{mined.passages:,}"),
        ("triplets written", f"{mined.triplets:,}"),
        ("questions without a negative", f"{mined.without:,}"),
        ("near duplicates passed over", f"{mined.near_duplicates:,}"),
    ]
    counts = {**asdict(mined), "file": str(mined.file)}
    show(counts, rows, as_json=as_json, quiet=quiet)
