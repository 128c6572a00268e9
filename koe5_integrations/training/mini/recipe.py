"""How the bundled model is made."""

from __future__ import annotations

from dataclasses import dataclass

from koe5_integrations.errors import ConfigError

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a bag model is made; the defaults are those of the bundled model.

    Attributes:
        pieces: tokens to learn; a tokenizer that is given has its own number.
        tokenizer_pairs: random pairs that the tokenizer is learnt from.
        bigrams: bigrams with a row of their own.
        bigram_pairs: random pairs whose bigrams are counted.
        buckets: rows that all other bigrams share.
        max_characters: of a text that training reads.
        dim: length of a vector, a multiple of 8; the last dimension is that of the stretch.
        saturation: a feature that occurs very often counts 1 + saturation, once 1.
        length_exponent: a passage's vector is divided by this power of its length, 0 to 1.
        steps: batches trained on.
        batch_size: pairs in a batch; each query's negatives are the batch's other passages.
        learning_rate: Adam's highest, after which it falls in a line to 0.
        warm_up: share of the steps in which the rate rises, 0 to 1.
        temperature: what scores are divided by in the loss.
        source_power: a batch's source is drawn with the probability size ** source_power.
        question_share: share of the headings that a question is put after, 0 to 1.
        similarity_weight: of the sentence pairs' loss, 1 - Pearson's correlation.
        similarity_pairs: sentence pairs in a batch, at least 2.
        binary_from: share of the steps after which rows are trained as the one-bit rows they will
            be, 0 to 1.
        held_out: pairs of each source kept for measuring, but at most a twentieth of it.
        held_out_pool: passages of a source in which the held-out ones are looked for.
        seed: of every draw.
    """

    pieces: int = 32_000
    tokenizer_pairs: int = 60_000
    bigrams: int = 32_000
    bigram_pairs: int = 100_000
    buckets: int = 4096
    max_characters: int = 700
    dim: int = 1024
    saturation: float = 2.0
    length_exponent: float = 0.75
    steps: int = 1200
    batch_size: int = 1024
    learning_rate: float = 0.05
    warm_up: float = 0.1
    temperature: float = 0.05
    source_power: float = 0.6
    question_share: float = 0.4
    similarity_weight: float = 3.0
    similarity_pairs: int = 512
    binary_from: float = 0.0
    held_out: int = 300
    held_out_pool: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible values before anything is read.

        Raises:
            ConfigError: one is out of its range.
        """
        least = {"batch_size": 2, "similarity_pairs": 2}
        wholes = ("pieces", "tokenizer_pairs", "bigrams", "bigram_pairs", "buckets", "steps")
        for name in (*wholes, "max_characters", "held_out_pool", *least):
            if getattr(self, name) < least.get(name, 1):
                raise ConfigError(
                    f"{name}={getattr(self, name)!r} must be at least {least.get(name, 1)}"
                )
        for name in ("learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be above 0")
        for name in ("saturation", "source_power", "similarity_weight", "held_out", "seed"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be 0 or more")
        for name in ("length_exponent", "warm_up", "question_share", "binary_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be between 0 and 1")
        if self.dim < 8 or self.dim % 8:
            raise ConfigError(f"dim={self.dim!r} must be a multiple of 8: bits are kept in bytes")
