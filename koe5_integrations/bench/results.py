"""What a benchmark found: raw figures of every round, and the medians drawn from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from koe5_integrations.bench.configurations import Configuration

__all__ = [
    "BenchResult",
    "Callers",
    "Choice",
    "Failed",
    "Fidelity",
    "Measured",
    "Memory",
    "Recommendation",
    "Throughput",
    "Waits",
]

_FORMAT = 1


@dataclass(frozen=True)
class Throughput:
    """Passages of one length, embedded in bulk.

    Attributes:
        length: tokens asked for, prefix and special tokens included.
        batch_tokens: most tokens in a pass, padding included; None is the backend's own choice.
        tokens: what a text really has, on average.
        texts: in one call.
        rounds: texts a second, of each round.
    """

    length: int
    batch_tokens: int | None
    tokens: float
    texts: int
    rounds: tuple[float, ...]

    @property
    def texts_per_second(self) -> float:
        """Median of the rounds."""
        return median(self.rounds)

    @property
    def tokens_per_second(self) -> float:
        """Real tokens, without padding."""
        return self.texts_per_second * self.tokens


@dataclass(frozen=True)
class Waits:
    """How long single questions took.

    Attributes:
        rounds: seconds of each call, by round.
    """

    rounds: tuple[tuple[float, ...], ...]

    @property
    def calls(self) -> int:
        """How many questions were asked."""
        return sum(map(len, self.rounds))

    def percentile(self, percent: float) -> float:
        """Return the seconds that so many percent of the calls of all rounds stayed within."""
        return float(np.percentile(np.concatenate(self.rounds), percent))

    @property
    def p50(self) -> float:
        """Seconds."""
        return self.percentile(50)

    @property
    def p95(self) -> float:
        """Seconds."""
        return self.percentile(95)

    @property
    def p99(self) -> float:
        """Seconds."""
        return self.percentile(99)


@dataclass(frozen=True)
class Callers:
    """Tasks of one event loop that ask question after question, each as soon as it is answered.

    Attributes:
        callers: how many.
        rounds: questions a second, of all callers together, of each round.
        p50_rounds: median seconds of a question, of each round.
        p95_rounds: seconds that 95% of the questions stayed within, of each round.
    """

    callers: int
    rounds: tuple[float, ...]
    p50_rounds: tuple[float, ...]
    p95_rounds: tuple[float, ...]

    @property
    def queries_per_second(self) -> float:
        """Median of the rounds."""
        return median(self.rounds)

    @property
    def p50(self) -> float:
        """Seconds; median of the rounds."""
        return median(self.p50_rounds)

    @property
    def p95(self) -> float:
        """Seconds; median of the rounds."""
        return median(self.p95_rounds)


@dataclass(frozen=True)
class Memory:
    """Physical memory of a process that does nothing but embed, in bytes.

    Files that are mapped rather than read (weights, libraries) count as far as they are in memory.

    Attributes:
        resident: after the model was loaded, before its first use.
        peak: most in the whole run.
        device_peak: most that torch held on the GPU; None without one.
    """

    resident: int
    peak: int
    device_peak: int | None = None


@dataclass(frozen=True)
class Fidelity:
    """Cosines of vectors to those of the same texts in fp32.

    Attributes:
        mean: over the texts.
        min: of the text that lost most.
        texts: how many.
        reference: the configuration whose vectors they are held against.
    """

    mean: float
    min: float
    texts: int
    reference: str


@dataclass(frozen=True)
class Measured:
    """All figures of one configuration.

    Attributes:
        configuration: what ran.
        device: what it ran on, as the backend says.
        batch_tokens: the backend's own choice of tokens in a pass.
        load_seconds: from a fresh process to a loaded model, imports included.
        first_query_seconds: of the first question after that.
        memory: of its process.
        throughput: by length and batch.
        query: questions asked one after another.
        query_during_bulk: the same while a long list of passages is embedded.
        callers: concurrent questions, by number of callers.
        fidelity: to fp32; None if no fp32 configuration could run.
    """

    configuration: Configuration
    device: str
    batch_tokens: int
    load_seconds: float
    first_query_seconds: float
    memory: Memory
    throughput: tuple[Throughput, ...]
    query: Waits
    query_during_bulk: Waits
    callers: tuple[Callers, ...]
    fidelity: Fidelity | None = None


@dataclass(frozen=True)
class Failed:
    """A configuration that could not be measured.

    Attributes:
        configuration: what was tried.
        reason: what went wrong, and the remedy where there is one.
    """

    configuration: Configuration
    reason: str


@dataclass(frozen=True)
class Choice:
    """A recommended encoder.

    Attributes:
        configuration: what runs it.
        batch_tokens: to be set where it clearly beats the backend's own choice, else None.
        code: the call that makes the encoder.
        reason: the figures that decided.
    """

    configuration: Configuration
    batch_tokens: int | None
    code: str
    reason: str


@dataclass(frozen=True)
class Recommendation:
    """What to use on this machine.

    Attributes:
        bulk: for embedding many passages; None if nothing could be measured or trusted.
        query: for answering single questions; None likewise.
        text: one or two sentences.
        rule: how it was chosen.
    """

    bulk: Choice | None
    query: Choice | None
    text: str
    rule: str


@dataclass(frozen=True)
class BenchResult:
    """One machine, one model, and every configuration that was tried.

    Attributes:
        model: name, fingerprint, dimensions and limits, as JSON types.
        machine: processor, its instruction sets, cores and memory, as JSON types.
        versions: of Python and the libraries, by name.
        settings: what was asked for.
        measured: in the order asked for.
        failed: likewise.
        recommendation: what to use.
        notes: what a reader should know of this run.
        created: UTC, ISO 8601.
    """

    model: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    measured: tuple[Measured, ...]
    failed: tuple[Failed, ...]
    recommendation: Recommendation
    notes: tuple[str, ...]
    created: str

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON types: raw figures, and the medians and percentiles of them."""
        return {
            "format": _FORMAT,
            **{name: value for name, value in asdict(self).items() if name != "measured"},
            "measured": [_with_derived(each) for each in self.measured],
        }


def _with_derived(measured: Measured) -> dict[str, Any]:
    found: dict[str, Any] = asdict(measured)
    found["throughput"] = [
        {
            **asdict(point),
            "texts_per_second": point.texts_per_second,
            "tokens_per_second": point.tokens_per_second,
        }
        for point in measured.throughput
    ]
    found["callers"] = [
        {
            **asdict(point),
            "queries_per_second": point.queries_per_second,
            "p50": point.p50,
            "p95": point.p95,
        }
        for point in measured.callers
    ]
    for name, waits in (
        ("query", measured.query),
        ("query_during_bulk", measured.query_during_bulk),
    ):
        found[name] |= {"calls": waits.calls, "p50": waits.p50, "p95": waits.p95, "p99": waits.p99}
    return found
