"""What is wrong with a collection, what that means, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["EXAMPLES", "MIGRATE", "Diagnosis", "Finding", "Severity"]

EXAMPLES = 5
"""Ids shown of the rows that a finding concerns."""

MIGRATE = "koe5 migrate embeds the texts again, with the right prefix, into a new collection"
"""The remedy of most."""


Severity: TypeAlias = Literal["fault", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        kind: names it for programs, such as ``no_prefix``.
        severity: a ``fault`` finds wrong texts, a ``warning`` may, a ``note`` is to be known.
        sentence: what was found and what it means.
        remedy: what to do; empty if nothing need be done.
        count: rows it concerns, of those in ``of``.
        of: rows looked at for it; 0 if it concerns the collection as a whole.
        examples: ids of such rows.
    """

    kind: str
    severity: Severity
    sentence: str
    remedy: str = ""
    count: int = 0
    of: int = 0
    examples: Sequence[str] = ()

    @property
    def share(self) -> float | None:
        """Of the rows looked at, from 0 to 1; None if it concerns the collection as a whole."""
        return self.count / self.of if self.of else None


@dataclass
class Diagnosis:
    """What was found out about a collection.

    Attributes:
        collection: its name.
        rows: in it.
        dim: of its vectors; None if it is empty.
        space: how it measures distance.
        made_by: the embedding function it names, with its model if it says; None if none.
        recorded: digest of the fingerprint it records; None if it records none.
        model: it was compared with.
        fingerprint: digest of that model's vectors.
        sampled: rows looked at.
        compared: of those, rows whose text was embedded again.
        made: how many of those were made how: ``right``, ``no prefix``, … ``other model``.
        seen: how likely a fault in a twentieth of the rows was to be met, from 0 to 1.
        scanned: whether all texts were read.
        findings: the worst first.
    """

    collection: str
    rows: int
    dim: int | None
    space: str
    made_by: str | None
    recorded: str | None
    model: str
    fingerprint: str
    sampled: int = 0
    compared: int = 0
    made: dict[str, int] = field(default_factory=dict)
    seen: float = 0.0
    scanned: bool = False
    findings: list[Finding] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Nothing but notes was found."""
        return all(finding.severity == "note" for finding in self.findings)

    @property
    def sureness(self) -> str:
        """What a sample of this size can and can't show, in a sentence."""
        if self.compared >= self.rows:
            return f"All {self.rows:,} rows were compared."
        # Never rounded up to certainty.
        percent = min(int(self.seen * 10_000) / 100, 99.99)
        return (
            f"{self.compared:,} of {self.rows:,} rows were compared: a fault in 5% of the rows "
            f"is seen with a probability of {percent:.2f}% or more."
        )
