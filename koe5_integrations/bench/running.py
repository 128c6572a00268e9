"""A benchmark from its arguments to its result."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from koe5_integrations.bench.configurations import Configuration, runnable, weight_bytes
from koe5_integrations.bench.machine import describe_machine, installed_versions
from koe5_integrations.bench.recommendation import FIDELITY_FLOOR, recommend
from koe5_integrations.bench.results import BenchResult
from koe5_integrations.bench.steps import Plan, reference_of
from koe5_integrations.bench.turns import WORKLOAD, Turns
from koe5_integrations.bench.workload import make_workload
from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError
from koe5_integrations.options import check_options
from koe5_integrations.profiles import DEFAULT_MODEL

__all__ = ["run_bench"]

# These are varied, or would answer in place of the model.
_NOT_TAKEN = frozenset(
    {
        "backend",
        "precision",
        "batch_size",
        "batch_tokens",
        "embedding_cache",
        "embedding_cache_size",
        "on_truncation",
    }
)


def run_bench(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    backends: Sequence[str] | None = None,
    lengths: Sequence[int] = (16, 128, 512),
    batch_tokens: Sequence[int] | None = None,
    callers: Sequence[int] = (1, 4, 16, 64),
    seconds: float | None = None,
    rounds: int | None = None,
    quick: bool = False,
    fidelity_floor: float = FIDELITY_FLOOR,
    encoder_options: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> BenchResult:
    """Measure what this machine does with a model, and recommend how to run it.

    Each configuration gets a process of its own, which loads it, is warmed up, and is then measured
    in turns with the others, so that whatever else the machine does hits all alike. None is left
    when this returns or raises.

    Args:
        model: as :class:`~koe5_integrations.encoder.KoE5Encoder` takes it.
        backends: ``BACKEND`` or ``BACKEND:PRECISION`` (fp32 if not said); None measures every one
            that can run here.
        lengths: tokens of a passage, prefix and special tokens included. One longer than the model
            reads is replaced by its maximum.
        batch_tokens: most tokens in a pass, tried besides the backend's own choice; None is 512,
            2048 and 8192, or with ``quick`` none.
        callers: numbers of concurrent callers.
        seconds: of one measurement, about; None is 1, or 0.2 with ``quick``. On slow machines a
            batch takes longer than that, and is measured all the same.
        rounds: how often each measurement is made; None is 5, or 3 with ``quick``.
        quick: less of everything.
        fidelity_floor: mean cosine to fp32 that a recommended configuration keeps.
        encoder_options: further arguments of the encoder, such as ``profile`` or ``device``.
        progress: draw a progress bar on stderr.

    Raises:
        ConfigError: an argument is impossible.
        UnknownModelError: a hub name whose prompts are not known and not given.
        ModelLoadError: the model can't be had.
        MissingExtraError: psutil is not installed.
    """
    options = dict(encoder_options or {})
    check_options(options)
    if taken := sorted(_NOT_TAKEN.intersection(options)):
        raise ConfigError(f"{taken[0]}= can't be given: the benchmark chooses it")
    plan = Plan(
        lengths=_whole_numbers("lengths", lengths),
        batch_tokens=_whole_numbers(
            "batch_tokens", batch_tokens or (() if quick else (512, 2048, 8192)), may_be_empty=True
        ),
        callers=_whole_numbers("callers", callers),
        seconds=(0.2 if quick else 1.0) if seconds is None else seconds,
        rounds=_whole_numbers("rounds", [(3 if quick else 5) if rounds is None else rounds])[0],
    )
    if not plan.seconds > 0:
        raise ConfigError(f"seconds={seconds!r} must be more than 0")
    asked = None if backends is None else [Configuration.parse(spec) for spec in backends]
    encoder = KoE5Encoder(model, **options)
    machine = describe_machine()
    folder, limit = encoder._handle.folder, encoder.max_seq_length
    device = options.get("device")
    possible = runnable(folder, device)
    configurations = list(dict.fromkeys(possible if asked is None else asked))
    if not configurations:
        raise ConfigError(
            f"nothing that runs {encoder.model} is installed: "
            'pip install "koe5-integrations[torch]"'
        )
    notes = _busy(machine)
    if limit is not None and plan.lengths[-1] > limit:
        notes.append(f"the model reads {limit} tokens at most: longer lengths are replaced by that")
        plan = replace(plan, lengths=tuple(sorted({min(each, limit) for each in plan.lengths})))
    workload = make_workload(encoder, plan.lengths)
    with tempfile.TemporaryDirectory(prefix="koe5-bench-") as scratch:
        workload.write(Path(scratch) / WORKLOAD)
        turns = Turns(encoder.config(), plan, Path(scratch), progress)
        sizes = {each: weight_bytes(folder, device, each) for each in configurations}
        gathered = turns.run(sizes)
        reference = reference_of(gathered)
        if gathered and reference is None:
            exact = [each for each in possible if each.precision == "fp32"]
            reference = turns.compute_vectors(exact[0]) if exact else None
        measured = tuple(each.figures(workload, reference) for each in gathered)
    return BenchResult(
        model={
            **encoder.config(),
            "dim": encoder.dim,
            "max_seq_length": limit,
            "fingerprint": encoder.fingerprint.digest,
        },
        machine=machine,
        versions=installed_versions(),
        settings={**asdict(plan), "quick": quick, "fidelity_floor": fidelity_floor},
        measured=measured,
        failed=tuple(turns.failed),
        recommendation=recommend(measured, encoder.config(), fidelity_floor),
        notes=(*notes, *turns.notes),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _whole_numbers(
    name: str, numbers: Sequence[int], *, may_be_empty: bool = False
) -> tuple[int, ...]:
    """Return numbers in ascending order, each once."""
    for number in numbers:
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ConfigError(f"{name}={number!r} must be a whole number of at least 1")
    if not numbers and not may_be_empty:
        raise ConfigError(f"{name}={numbers!r} names nothing to measure")
    return tuple(sorted(set(numbers)))


def _busy(machine: Mapping[str, Any]) -> list[str]:
    if machine["load"] <= 0.5 * machine["cores"]:
        return []
    return [
        f"the machine was busy before this began (load {machine['load']:.1f}, cores "
        f"{machine['cores']}): absolute figures are lower than on an idle one"
    ]
