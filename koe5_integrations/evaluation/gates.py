"""Pass or fail, for continuous integration: thresholds, and no regression from an earlier run."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.files import BASELINE, METRICS
from koe5_integrations.evaluation.measures import parse_measure
from koe5_integrations.evaluation.results import EvalResult

__all__ = ["Baseline", "Threshold", "Verdict", "check_regression", "check_thresholds"]

# A mean that is the threshold in decimals may be a rounding error below it in binary.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate decided.

    Attributes:
        passed: whether it lets the run through.
        reason: one sentence with the numbers.
    """

    passed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Threshold:
    """The least a measure may be.

    Attributes:
        measure: such as ``ndcg@10``.
        least: 0 to 1.
        spec: the system it is for; None is the first one given.
    """

    measure: str
    least: float
    spec: str | None = None

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """Read ``ndcg@10=0.80``, or ``dense:koe5-mini:ndcg@10=0.80`` for one system.

        Raises:
            ConfigError: it is not of that form, the measure is none, or the value is not in 0 to 1.
        """
        left, equals, value = text.rpartition("=")
        spec, _, measure = left.strip().rpartition(":")
        if not equals or not measure:
            raise ConfigError(
                f"fail_under={text!r} must be MEASURE=VALUE or SPEC:MEASURE=VALUE, such as "
                "'ndcg@10=0.80' or 'bm25:bigram:ndcg@10=0.80'"
            )
        parse_measure(measure)
        try:
            least = float(value)
        except ValueError:
            least = math.nan
        if not 0 <= least <= 1:
            raise ConfigError(
                f"fail_under={text!r}: {value.strip()!r} must be a number from 0 to 1 (0.80 for 80 "
                "per cent)"
            )
        return cls(measure, least, spec or None)


@dataclass(frozen=True)
class Baseline:
    """An earlier run's values, query by query.

    Attributes:
        path: where they were read from.
        sha256: of the data they were measured on.
        per_query: value by query id, by measure, by system.
    """

    path: Path
    sha256: str
    per_query: Mapping[str, Mapping[str, Mapping[str, float]]]

    @classmethod
    def read(cls, path: str | Path) -> Baseline:
        """Read an evaluation's baseline.json; its folder or its metrics.json name it too.

        Raises:
            ConfigError: there is none, or it is not what an evaluation writes.
        """
        file = Path(path)
        if file.is_dir():
            file = file / BASELINE
        elif file.name == METRICS:
            file = file.with_name(BASELINE)
        if not file.is_file():
            raise ConfigError(
                f"no_regression={str(path)!r}: there is no file {file}; give the folder of an "
                "earlier evaluation, or the baseline.json it wrote (metrics.json alone has no "
                "values by query to pair)"
            )
        try:
            read = json.loads(file.read_text(encoding="utf-8"))
            return cls(file, read["data"]["sha256"], _checked(read["per_query"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"no_regression={str(path)!r}: {file} is not a baseline.json of an evaluation "
                f"({type(error).__name__}: {error}); write it anew with the version that was good"
            ) from None


def check_thresholds(result: EvalResult, thresholds: Iterable[Threshold]) -> list[Verdict]:
    """Hold each threshold against its system.

    Raises:
        ConfigError: a threshold is for a system or a measure that is not in the result.
    """
    verdicts = []
    for threshold in thresholds:
        spec = threshold.spec or next(iter(result.systems))
        check_system(spec, result.systems)
        measures = result.systems[spec].measures
        if threshold.measure not in measures:
            raise ConfigError(
                f"fail_under: {spec} was not measured by {threshold.measure!r}; measured were "
                f"{', '.join(measures)}"
            )
        value = measures[threshold.measure].value
        passed = value >= threshold.least - _ROUNDING
        sign = ">=" if passed else "<"
        verdicts.append(
            Verdict(passed, f"{spec}: {threshold.measure} {value:.4f} {sign} {threshold.least:g}")
        )
    return verdicts


def check_system(spec: str, known: Collection[str]) -> None:
    """Raise ConfigError unless a threshold's system is one of those evaluated."""
    if spec not in known:
        raise ConfigError(
            f"fail_under names the system {spec!r}, which is not evaluated; there is "
            f"{', '.join(known)}"
        )


def check_regression(
    result: EvalResult, baseline: Baseline, measures: Sequence[str]
) -> list[Verdict]:
    """Compare each system with itself in an earlier run, paired by query.

    A regression is a lower mean with p < 0.05, two-sided, after Holm's correction over all
    systems and measures compared here. A lower mean that may be chance passes, and is said.

    Raises:
        ConfigError: no system or measure is in both, or a system's queries are not the same.
    """
    from koe5_integrations.evaluation.significance import holm, permutation_p

    pairs: list[tuple[str, str, Any, Any]] = []
    for spec, system in result.systems.items():
        for measure in measures:
            now = system.per_query.get(measure)
            before = baseline.per_query.get(spec, {}).get(measure)
            if now is None or before is None:
                continue
            _check_queries(spec, now, before, baseline.path)
            ids = list(now)
            pairs.append(
                (
                    spec,
                    measure,
                    np.array([now[i] for i in ids]),
                    np.array([before[i] for i in ids]),
                )
            )
    if not pairs:
        raise ConfigError(
            f"no_regression: {baseline.path} has no system and measure in common with this run; it "
            f"has {', '.join(baseline.per_query)}, this run {', '.join(result.systems)}, compared "
            f"on {', '.join(measures)}"
        )
    corrected = holm([permutation_p(now, before) for _, _, now, before in pairs])
    other = result.manifest["data"]["sha256"] != baseline.sha256
    note = "; the documents, questions or judgements are not the baseline's" if other else ""
    verdicts = []
    for (spec, measure, now, before), p in zip(pairs, corrected, strict=True):
        drop = before.mean() - now.mean()
        passed = not (drop > _ROUNDING and p < 0.05)
        change = f"{before.mean():.4f} before, {now.mean():.4f} now, p={p:.4f}"
        verdicts.append(Verdict(passed, f"{spec}: {measure} {change}{note}"))
    return verdicts


def _check_queries(
    spec: str, now: Mapping[str, float], before: Mapping[str, float], path: Path
) -> None:
    if now.keys() == before.keys():
        return
    new, gone = sorted(now.keys() - before.keys()), sorted(before.keys() - now.keys())
    differ = [
        f"{len(ids)} only {where} ({ids[0]!r}, …)"
        for ids, where in ((new, "here"), (gone, "there"))
        if ids
    ]
    raise ConfigError(
        f"no_regression: {spec} was asked other queries in {path}: {' and '.join(differ)}. A "
        "paired test needs the same ones: evaluate on those, or write the baseline anew"
    )


def _checked(per_query: Any) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    for measures in per_query.values():
        for values in measures.values():
            for value in values.values():
                if not 0 <= value <= 1:
                    raise ValueError(f"{value!r} is not a value from 0 to 1")
    checked: Mapping[str, Mapping[str, Mapping[str, float]]] = per_query
    return checked
