"""``koe5 evaluate --replay`` and ``--sts``: tables as the seeds publish them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from koe5_integrations.cli.exits import CommandError

if TYPE_CHECKING:
    from koe5_integrations.evaluation.results import EvalResult

__all__ = ["published_models", "run_replay", "run_sts"]

_DEFAULT = "nlpai-lab/KoE5"
_WITH_A_MODEL = ("dense:", "chroma:")


def published_models(systems: Sequence[str], replay_as: str | None) -> dict[str, str]:
    """Return the published model each system is held against, by spec.

    Raises:
        CommandError: nothing is published of any of them.
    """
    from koe5_integrations.evaluation.published import published

    known = {name.lower(): cell.model for cell in published() for name in (cell.model, cell.label)}
    if replay_as is not None and replay_as.lower() not in known:
        names = ", ".join(sorted(set(known.values())))
        raise CommandError(
            f"--replay-as {replay_as!r}: nothing is published here of it, but of {names}"
        )
    with_model = [spec for spec in systems if spec.startswith(_WITH_A_MODEL)]
    if replay_as is not None:
        return dict.fromkeys(with_model[:1], known[replay_as.lower()])
    models = {spec: known.get(spec.partition(":")[2].lower()) for spec in with_model}
    found = {spec: model for spec, model in models.items() if model is not None}
    if systems and not found:
        raise CommandError(
            f"--replay: nothing is published here of {', '.join(systems)}; if one of them is a "
            "copy of a published model, name that with --replay-as"
        )
    return found


def run_replay(results: Sequence[EvalResult], models: Mapping[str, str], out: Path | None) -> None:
    """Print, and write to replay.md, what was measured beside what is published.

    Without results, what is published of KoE5, and which of it is wrong.
    """
    from koe5_integrations.evaluation.files import write_whole
    from koe5_integrations.evaluation.replay import (
        figures,
        replay,
        replay_table,
        seed_table,
    )

    measured = {spec: figures(results, spec) for spec in models} if results else {}
    wanted = models or {_DEFAULT: _DEFAULT}
    cells = {spec: replay(measured.get(spec, {}), model) for spec, model in wanted.items()}
    for spec, found in cells.items():
        typer.echo(f"\n{spec} beside what is published of {wanted[spec]}\n")
        typer.echo(replay_table(found, "text"))
    typer.echo(seed_table(measured, style="text"))
    if out is not None:
        parts = [
            f"# {spec} beside what is published of {wanted[spec]}\n\n{replay_table(found)}\n"
            for spec, found in cells.items()
        ]
        write_whole(out, {"replay.md": [*parts, f"# In KoE5's own form\n\n{seed_table(measured)}"]})


def run_sts(
    name: str,
    systems: Sequence[str],
    *,
    prefix: str,
    dims: Sequence[int],
    data_dir: Path | None,
    encoder_options: Mapping[str, Any],
    out: Path | None,
) -> None:
    """Correlate each dense system with human scores of sentence pairs; print and write the table.

    Raises:
        CommandError: no system has a model.
        KoE5Error: the pairs or a model can't be had.
    """
    from koe5_integrations.encoder import KoE5Encoder
    from koe5_integrations.evaluation.datasets import load_sts
    from koe5_integrations.evaluation.files import to_json, write_whole
    from koe5_integrations.evaluation.names import slug
    from koe5_integrations.evaluation.sts import StsResult, evaluate_sts, sts_table

    models = [spec.partition(":")[2] for spec in systems if spec.startswith("dense:")]
    if not models:
        raise CommandError("--sts needs a model to measure: give --system dense:MODEL")
    pairs = load_sts(name, data_dir=data_dir)
    role: Any = None if prefix == "none" else prefix
    results: list[StsResult] = []
    for model in models:
        encoder = KoE5Encoder(model, **encoder_options)
        results += evaluate_sts(encoder, pairs, role=role, truncate_dims=dims)
    korsts = pairs.name == "korsts"
    typer.echo(f"{pairs.name}: {len(pairs.scores):,} pairs, correlations x 100\n")
    typer.echo(sts_table(results, with_published=korsts, style="text"))
    if out is not None:
        table = sts_table(results, with_published=korsts)
        values = [asdict(result) for result in results]
        stem = f"sts_{slug(pairs.name)}"
        write_whole(out, {f"{stem}.md": [table], f"{stem}.json": [to_json(values)]})
