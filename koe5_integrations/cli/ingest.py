"""``koe5 ingest``: documents to a searchable Chroma collection."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from koe5_integrations.cli import options
from koe5_integrations.cli.exits import CommandError
from koe5_integrations.cli.ingest_output import (
    as_json_types,
    estimate_rows,
    progress,
    say_rejected,
    show,
    summary_rows,
)
from koe5_integrations.cli.terminal import say, say_warning

__all__ = ["EXIT_CODES", "ingest_documents"]

EXIT_CODES = (
    "Exit codes: 0 done, and what could not be ingested is in quarantine.jsonl; 3 likewise, with "
    "--strict, if there was any; 2 it can't be done, and stderr says why. After any end, also "
    "Ctrl-C (130), a crash or a power cut, the same command goes on from where it was."
)

_QUARANTINED = 3
_SOURCES = "The sources"
_SPLITTING = "The passages"
_ENGINE = "More than one process"


def ingest_documents(
    collection: Annotated[
        str,
        typer.Option(
            help="Name of the Chroma collection; made if there is none.", show_default=False
        ),
    ],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders and globs: .txt .md .html .pdf .docx .hwpx .hwp, a document each; "
            ".jsonl .csv .tsv .parquet, a document a row.",
            show_default=False,
        ),
    ] = None,
    persist_dir: Annotated[
        Path | None, typer.Option(help="Folder of the Chroma database; made if there is none.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="A Chroma server instead, as http://127.0.0.1:8000; needs --shards."),
    ] = None,
    shards: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps texts and vectors durably.",
            show_default="PERSIST_DIR.shards/COLLECTION",
        ),
    ] = None,
    sync: Annotated[
        bool, typer.Option("--sync", help="Also remove what is no longer in these sources.")
    ] = False,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="Build the collection anew from the shards; embeds nothing."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say what would be done, and how long it would take here."
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 if anything was quarantined.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table.")] = False,
    text_field: Annotated[
        str, typer.Option(help="Column or key that holds the text.", rich_help_panel=_SOURCES)
    ] = "text",
    id_field: Annotated[
        str,
        typer.Option(
            help="Column or key that holds the id; rows without one have file:row.",
            rich_help_panel=_SOURCES,
        ),
    ] = "id",
    metadata_field: Annotated[
        list[str] | None,
        typer.Option(
            help="Column or key to keep as metadata; give it again for more.",
            show_default="all others",
            rich_help_panel=_SOURCES,
        ),
    ] = None,
    chunk_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Longest passage, in the model's tokens with its prefix.",
            show_default="what the model reads",
            rich_help_panel=_SPLITTING,
        ),
    ] = None,
    overlap_tokens: Annotated[
        int,
        typer.Option(
            min=0,
            help="Repeat whole sentences of up to so many tokens in the next passage.",
            rich_help_panel=_SPLITTING,
        ),
    ] = 0,
    sentences: Annotated[
        Literal["auto", "rule", "kiwi"],
        typer.Option(help="What finds the ends of sentences.", rich_help_panel=_SPLITTING),
    ] = "auto",
    shard_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Passages embedded and written at once: what an interruption can cost.",
            show_default="20 seconds' work",
            rich_help_panel=_SPLITTING,
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray", "files"],
        typer.Option(
            help="What embeds: this process, Ray, or `koe5 embed-shard` on the files that are "
            "written for it.",
            rich_help_panel=_ENGINE,
        ),
    ] = "local",
    actors: Annotated[
        int,
        typer.Option(min=1, help="Processes of Ray, each with a model.", rich_help_panel=_ENGINE),
    ] = 1,
    gpus_per_actor: Annotated[
        float, typer.Option(min=0, help="GPUs for each of them.", rich_help_panel=_ENGINE)
    ] = 0,
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
    cache_folder: options.CacheFolder = None,
) -> None:
    """Make documents searchable, and keep what is searchable in step with them.

    Texts are split into passages that the model reads whole, embedded, kept
    durably in shards (Parquet) and loaded into a Chroma collection. Run again,
    it does only what is missing.
    """
    if not sources and not rebuild:
        raise CommandError("name the files or folders to ingest (or --rebuild the collection)")
    if sources and rebuild:
        raise CommandError("--rebuild takes no sources: it loads what the shards hold")
    if sync and (rebuild or dry_run):
        raise CommandError("--sync goes with an ingestion, not with --rebuild or --dry-run")
    given = options.chosen(locals())

    from koe5_integrations.encoder import KoE5Encoder
    from koe5_integrations.ingestion import Place, estimate, ingest, read_sources, total_bytes
    from koe5_integrations.ingestion import rebuild as rebuild_store
    from koe5_integrations.splitting import TokenSplitter

    target: dict[str, Any] = {
        "persist_dir": persist_dir,
        "url": url,
        "collection": collection,
        "shards": shards,
    }
    if rebuild and model is None and (recorded := Place.of(**target).recorded_model):
        given["model"] = recorded
    encoder = KoE5Encoder(**given)
    reading: dict[str, Any] = {
        "text_field": text_field,
        "id_field": id_field,
        "metadata_fields": metadata_field,
    }
    splitting: dict[str, Any] = {
        "chunk_tokens": chunk_tokens,
        "overlap_tokens": overlap_tokens,
        "sentences": sentences,
    }
    bar = not quiet and sys.stderr.isatty()
    if dry_run:
        place = Place.of(**target)
        with progress("reading", total_bytes(sources or []), shown=bar) as told:
            found = estimate(
                read_sources(sources or [], **reading, on_read=told.read),
                encoder=encoder,
                splitter=TokenSplitter(encoder, **splitting),
                shards=place.shards,
                rejected=say_rejected,
            )
        show(asdict(found), estimate_rows(found), as_json=as_json, quiet=quiet)
        return
    try:
        if rebuild:
            with progress("loading", None, shown=bar) as told:
                summary = rebuild_store(encoder=encoder, **target, on_progress=told.update)
        else:
            with progress("ingesting", total_bytes(sources or []), shown=bar) as told:
                summary = ingest(
                    sources,
                    encoder=encoder,
                    **target,
                    sync=sync,
                    **reading,
                    **splitting,
                    shard_size=shard_size,
                    engine=engine,
                    actors=actors,
                    gpus_per_actor=gpus_per_actor,
                    on_progress=told.update,
                )
    except KeyboardInterrupt:
        say("what is in the shards is kept: run the same command again to go on")
        raise
    show(as_json_types(summary), summary_rows(summary), as_json=as_json, quiet=quiet)
    if summary.rebuilt and not rebuild:
        say_warning(f"the collection was built anew from the shards: {summary.rebuilt}")
    if summary.handed_out:
        say(
            f"{summary.handed_out:,} files wait to be embedded by `koe5 embed-shard` (see "
            "docs/scaling.md); this command, run again, takes what is finished"
        )
    for name in summary.not_synced:
        say_warning(
            f"nothing was removed of {name}: something in it could not be read, and nobody can say "
            "which document that is"
        )
    if summary.quarantine is not None:
        say_warning(
            f"{summary.quarantined:,} could not be ingested, for reasons given in "
            f"{summary.quarantine}"
        )
        if strict:
            raise typer.Exit(_QUARANTINED)
