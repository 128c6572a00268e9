"""What breaks Korean retrieval in practice, done on purpose to see what it costs.

Each ablation is a system like any other: the same one with other prefixes, or asked with spoilt
queries. The documents are left as they are.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.results import IndexStats, Run, System
from koe5_integrations.evaluation.systems.chroma import ChromaSystem
from koe5_integrations.evaluation.systems.dense import DenseSystem
from koe5_integrations.types import Role

__all__ = ["ABLATIONS", "TruncationShare", "ablate", "truncation_share"]

QueryChange: TypeAlias = Callable[[str, random.Random], str]

PREFIXES = ("none", "swapped", "doubled")
_SPACE_SHARE = 0.15


def _decompose(text: str, _: random.Random) -> str:
    return unicodedata.normalize("NFD", text)


def _without_spaces(text: str, _: random.Random) -> str:
    return "".join(text.split())


def _random_spaces(text: str, chance: random.Random) -> str:
    """Drop about one in seven spaces, and put one in at one in seven places without."""
    pieces: list[str] = []
    for character in text:
        flipped = chance.random() < _SPACE_SHARE
        if character.isspace():
            pieces.append("" if flipped else character)
        else:
            pieces.append(f"{character} " if flipped else character)
    return "".join(pieces).strip()


_QUERIES: Mapping[str, QueryChange] = {
    "queries=nfd": _decompose,
    "spaces=none": _without_spaces,
    "spaces=random": _random_spaces,
}

ABLATIONS: Mapping[str, Sequence[str]] = {
    "prefix": tuple(f"prefix={name}" for name in PREFIXES),
    "unicode": ("queries=nfd", "unicode=none"),
    "spacing": ("spaces=none", "spaces=random"),
}
"""The variants of each ablation, as they stand in a system's name: ``bm25:bigram[spaces=none]``.

``prefix``: no prefix, each role with the other's, each prefix twice. ``unicode``: queries in NFD
(decomposed Hangul), with and without the encoder's own normalisation. ``spacing``: queries without
spaces, and with spaces dropped and put in at random.
"""


def ablate(system: System, ablations: Iterable[str], *, seed: int = 0) -> list[System]:
    """Return the variants of a system under some ablations; the system itself is not among them.

    Prefixes and normalisation are changed where there is an encoder (dense and Chroma systems); for
    others those variants are left out. Spoilt queries are put to any system, and its variants share
    one index.

    Args:
        system: what to vary.
        ablations: names of :data:`ABLATIONS`.
        seed: of the random spaces; the same query is spoilt alike in every system.

    Raises:
        ConfigError: there is no such ablation.
    """
    names = list(dict.fromkeys(ablations))
    for name in names:
        if name not in ABLATIONS:
            raise ConfigError(f"ablation {name!r} must be one of {', '.join(map(repr, ABLATIONS))}")
    shared = _IndexedOnce(system)
    variants: list[System] = []
    for variant in (variant for name in names for variant in ABLATIONS[name]):
        spec = f"{system.spec}[{variant}]"
        if variant in _QUERIES:
            variants.append(_WithQueries(shared, spec, variant, seed))
        elif isinstance(system, DenseSystem | ChromaSystem):
            if variant == "unicode=none":
                raw = _IndexedOnce(
                    system.with_encoder(_rebuilt(system.encoder, normalize_unicode=False), spec)
                )
                variants.append(_WithQueries(raw, spec, "queries=nfd", seed))
            else:
                encoder = _with_prefix(system.encoder, variant.removeprefix("prefix="))
                variants.append(system.with_encoder(encoder, spec))
    return variants


def _with_prefix(encoder: KoE5Encoder, name: str) -> KoE5Encoder:
    query, passage = encoder.profile.query_prompt, encoder.profile.passage_prompt
    changed = {
        "none": ("", ""),
        "swapped": (passage, query),
        "doubled": (query * 2, passage * 2),
    }[name]
    return _rebuilt(encoder, query_prompt=changed[0], passage_prompt=changed[1])


def _rebuilt(encoder: KoE5Encoder, **changed: Any) -> KoE5Encoder:
    return KoE5Encoder(**{**encoder.config(), **changed})


class _IndexedOnce:
    """A system whose index several variants share."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._corpus: Mapping[str, str] | None = None
        self._bytes: int | None = None

    def index(self, corpus: Mapping[str, str]) -> IndexStats:
        if self._corpus is corpus:
            return IndexStats(0.0, self._bytes)
        stats = self.system.index(corpus)
        self._corpus, self._bytes = corpus, stats.bytes
        return stats


class _WithQueries:
    """A system asked with changed queries."""

    def __init__(self, shared: _IndexedOnce, spec: str, change: str, seed: int) -> None:
        self.spec = spec
        self._shared = shared
        self._change = change
        self._seed = seed

    def index(self, corpus: Mapping[str, str]) -> IndexStats:
        return self._shared.index(corpus)

    def search(self, queries: Mapping[str, str], top_k: int) -> Run:
        change = _QUERIES[self._change]
        changed = {
            query_id: change(text, random.Random(f"{self._seed}:{text}"))
            for query_id, text in queries.items()
        }
        return self._shared.system.search(changed, top_k)

    def facts(self) -> Mapping[str, Any]:
        seed = {"seed": self._seed} if self._change == "spaces=random" else {}
        return {**self._shared.system.facts(), "ablation": self._change, **seed}

    @property
    def warnings(self) -> Sequence[str]:
        return list(getattr(self._shared.system, "warnings", ()))

    @property
    def used_cache(self) -> bool:
        return bool(getattr(self._shared.system, "used_cache", False))


@dataclass(frozen=True, slots=True)
class TruncationShare:
    """How much of some texts an encoder would not read.

    Attributes:
        limit: tokens it reads of each text, prefix and special tokens included.
        texts: how many texts are longer.
        of_texts: how many there are.
        tokens: tokens beyond the limit.
        of_tokens: all tokens.
    """

    limit: int
    texts: int
    of_texts: int
    tokens: int
    of_tokens: int

    @property
    def share(self) -> float:
        """Share of the texts that are cut, 0 to 1."""
        return self.texts / self.of_texts if self.of_texts else 0.0


def truncation_share(
    encoder: KoE5Encoder, texts: Iterable[str], role: Role = "passage", *, limit: int = 512
) -> TruncationShare:
    """Count what would be cut at ``limit`` tokens; loads the tokenizer but not the weights.

    Args:
        encoder: whose tokenizer and prefixes.
        texts: bare texts.
        role: whose prefix is counted.
        limit: tokens read of each text, at least 1; KoE5 reads 512.

    Raises:
        ConfigError: ``limit`` is below 1.
        InputError: a text can't be embedded.
    """
    if limit < 1:
        raise ConfigError(f"limit={limit!r} must be at least 1")
    counts = encoder.count_tokens(texts, role)
    over = [count - limit for count in counts if count > limit]
    return TruncationShare(limit, len(over), len(counts), sum(over), sum(counts))
