"""Real Korean text of given lengths: what is embedded, the same for every configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError
from koe5_integrations.evaluation.datasets import SHIPPED_NAMES, load_dataset

__all__ = ["Passages", "Workload", "make_workload"]

# Enough to fill a GPU's batch, and a CPU's many times.
_TOKENS = 65_536
_FEWEST_TEXTS, _MOST_TEXTS = 64, 4096
_COMPARED = 50


@dataclass(frozen=True)
class Passages:
    """Distinct passages of one length.

    Attributes:
        length: tokens asked for, prefix and special tokens included.
        tokens: what a text has, on average; a text is cut between words, so a little less.
        texts: the passages.
    """

    length: int
    tokens: float
    texts: list[str]


@dataclass(frozen=True)
class Workload:
    """What is embedded.

    Attributes:
        passages: for each length.
        queries: real questions.
        compared: a role and its texts, for holding vectors against those of fp32: questions and
            passages of their natural length.
    """

    passages: list[Passages]
    queries: list[str]
    compared: dict[str, list[str]]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Workload:
        """Read what :meth:`write` wrote."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        passages = [Passages(**each) for each in stored["passages"]]
        return cls(passages, stored["queries"], stored["compared"])


def make_workload(encoder: KoE5Encoder, lengths: Sequence[int]) -> Workload:
    """Cut the passages of the shipped data sets to lengths in this model's own tokens.

    Args:
        encoder: of the model; loads its tokenizer alone.
        lengths: tokens, prefix and special tokens included; at most what the model reads.

    Raises:
        ConfigError: a length has no room for a word.
    """
    data = [load_dataset(name) for name in SHIPPED_NAMES]
    documents = [text for each in data for text in each.corpus.values()]
    queries = [text for each in data for text in each.queries.values()]
    # Neighbours ask about the same passage; a fixed order in which they don't.
    order = np.random.default_rng(0).permutation(len(queries))

    words = [word for text in documents for word in text.split()]
    return Workload(
        _passages(words, lengths, encoder),
        [queries[i] for i in order],
        {"query": [queries[i] for i in order[:_COMPARED]], "passage": _spread(documents)},
    )


def _passages(words: list[str], lengths: Sequence[int], encoder: KoE5Encoder) -> list[Passages]:
    """Cut windows that start all over the text and are as long as each length allows."""
    distinct = list(dict.fromkeys(words))
    counted = encoder.count_tokens(distinct, "passage")
    around = min(counted) - 1  # a word has one token at least
    by_word = {word: n - around for word, n in zip(distinct, counted, strict=True)}
    # Windows that reach the end of the text go on at its beginning.
    ends = np.cumsum([by_word[word] for word in words] * 2)
    windows: dict[tuple[int, str], list[str]] = {}
    for length in lengths:
        wanted = min(_MOST_TEXTS, max(_FEWEST_TEXTS, _TOKENS // length))
        for start in np.linspace(0, len(words) - 1, wanted).astype(int):
            room = length - around + (ends[start - 1] if start else 0)
            end = int(np.searchsorted(ends, room, side="right"))
            window = [*words[start:end], *words[: max(0, end - len(words))]]
            windows[length, " ".join(window)] = window
    sizes: dict[tuple[int, str], int] = {}
    while new := [key for key in windows if key not in sizes and key[1]]:
        # All lengths at once: the encoder reads its tokenizer anew for every call.
        sizes |= zip(new, encoder.count_tokens([text for _, text in new], "passage"), strict=True)
        # Two words side by side may have a token more than each alone.
        for length, text in [key for key in new if sizes[key] > key[0]]:
            shorter = windows.pop((length, text))[:-1]
            windows[length, " ".join(shorter)] = shorter
    made = []
    for length in lengths:
        texts = [text for at, text in windows if at == length and text]
        if not texts:
            raise ConfigError(
                f"lengths={length} leaves no room for a word: prefix and special tokens alone "
                f"take {around}"
            )
        made.append(
            Passages(length, float(np.mean([sizes[length, text] for text in texts])), texts)
        )
    return made


def _spread(texts: Sequence[str]) -> list[str]:
    return [texts[i * len(texts) // _COMPARED] for i in range(_COMPARED)]
