"""Which configuration to use, by a rule that can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import geometric_mean
from typing import Any

from koe5_integrations.bench.results import Choice, Measured, Recommendation

__all__ = ["FIDELITY_FLOOR", "recommend"]

FIDELITY_FLOOR = 0.99
"""Mean cosine to fp32 that a recommended configuration keeps."""

# Differences of runs on one machine that mean nothing.
_NOISE = 0.05
# What another batch size must gain to be worth an argument.
_BATCH_GAIN = 1.1
_MIB = 2**20


def recommend(
    measured: Sequence[Measured], arguments: Mapping[str, Any], floor: float = FIDELITY_FLOOR
) -> Recommendation:
    """Choose for bulk work and for questions.

    Only configurations whose mean cosine to fp32 is `floor` or more are considered; where it is not
    known, only those in fp32. For bulk work the fastest one is chosen: the highest geometric mean
    of passages a second over the lengths, with ``batch_tokens`` set only where it beats the
    backend's own choice by a tenth. For questions it is the one with the lowest median wait.
    Of those within 5% of the best, the one with the lowest peak of memory wins.

    Args:
        measured: what ran.
        arguments: of the encoder, model included, that stay as they are.
        floor: mean cosine, from -1 to 1.
    """
    rule = (
        f"Of configurations with a mean cosine to fp32 of at least {floor:g}: for bulk work the "
        "most passages a second (geometric mean over the lengths), for questions the lowest p50; "
        f"within {_NOISE:.0%} of the best, the one that needs the least memory."
    )
    trusted = [each for each in measured if _is_faithful(each, floor)]
    if not trusted:
        why = (
            f"none kept a mean cosine of {floor:g} to fp32, or its fidelity is not known"
            if measured
            else "no configuration could be measured"
        )
        return Recommendation(None, None, f"No recommendation: {why}.", rule)
    bulk = _best(trusted, _bulk_rate)
    query = _best(trusted, lambda each: 1 / each.query.p50)
    batch_tokens = _batch_tokens(bulk)
    for_bulk = Choice(
        bulk.configuration,
        batch_tokens,
        _code(bulk, arguments, batch_tokens),
        f"{_rates_shown(bulk)}, {_cost(bulk)}",
    )
    p50 = f"p50 {1000 * query.query.p50:.3g} ms"
    for_query = Choice(
        query.configuration, None, _code(query, arguments, None), f"{p50}, {_cost(query)}"
    )
    if bulk is query:
        text = (
            f"For bulk work and questions alike: {for_bulk.code} ({_rates_shown(bulk)}, questions "
            f"at {p50}, {_cost(bulk)})."
        )
    else:
        text = (
            f"For bulk work: {for_bulk.code} ({for_bulk.reason}). "
            f"For questions: {for_query.code} ({for_query.reason})."
        )
    return Recommendation(for_bulk, for_query, text, rule)


def _is_faithful(measured: Measured, floor: float) -> bool:
    if measured.fidelity is None:
        return measured.configuration.precision == "fp32"
    return measured.fidelity.mean >= floor


def _best(candidates: Sequence[Measured], speed: Callable[[Measured], float]) -> Measured:
    fastest = max(map(speed, candidates))
    close = [each for each in candidates if speed(each) >= (1 - _NOISE) * fastest]
    return min(close, key=lambda each: (each.memory.peak, -speed(each)))


def _bulk_rate(measured: Measured) -> float:
    rates = _rates(measured)
    return rates[_batch_tokens(measured)]


def _rates(measured: Measured) -> dict[int | None, float]:
    """Return texts a second over all lengths, by batch, for the batches that ran at each length."""
    lengths = {point.length for point in measured.throughput}
    by_batch: dict[int | None, list[float]] = {}
    for point in measured.throughput:
        by_batch.setdefault(point.batch_tokens, []).append(point.texts_per_second)
    return {
        batch: geometric_mean(rates)
        for batch, rates in by_batch.items()
        if len(rates) == len(lengths)
    }


def _batch_tokens(measured: Measured) -> int | None:
    rates = _rates(measured)
    best = max(rates, key=lambda batch: rates[batch])
    return best if rates[best] >= _BATCH_GAIN * rates[None] else None


def _code(measured: Measured, arguments: Mapping[str, Any], batch_tokens: int | None) -> str:
    chosen: dict[str, Any] = {"backend": measured.configuration.backend}
    if measured.configuration.precision != "fp32":
        chosen["precision"] = measured.configuration.precision
    if batch_tokens is not None:
        chosen["batch_tokens"] = batch_tokens
    rest = {name: value for name, value in arguments.items() if name != "model"} | chosen
    listed = ", ".join(f"{name}={value!r}" for name, value in rest.items())
    return f"KoE5Encoder({arguments['model']!r}, {listed})"


def _rates_shown(measured: Measured) -> str:
    batch = _batch_tokens(measured)
    points = [point for point in measured.throughput if point.batch_tokens == batch]
    rates = [point.texts_per_second for point in points]
    shown = " / ".join(f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}" for rate in rates)
    lengths = " / ".join(str(point.length) for point in points)
    return f"{shown} passages a second of {lengths} tokens"


def _cost(measured: Measured) -> str:
    memory = f"{measured.memory.peak / _MIB:,.0f} MiB of memory"
    if measured.fidelity is None or measured.configuration.precision == "fp32":
        return memory
    return f"{memory}, mean cosine to fp32 {measured.fidelity.mean:.5f}"
