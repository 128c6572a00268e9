"""``koe5 embed``: texts to vectors."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from koe5_integrations.cli import options
from koe5_integrations.cli.exits import at_its_place
from koe5_integrations.cli.reading import DASH, InputFormat, Record, TextReader
from koe5_integrations.cli.terminal import say, say_warning
from koe5_integrations.cli.writing import OutputFormat, open_output, output_format
from koe5_integrations.errors import KoE5Error, PrefixedTextWarning, TruncationWarning

if TYPE_CHECKING:
    from koe5_integrations.encoder import KoE5Encoder
    from koe5_integrations.types import Role, Vectors

__all__ = ["embed_texts"]

# Texts embedded at once: enough to sort by length, few enough to see progress on a slow machine.
_SLICE = 2048


def embed_texts(
    role: Annotated[
        Literal["query", "passage"],
        typer.Option(help="Whether the texts are questions asked, or texts to be found."),
    ],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files of texts: .txt has one per line, .jsonl one object per line. - is stdin.",
            show_default="stdin",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write: .jsonl (id, text, role, embedding), .npy (float32, a row per "
            "text) or .parquet (id, text, embedding; needs pyarrow). It appears when complete.",
            show_default="jsonl on stdout",
        ),
    ] = None,
    format: Annotated[
        OutputFormat | None,
        typer.Option(help="Write this, whatever the file is named.", show_default="by its name"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace --out if it exists.")] = False,
    input_format: Annotated[
        InputFormat | None,
        typer.Option(help="Read all inputs as this.", show_default="by their names; stdin is text"),
    ] = None,
    field: Annotated[
        str, typer.Option(help="Field of a JSON object that holds the text.")
    ] = "text",
    id_field: Annotated[
        str, typer.Option(help="Field that holds the id; without one it is file:line.")
    ] = "id",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bar and no summary on stderr.")
    ] = False,
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
    """Embed texts as questions or as passages.

    Give bare texts: the model's prefix for the role is added here, once.
    Empty lines are skipped; anything else that can't be embedded stops the
    command with its file and line. Memory doesn't grow with the input.
    """
    sources = files or [DASH]
    target = None if out == DASH else out
    reader = TextReader(sources, input_format=input_format, field=field, id_field=id_field)
    picked = output_format(target, format, force=force)
    given = options.chosen(locals())

    from koe5_integrations.encoder import KoE5Encoder

    encoder = KoE5Encoder(**given)
    if DASH in sources and sys.stdin.isatty():
        say("reading texts from the terminal, one per line; Ctrl-D ends them")
    # Results on the same terminal would tear the bar apart.
    bar = not quiet and sys.stderr.isatty() and (target is not None or not sys.stdout.isatty())
    job = _Job(
        encoder,
        role,
        warn_prefixed=on_prefixed in (None, "warn"),
        warn_cut=on_truncation in (None, "warn"),
    )
    with (
        open_output(target, picked, encoder, role) as write,
        _progress(reader, shown=bar) as advance,
    ):
        records = iter(reader)
        while batch := list(islice(records, _SLICE)):
            write(batch, job.encode(batch))
            advance(len(batch))
    if not quiet:
        say(job.summary(reader.empty_lines, target))


class _Job:
    """Embeds slice by slice, and says of the whole what the encoder says of a slice.

    The encoder warns of positions in the list it is given; here the first text is named by its file
    and line, once, and the summary counts the rest.
    """

    def __init__(
        self, encoder: KoE5Encoder, role: Role, *, warn_prefixed: bool, warn_cut: bool
    ) -> None:
        self._encoder = encoder
        self._role = role
        self._warn_prefixed = warn_prefixed
        self._warn_cut = warn_cut
        self._texts = 0
        self._prefixed = 0

    def encode(self, batch: list[Record]) -> Vectors:
        texts = [record.text for record in batch]
        encoder = self._encoder
        encode = encoder.encode_queries if self._role == "query" else encoder.encode_passages
        self._note_prefixed(batch, texts)
        cut_before = encoder.truncation.texts
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PrefixedTextWarning)
                warnings.simplefilter("ignore", TruncationWarning)
                vectors = encode(texts)
        except KoE5Error as error:
            raise at_its_place(error, [record.place for record in batch]) from None
        self._texts += len(batch)
        if self._warn_cut and not cut_before and encoder.truncation.texts:
            say_warning(
                f"{encoder.truncation.texts:,} of the texts from {batch[0].place} to "
                f"{batch[-1].place} are longer than the {encoder.max_seq_length} tokens the model "
                "reads, and the rest of them is not embedded: split them, or find the first with "
                "--on-truncation error"
            )
        return vectors

    def _note_prefixed(self, batch: list[Record], texts: list[str]) -> None:
        from koe5_integrations.text import prefixed_positions

        if not self._warn_prefixed:
            return
        profile = self._encoder.profile
        found = prefixed_positions(texts, (profile.query_prompt, profile.passage_prompt))
        if found and not self._prefixed:
            say_warning(
                f"{batch[found[0]].place} already starts with a prefix, and "
                f"{profile.prompt(self._role)!r} is added in front of it: give bare texts, or "
                "choose --on-prefixed keep or error"
            )
        self._prefixed += len(found)

    def summary(self, empty_lines: int, target: Path | None) -> str:
        encoder = self._encoder
        cut = encoder.truncation
        parts = [
            f"{_count(self._texts, 'text')} embedded as {self._role} with {encoder.model} "
            f"(dim {encoder.dim})" + (f" into {target}" if target else "")
        ]
        if empty_lines:
            parts.append(f"{_count(empty_lines, 'empty line')} skipped")
        if self._prefixed:
            parts.append(f"{_count(self._prefixed, 'text')} had a prefix already")
        if cut.texts:
            parts.append(
                f"{_count(cut.texts, 'text')} cut at {encoder.max_seq_length} tokens "
                f"({_count(cut.tokens, 'token')} not embedded)"
            )
        return "; ".join(parts)


def _count(n: int, thing: str) -> str:
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


@contextmanager
def _progress(reader: TextReader, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Draw a progress bar on stderr, by bytes read where the total is known."""
    if not shown:
        yield lambda texts: None
        return

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[texts]:,} texts"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        done = 0
        task = progress.add_task("embedding", total=reader.total_bytes, texts=done)

        def advance(texts: int) -> None:
            nonlocal done
            done += texts
            progress.update(task, completed=reader.bytes_read, texts=done)

        yield advance
