"""Embeds a sample's texts in all the ways they may have been, and says which way it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.ingestion.diagnosis.geometry import (
    Floats,
    is_of_this_model,
    judge,
    outlying,
    spread,
    unit,
)
from koe5_integrations.ingestion.diagnosis.sampling import Row
from koe5_integrations.ingestion.diagnosis.variants import (
    Variant,
    made_as,
    plain_variants,
    wider_variants,
)

__all__ = ["Comparison", "compare"]

# Farther than this from all candidates, a vector is of another text or model, whatever the model.
_FARTHEST = 0.02
# So much farther apart are different texts, at least, than a text and its own vector.
_TIMES_CLOSER = 4
# What two engines, or vectors kept in 16 bits, differ by.
_AS_NEAR_AS_CAN_BE = 1e-6
# How many rows that nothing plain explains are tried with all the rest.
_PILOT = 16
# Vectors that are off by more than this may not just have been rounded, least of all if all are in
# one direction.
_NOTICEABLE = 1e-4
# That, if it is clear all the same which of the prefixes they have.
_SUSPICIOUS = 1e-3
_ALIKE = 0.25
_FEWEST_TO_COMPARE = 20


@dataclass
class Comparison:
    """What became of each row that could be compared, as positions in the rows given.

    Attributes:
        made: by what the vectors were made of: ``right``, ``no prefix``, … (see
            :func:`~koe5_integrations.ingestion.diagnosis.variants.made_as`).
        unknown_prefix: all moved in the same direction from what they should be, and by more than
            any rounding that leaves it clear how they were made.
        untold: this model's vectors of their texts, but two ways of making them differ too little.
        of_other_text: this model's vectors, but not of their texts.
        of_other_model: not this model's vectors.
        unclear: one or the other.
        akin: of those three, the ones that are nearer to their own text than to any other.
        forms: rows made from another form of their text, by the form.
        read_less: rows of which fewer tokens were read, by how many.
        distances: of the rows under ``made`` to what they were made as, 1 - cosine.
        shifted: those vectors are all moved in the same direction, if not far.
    """

    made: dict[str, list[int]] = field(default_factory=dict)
    unknown_prefix: list[int] = field(default_factory=list)
    untold: list[int] = field(default_factory=list)
    of_other_text: list[int] = field(default_factory=list)
    of_other_model: list[int] = field(default_factory=list)
    unclear: list[int] = field(default_factory=list)
    akin: list[int] = field(default_factory=list)
    forms: dict[str, list[int]] = field(default_factory=dict)
    read_less: dict[int, list[int]] = field(default_factory=dict)
    distances: list[float] = field(default_factory=list)
    shifted: bool = False

    @property
    def fitting(self) -> int:
        """Rows whose vectors are this model's of their texts, made in whatever way."""
        return sum(map(len, [*self.made.values(), self.unknown_prefix, self.untold]))


def compare(
    rows: Sequence[Row],
    encoder: KoE5Encoder,
    *,
    seed: int,
    on_progress: Callable[[int], None],
) -> Comparison:
    """Find out how the rows' vectors were made.

    Args:
        rows: with visible texts and vectors that have a direction, of the same dimension, which is
            at most the encoder's.
        encoder: the model they should be of.
        seed: of the choice of rows on which unusual ways are tried.
        on_progress: told how many texts have been embedded.

    Raises:
        ModelLoadError: the model can't be had.
    """
    return _Comparing(rows, encoder, on_progress).run(seed)


class _Comparing:
    """Holds what the steps of a comparison share."""

    def __init__(
        self, rows: Sequence[Row], encoder: KoE5Encoder, on_progress: Callable[[int], None]
    ) -> None:
        self._rows = rows
        self._profile = encoder.profile
        self._limit = encoder.max_seq_length
        # Whatever is to stand in front of a text is put there here.
        self._config = encoder.config() | {
            "query_prompt": "",
            "passage_prompt": "",
            "normalize_unicode": False,
            "on_truncation": "ignore",
        }
        self._config.pop("truncate_dim", None)
        self._stored = unit(np.stack([row.vector for row in rows]))
        self._on_progress = on_progress
        self._embedded = 0
        self._found = Comparison()

    def run(self, seed: int) -> Comparison:
        everyone = np.arange(len(self._rows))
        variants = plain_variants(self._profile)
        plain = np.stack([self._embed(variant, everyone) for variant in variants])
        texts = [variants[0].text(r.text or "", r.metadata, self._profile) for r in self._rows]
        _, distinct = np.unique(np.array(texts, dtype=object), return_index=True)
        # A prompt may move all texts alike, and so nearer to each other than they are without it.
        between = max(spread(way[distinct]) for way in plain)
        limit = min(_FARTHEST, between / _TIMES_CLOSER)
        found = judge(self._stored, plain, self._kinds(variants))
        # What is farther off may have been rounded, or have a prefix that is none of the plain ones
        # and yet near one of them.
        clear = found.told & (
            found.distance <= np.minimum(min(limit, _NOTICEABLE), found.apart / _TIMES_CLOSER)
        )
        # Where a vector is no nearer to its text than another text's would be, no prefix helps, but
        # metadata in front of the text may; where it is as near as can be, nothing will.
        nodes = np.array(["_node_content" in row.metadata for row in self._rows])
        tried = (found.distance > _AS_NEAR_AS_CAN_BE) & (nodes | (found.distance < between / 2))
        rest = np.flatnonzero(~clear & tried)
        wider = self._wider(rest, found.distance, seed)
        candidates = np.full((len(variants) + len(wider), *self._stored.shape), np.nan)
        candidates[: len(variants)] = plain
        for i, variant in enumerate(wider):
            candidates[len(variants) + i, rest] = self._embed(variant, rest)
        variants += wider
        found = judge(self._stored, candidates, self._kinds(variants))
        outside = outlying(found.distance, limit)
        fits = found.told & ~outside
        moved = self._stored - candidates[found.best, everyone]
        self._found.distances = found.distance[fits].tolist()
        self._found.shifted = _all_moved_alike(moved[fits], _SUSPICIOUS)
        # From each plain way, for from one of them they may have been moved by rounding alone.
        odd = ~fits & (found.distance < between / 2)
        if all(_all_moved_alike((self._stored - way)[odd], _NOTICEABLE) for way in plain):
            self._found.unknown_prefix = np.flatnonzero(odd).tolist()
        else:
            odd[:] = False
        self._sort_fitting(variants, found.best, found.told, ~outside & ~odd)
        others = np.flatnonzero(outside & ~odd)
        self._sort_others(others, plain[0], distinct, any_fit=bool(fits.any() or odd.any()))
        return self._found

    def _kinds(self, variants: Sequence[Variant]) -> list[str]:
        return [made_as(variant.prefix, self._profile) for variant in variants]

    def _embed(self, variant: Variant, positions: npt.NDArray[np.intp]) -> Floats:
        """Return unit vectors, shape (len(positions), dim); NaN where the variant doesn't apply."""
        rows = [self._rows[i] for i in positions.tolist()]
        texts = [variant.text(row.text or "", row.metadata, self._profile) for row in rows]
        applies = [i for i, text in enumerate(texts) if text is not None]
        vectors = np.full((len(rows), self._stored.shape[1]), np.nan)
        if applies:
            bare = KoE5Encoder(
                **self._config | ({"max_seq_length": variant.tokens} if variant.tokens else {})
            )
            embedded = bare.encode_passages([text for text in texts if text is not None])
            # Fewer dimensions than the model's are its first ones, or another model's.
            vectors[applies] = unit(embedded[:, : vectors.shape[1]])
            self._embedded += len(applies)
            self._on_progress(self._embedded)
        return vectors

    def _wider(self, rest: npt.NDArray[np.intp], so_far: Floats, seed: int) -> list[Variant]:
        """Return the unusual ways that explain some of the remaining rows better."""
        draw = np.random.default_rng(seed)
        pilot = np.sort(draw.permutation(rest)[:_PILOT])
        if not len(pilot):
            return []
        variants = wider_variants(self._profile, self._limit)
        candidates = np.stack([self._embed(variant, pilot) for variant in variants])
        found = judge(self._stored[pilot], candidates, self._kinds(variants))
        better = found.distance < so_far[pilot] / 2
        return [variants[i] for i in np.unique(found.best[better]).tolist()]

    def _sort_fitting(
        self,
        variants: Sequence[Variant],
        best: npt.NDArray[np.intp],
        told: npt.NDArray[np.bool_],
        inside: npt.NDArray[np.bool_],
    ) -> None:
        found = self._found
        for i in np.flatnonzero(inside).tolist():
            variant = variants[best[i]]
            if not told[i]:
                found.untold.append(i)
                continue
            found.made.setdefault(made_as(variant.prefix, self._profile), []).append(i)
            if variant.form != "plain":
                found.forms.setdefault(variant.form, []).append(i)
            if variant.tokens is not None:
                found.read_less.setdefault(variant.tokens, []).append(i)

    def _sort_others(
        self,
        others: npt.NDArray[np.intp],
        right: Floats,
        distinct: npt.NDArray[np.intp],
        *,
        any_fit: bool,
    ) -> None:
        """Sort the rows that no way of embedding their texts explains."""
        found = self._found
        if not len(others):
            return
        similar = self._stored[others] @ right[distinct].T
        own = np.einsum("nd,nd->n", self._stored[others], right[others])
        if len(distinct) >= _FEWEST_TO_COMPARE:
            found.akin = others[own >= similar.max(axis=1) - 1e-9].tolist()
        if not any_fit:
            found.of_other_model = others.tolist()
            return
        ours = is_of_this_model(self._stored[others], right[distinct])
        if ours is None:
            found.unclear = others.tolist()
            return
        found.of_other_text = others[ours].tolist()
        found.of_other_model = others[~ours].tolist()


def _all_moved_alike(moved: Floats, least: float) -> bool:
    """Tell whether vectors were moved in one direction, by ``least`` or more, and not at random."""
    n = len(moved)
    squared = np.einsum("nd,nd->n", moved, moved)
    if n < _FEWEST_TO_COMPARE or np.median(squared) / 2 < least:
        return False
    return float((moved.sum(axis=0) ** 2).sum()) > _ALIKE * n * float(squared.sum())
