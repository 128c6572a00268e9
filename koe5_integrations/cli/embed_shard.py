"""``koe5 embed-shard``: waiting passages to shards, for SLURM, Kubernetes and the like."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from koe5_integrations.cli import options
from koe5_integrations.cli.exits import CommandError
from koe5_integrations.cli.terminal import say

__all__ = ["embed_shards"]

_SHARE = re.compile(r"(\d+)/(\d+)")


def embed_shards(
    pending: Annotated[
        list[Path],
        typer.Argument(
            help="Files of passages to be embedded, or folders of them.", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the shards, of the same names. Each appears when complete.",
            file_okay=False,
            show_default=False,
        ),
    ],
    share: Annotated[
        str | None,
        typer.Option(
            help="Which part of the files is this process's: 0/16 to 15/16 for 16 processes.",
            show_default="all",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")
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
    """Embed passages that wait in files, on any machine that sees them.

    Shards that are complete are left alone, so that it may be killed and run
    again. A document that can't be embedded is left out and written, with the
    reason, to a file SHARD.quarantine.jsonl.
    """
    given = options.chosen(locals())
    files = _files(pending, share)

    from koe5_integrations.encoder import KoE5Encoder
    from koe5_integrations.ingestion.embed_shard import embed_shard

    encoder = KoE5Encoder(**given)
    output.mkdir(parents=True, exist_ok=True)
    made = passages = rejected = 0
    for number, file in enumerate(files, 1):
        started = time.perf_counter()
        report = embed_shard(file, output / file.name, encoder=encoder)
        made += not report.was_complete
        passages += report.passages
        rejected += len(report.rejected)
        if not quiet:
            seconds = time.perf_counter() - started
            rate = f"{report.embedded / seconds:,.0f} texts/s"
            what = "was complete" if report.was_complete else f"{seconds:,.1f} s, {rate}"
            say(f"[{number}/{len(files)}] {file.name}: {report.passages:,} passages, {what}")
    if not quiet:
        left_out = f"; {rejected:,} documents left out, see {output}/*.quarantine.jsonl"
        say(
            f"{passages:,} passages in {len(files):,} shards, {made:,} of them made now"
            + (left_out if rejected else "")
        )


def _files(pending: Sequence[Path], share: str | None) -> list[Path]:
    """Return the files that are this process's to embed, which may be none."""
    files: list[Path] = []
    for path in pending:
        if not path.exists():
            raise CommandError(f"{path}: there is no such file or folder")
        files += sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise CommandError(f"no *.parquet files in {', '.join(map(str, pending))}")
    names: dict[str, Path] = {}
    for file in files:
        if (other := names.setdefault(file.name, file)) != file:
            raise CommandError(f"{other} and {file} would become the same shard: rename one")
    if share is None:
        return files
    parts = _SHARE.fullmatch(share)
    if parts is None or int(parts[1]) >= int(parts[2]):
        raise CommandError(
            f"--share {share!r} must be PART/PARTS, such as 0/16, with parts counted from 0"
        )
    return files[int(parts[1]) :: int(parts[2])]
