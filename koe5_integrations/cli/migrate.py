"""``koe5 migrate``: a Chroma collection embedded again, in the old one's place."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from koe5_integrations.cli import options
from koe5_integrations.cli.exits import CommandError
from koe5_integrations.cli.ingest_output import show
from koe5_integrations.cli.terminal import say_warning

if TYPE_CHECKING:
    from koe5_integrations.encoder import KoE5Encoder
    from koe5_integrations.ingestion.migration import Migration, Plan

__all__ = ["EXIT_CODES", "migrate_collection"]

EXIT_CODES = (
    "Exit codes: 0 done; 2 it can't be done, and stderr says why: rows that would be lost, for "
    "example. After any end, also Ctrl-C (130), a crash or a power cut, the same command goes on "
    "from where it was; the old collection is never changed but by its name."
)


def migrate_collection(
    collection: Annotated[str, typer.Argument(help="Name of a collection, whoever made it.")],
    persist_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the Chroma database.", exists=True, file_okay=False, show_default=False
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="A Chroma server instead, as http://127.0.0.1:8000; needs --shards.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="Make a new collection of this name, and leave the old one alone.",
            show_default="replace the old one, which is called NAME.before-DATE then",
        ),
    ] = None,
    shards: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps texts and vectors durably.",
            show_default="PERSIST_DIR.shards/NAME",
        ),
    ] = None,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Delete the old collection in the end.")
    ] = False,
    allow_loss: Annotated[
        bool,
        typer.Option("--allow-loss", help="Go on without the rows that can't be embedded."),
    ] = False,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Drop what an unfinished migration of this name has done."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say what would be done, and how long it would take here."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table.")] = False,
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
    """Embed a Chroma collection again, with the right prefix.

    Its texts become a new collection, which takes the old one's name when it
    has been checked. Ids, texts and metadata stay as they are, and the old
    collection is kept under another name.
    """
    given = options.chosen(locals())

    from koe5_integrations.encoder import KoE5Encoder
    from koe5_integrations.errors import CollectionError
    from koe5_integrations.ingestion.migration import migrate, plan_migration

    encoder = KoE5Encoder(**given)
    if dry_run:
        plan = plan_migration(collection, encoder=encoder, persist_dir=persist_dir, url=url)
        show(asdict(plan), _plan_rows(plan), as_json=as_json, quiet=quiet)
        return
    try:
        with _progress(shown=not quiet and sys.stderr.isatty()) as advance:
            result = migrate(
                collection,
                encoder=encoder,
                persist_dir=persist_dir,
                url=url,
                to=to,
                shards=shards,
                drop_old=drop_old,
                allow_loss=allow_loss,
                restart=restart,
                on_progress=advance,
            )
    except CollectionError as error:
        raise CommandError(str(error).replace("allow_loss=True", "--allow-loss")) from None
    _warn(result, encoder)
    paths = {
        name: None if path is None else str(path)
        for name, path in [("shards", result.shards), ("quarantine", result.quarantine)]
    }
    show(asdict(result) | paths, _result_rows(result), as_json=as_json, quiet=quiet)


def _warn(result: Migration, encoder: KoE5Encoder) -> None:
    if result.cut:
        say_warning(
            f"{result.cut:,} of the texts are longer than the {encoder.max_seq_length} tokens the "
            f"model reads, and {result.cut_tokens:,} of their tokens are in no vector: ingest the "
            "documents from their source with koe5 ingest, which splits them"
        )
    if result.prefixed:
        say_warning(
            f"{result.prefixed:,} of the texts begin with a prefix, and another was added in "
            "front of it: if it is no part of the text, migrate with --on-prefixed keep"
        )


def _result_rows(result: Migration) -> list[tuple[str, str]]:
    rate = result.embedded / result.seconds if result.seconds else 0.0
    rows = [("collection", f"{result.into}, {result.rows - result.left_out:,} rows")]
    if result.already:
        rows.append(("done before", "nothing was embedded"))
    else:
        rows += [
            ("texts embedded", f"{result.embedded:,} ({rate:,.0f}/s)"),
            ("vectors used again", f"{result.reused + result.unchanged:,}"),
            ("shards", str(result.shards)),
        ]
    if result.left_out:
        rows.append(("left out", f"{result.left_out:,} rows, see {result.quarantine}"))
    if result.before is not None:
        rows.append(("old collection", f"{result.before}; delete it when you no longer need it"))
    return rows


def _plan_rows(plan: Plan) -> list[tuple[str, str]]:
    rows = [
        ("rows", f"{plan.rows:,}"),
        ("to embed", f"{plan.rows - plan.left_out - plan.repeated:,} texts"),
        ("tokens", f"about {plan.tokens:,}"),
        ("vectors", f"{plan.bytes / 1e6:,.1f} MB"),
        ("time", f"about {plan.seconds:,.0f} s, going by a sample embedded here"),
    ]
    if plan.left_out:
        rows.append(("no text", f"{plan.left_out:,} rows, which need --allow-loss"))
    if plan.too_long:
        rows.append(
            ("too long", f"about {plan.too_long:.0%} of the texts, which the model reads in part")
        )
    return rows


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[Migration], None]]:
    """Draw a progress bar on stderr, by rows."""
    if not shown:
        yield lambda result: None
        return

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[done]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("migrating", total=None, done="")

        def advance(result: Migration) -> None:
            done = result.embedded + result.reused + result.unchanged + result.left_out
            rate = result.embedded / result.seconds if result.seconds else 0.0
            told = f"{result.embedded:,} embedded ({rate:,.0f}/s), {result.loaded:,} loaded"
            bar.update(task, total=result.rows or None, completed=done, done=told)

        yield advance
