"""``koe5 search``: questions to a Chroma collection on disk."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from koe5_integrations.cli import options
from koe5_integrations.cli.exits import CommandError, at_its_place
from koe5_integrations.cli.reading import decode_line
from koe5_integrations.cli.terminal import printable, say, say_warning, terminal_width
from koe5_integrations.errors import ConfigError, KoE5Error, PrefixedTextWarning

if TYPE_CHECKING:
    from chromadb.api.models.Collection import Collection

    from koe5_integrations.chroma import KoE5EmbeddingFunction

__all__ = ["search_collection"]

_INDENT = " " * 8
_TEXT_LINES = 2
# What `koe5 ingest` notes of each passage, which says nothing of a document's only one.
_OF_PASSAGES = ("document_id", "chunk", "chunks")


@dataclass(frozen=True)
class _Found:
    id: str
    score: float
    text: str | None
    metadata: Mapping[str, Any]


def search_collection(
    persist_dir: Annotated[
        Path,
        typer.Option(
            help="Folder of the Chroma database.", exists=True, file_okay=False, show_default=False
        ),
    ],
    collection: Annotated[
        str, typer.Option(help="Name of a collection made with open_collection().")
    ],
    query: Annotated[
        str | None,
        typer.Argument(
            help="The question, without a prefix. - or none reads one per line from stdin.",
            show_default="stdin",
        ),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many texts to find.")] = 5,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON document per question, on a line: query and results."
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="The collection's model, if it is no longer where it was: the same weights.",
            show_default="the one the collection was made with",
        ),
    ] = None,
    base_url: options.BaseUrl = None,
    api_key_env: options.ApiKeyEnv = None,
    device: options.Device = None,
    cache_folder: options.CacheFolder = None,
) -> None:
    """Search a Chroma collection on disk.

    The question is embedded with the model, prefix and settings that the
    collection was made with. A score is the cosine similarity, at most 1.
    """
    machine = {
        "base_url": base_url,
        "api_key_env": api_key_env,
        "device": device,
        "cache_folder": cache_folder,
    }
    opened, function = _open_existing(persist_dir, collection, model, machine)
    from_stdin = query is None or query == "-"
    questions = _questions() if from_stdin else iter([("the query", query or "")])
    width = terminal_width()
    for place, question in questions:
        results = _find(opened, _embed(function, question, place), top_k)
        if as_json:
            document = {"query": question, "results": [asdict(found) for found in results]}
            typer.echo(json.dumps(document, ensure_ascii=False))
            continue
        if from_stdin:
            typer.secho(printable(question), bold=True)
        for found in results:
            for line in _lines(found, width):
                typer.echo(line)
        if not results:
            say(f"collection {collection!r} is empty")


def _open_existing(
    persist_dir: Path, name: str, model: str | None, machine: Mapping[str, Any]
) -> tuple[Collection, KoE5EmbeddingFunction]:
    """Open a collection with the function it was made with, and create nothing.

    Raises:
        CommandError: there is no such collection, or not one of ours.
        FingerprintMismatchError: the model is not the one the collection was made with.
    """
    # Chroma would create a database in any folder that has none.
    if not (persist_dir / "chroma.sqlite3").is_file():
        raise CommandError(f"{persist_dir} holds no Chroma database (there is no chroma.sqlite3)")

    from koe5_integrations.chroma import KoE5EmbeddingFunction, open_collection

    import chromadb  # isort: skip  # after ours, whose error names the extra
    from chromadb.errors import ChromaError, NotFoundError

    try:
        client = chromadb.PersistentClient(path=str(persist_dir))
        found = client.get_collection(name, embedding_function=None)
    except NotFoundError:
        there = ", ".join(sorted(repr(c.name) for c in client.list_collections())) or "none"
        raise CommandError(
            f"{persist_dir} has no collection {name!r}; its collections: {there}"
        ) from None
    except ChromaError as error:
        raise CommandError(f"{persist_dir} can't be read by Chroma: {error}") from None
    stored = found.configuration_json.get("embedding_function") or {}
    if stored.get("name") != KoE5EmbeddingFunction.name():
        raise CommandError(
            f"collection {name!r} doesn't say which model its vectors were made with (its "
            f"embedding function is {stored.get('name')!r}, not 'koe5'): add its texts to a new "
            "collection made with koe5_integrations.chroma.open_collection()"
        )
    config = stored["config"]
    KoE5EmbeddingFunction.validate_config(config)
    given = {option: value for option, value in machine.items() if value is not None}
    try:
        function = KoE5EmbeddingFunction(**{**config, "model": model or config["model"]}, **given)
    except ConfigError as error:
        if model is not None:
            raise
        raise CommandError(
            f"{error}. Collection {name!r} was made with it: say with --model where it is now"
        ) from None
    return open_collection(client, name, function), function


def _embed(function: KoE5EmbeddingFunction, question: str, place: str) -> Any:
    try:
        with warnings.catch_warnings(record=True) as caught:
            vectors = function.embed_query([question])
    except KoE5Error as error:
        raise at_its_place(error, [place]) from None
    for warning in caught:
        if issubclass(warning.category, PrefixedTextWarning):
            say_warning(
                f"{place} starts with a prefix, which is added anyway: ask the bare question"
            )
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return vectors


def _find(collection: Collection, vectors: Any, top_k: int) -> list[_Found]:
    answer = collection.query(query_embeddings=vectors, n_results=top_k)
    columns: Any = [answer[key] for key in ("ids", "distances", "documents", "metadatas")]
    return [
        _Found(id, round(1 - distance, 6), text, metadata or {})
        for id, distance, text, metadata in zip(*(column[0] for column in columns), strict=True)
    ]


def _questions() -> Iterator[tuple[str, str]]:
    """Yield each line of stdin with its place, asking for it where a person types."""
    stdin = typer.get_binary_stream("stdin")
    asks = sys.stdin.isatty()
    number = 0
    while True:
        if asks:
            typer.echo("query> ", nl=False, err=True)
        raw = stdin.readline()
        if not raw:
            break
        number += 1
        line = decode_line(raw, f"stdin:{number}", first=number == 1).strip()
        if line:
            yield f"stdin:{number}", line


def _lines(found: _Found, width: int | None) -> list[str]:
    """Write a text found as a line of facts and the text below, cut to the terminal's width."""
    from rich.console import Console
    from rich.text import Text

    # Keys that begin with _ are a framework's own, such as LlamaIndex's serialised node.
    hidden = _OF_PASSAGES if found.metadata.get("chunks") == 1 else ()
    facts = [
        f"{key}={value}"
        for key, value in found.metadata.items()
        if key[:1] != "_" and key not in hidden and value != ""
    ]
    head = "  ".join([f"{found.score:.4f}", *map(printable, [found.id, *facts])])
    text = printable(found.text) if found.text else "(no text is stored)"
    if width is None:
        return [head, _INDENT + text]
    room = max(width - len(_INDENT), 16)
    wrapped = [line.plain.rstrip() for line in Text(text).wrap(Console(width=room), room)]
    if len(wrapped) > _TEXT_LINES:
        rest = " ".join(wrapped[_TEXT_LINES - 1 :])
        wrapped = [*wrapped[: _TEXT_LINES - 1], _cut(rest, room)]
    return [_cut(head, width), *(_INDENT + line for line in wrapped)]


def _cut(text: str, width: int) -> str:
    """Shorten to what fits in so many terminal cells; a Hangul syllable takes two."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"
