"""The command ``koe5``.

Nothing heavy is imported before a command runs: the encoder, Chroma and pyarrow are imported inside
the functions that need them, so that ``koe5 --help`` answers at once.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from koe5_integrations import __version__
from koe5_integrations.cli import (
    bench,
    doctor,
    embed,
    embed_shard,
    evaluate,
    export,
    ingest,
    migrate,
    models,
    search,
    train,
    verify,
)
from koe5_integrations.cli.exits import CleanExits

__all__ = ["app", "main"]

_EXIT_CODES = (
    "Exit codes: 0 done; 2 it can't be done, and stderr says why; 1 a bug in this program, with a "
    "traceback; 130 stopped by Ctrl-C, 141 by a closed pipe, 143 by SIGTERM."
)

app = typer.Typer(
    name="koe5",
    cls=CleanExits,
    help="Korean retrieval embeddings with KoE5: embed texts, and search what was embedded.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    # Local variables in a traceback would be whole documents.
    pretty_exceptions_enable=False,
)
app.command("models")(models.show_models)
app.command("embed")(embed.embed_texts)
app.command("search")(search.search_collection)
app.command("evaluate", epilog=evaluate.EXIT_CODES)(evaluate.evaluate_retrieval)
app.command("export")(export.export_model)
app.add_typer(train.app, name="train")
app.command("bench", epilog=bench.EXIT_CODES)(bench.bench_model)
app.command("embed-shard")(embed_shard.embed_shards)
app.command("verify", epilog=verify.EXIT_CODES)(verify.verify_collection)
app.command("doctor", epilog=doctor.EXIT_CODES)(doctor.diagnose_collection)
app.command("migrate", epilog=migrate.EXIT_CODES)(migrate.migrate_collection)
app.command("ingest", epilog=ingest.EXIT_CODES)(ingest.ingest_documents)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"koe5 {__version__}")
        raise typer.Exit


@app.callback()
def _options_of_all_commands(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None: ...


def _terminate(signum: int, frame: FrameType | None) -> None:
    # As an exception, so that unfinished files are removed on the way out.
    sys.exit(128 + signum)


def main() -> None:
    """Run the command ``koe5`` and exit."""
    signal.signal(signal.SIGTERM, _terminate)
    app(prog_name="koe5")
