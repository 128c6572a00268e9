"""Train a bag model's table: questions find their passages, and like sentences score alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from koe5_integrations.training.mini.bag import BagSums, one_bit
from koe5_integrations.training.mini.batches import draw_batches, members
from koe5_integrations.training.mini.data import PairFeatures, Similar
from koe5_integrations.training.mini.features import Features, Ints
from koe5_integrations.training.mini.recipe import Recipe
from koe5_integrations.types import Vectors

__all__ = ["initial_table", "train_table"]

Report = Callable[[int, float], None]

_TINY = 1e-6


def initial_table(frequency: Ints, texts: int, recipe: Recipe) -> Vectors:
    """Return random rows as long as their feature is rare: idf, of mean length 1 a column.

    Args:
        frequency: in how many of the texts each feature occurs, shape (size,).
        texts: how many there are.
        recipe: dim and seed.

    Returns:
        shape (size, dim - 1), float32.
    """
    idf = np.log((texts + 1) / (frequency + 1))
    rng = np.random.default_rng(recipe.seed)
    rows = rng.standard_normal((len(frequency), recipe.dim - 1), dtype=np.float32)
    rows *= (idf / idf.mean()).astype(np.float32)[:, None]
    return rows


def train_table(
    table: Vectors,
    pairs: PairFeatures,
    rows: Ints,
    similar: Similar | None,
    recipe: Recipe,
    *,
    report: Report = lambda step, loss: None,
) -> Vectors:
    """Train a table in place and return it; what counts of the result are its signs and scales.

    A batch's queries look for their passages among the batch's (InfoNCE). Pairs of an equal query
    or passage are not each other's negatives. On one thread of torch the same arguments give the
    same table, on the same machine and torch version; on several, sums differ in their last digits.

    Args:
        table: the start, shape (size, dim - 1), float32.
        pairs: the pairs' features.
        rows: positions of the pairs to train on.
        similar: sentence pairs whose scores the cosines shall follow; None for none.
        recipe: batch size, steps and so on.
        report: called after every step with the steps done and the batch's loss.

    Raises:
        DatasetError: there are too few pairs for any negative.
    """
    rng = np.random.default_rng(recipe.seed)
    batches = draw_batches(
        members(pairs.sources, rows), recipe.batch_size, recipe.source_power, rng
    )
    learner = _Learner(table, recipe)
    for step in range(recipe.steps):
        report(step + 1, learner.step(_Batch.draw(next(batches), pairs, similar, recipe, rng)))
    return table


class _Batch:
    """The texts of one step, in one bag: so that each row's gradient is made once."""

    def __init__(self, parts: list[Features], same: np.ndarray, asked: Ints, scores: Vectors):
        self.features = Features.join(parts)
        self.sizes = [len(part) for part in parts]
        self.same = torch.from_numpy(same)
        self.asked = torch.from_numpy(asked)
        self.scores = torch.from_numpy(scores)

    @classmethod
    def draw(
        cls,
        rows: Ints,
        pairs: PairFeatures,
        similar: Similar | None,
        recipe: Recipe,
        rng: np.random.Generator,
    ) -> _Batch:
        n = len(rows)
        queries, passages = pairs.query_numbers[rows], pairs.passage_numbers[rows]
        same = (queries[:, None] == queries) | (passages[:, None] == passages)
        np.fill_diagonal(same, False)
        # One number more than there are questions stands for none.
        asked = rng.integers(len(pairs.questions), size=n)
        none = (rng.random(n) >= recipe.question_share) | ~pairs.headings[rows]
        asked[none] = len(pairs.questions)
        parts = [pairs.queries.select(rows), pairs.passages.select(rows), pairs.questions]
        scores = np.zeros(0, np.float32)
        if similar is not None and recipe.similarity_weight:
            drawn = rng.integers(len(similar.scores), size=recipe.similarity_pairs)
            parts += [similar.first.select(drawn), similar.second.select(drawn)]
            scores = similar.scores[drawn]
        return cls(parts, same, asked, scores)


class _Learner:
    """Adam on a table, of which a step touches a part."""

    def __init__(self, table: Vectors, recipe: Recipe) -> None:
        self._recipe = recipe
        self._sums = BagSums(recipe.saturation)
        self._weights = torch.from_numpy(table).requires_grad_()
        self._weights.grad = torch.zeros_like(self._weights)
        self._optimizer = torch.optim.Adam([self._weights], lr=recipe.learning_rate, fused=True)
        warm = max(1.0, recipe.steps * recipe.warm_up)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            lambda step: min(
                (step + 1) / warm, (recipe.steps - step) / max(1.0, recipe.steps - warm)
            ),
        )
        self._place = np.zeros(len(table), dtype=np.int32)
        self._passage_scale: float | None = None
        self._steps = 0

    def step(self, batch: _Batch) -> float:
        """Learn from a batch; return the loss of its queries."""
        touched = np.zeros(len(self._place), dtype=np.bool_)
        touched[batch.features.ids] = True
        rows = np.flatnonzero(touched)
        self._place[rows] = np.arange(len(rows), dtype=np.int32)
        at = torch.from_numpy(rows)
        with torch.no_grad():
            used = self._weights.index_select(0, at)
            if self._steps >= self._recipe.binary_from * self._recipe.steps:
                # The gradient goes straight through to the values behind the signs.
                used = one_bit(used)
        used.requires_grad_()
        ids = self._place[batch.features.ids]
        sums = self._sums(used, Features(ids, batch.features.counts, batch.features.offsets))
        searching, comparing = self._losses(sums, batch)
        (searching + self._recipe.similarity_weight * comparing).backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        assert self._weights.grad is not None
        assert used.grad is not None
        self._weights.grad.index_copy_(0, at, used.grad)
        self._optimizer.step()
        self._schedule.step()
        self._weights.grad.index_fill_(0, at, 0.0)
        self._steps += 1
        return float(searching.detach())

    def _losses(self, sums: torch.Tensor, batch: _Batch) -> tuple[torch.Tensor, torch.Tensor]:
        recipe = self._recipe
        queries, passages, questions, *sentences = torch.split(sums, batch.sizes)
        nothing = questions.new_zeros(1, questions.shape[1])
        queries = queries + torch.cat([questions, nothing])[batch.asked]
        lengths = passages.norm(dim=1, keepdim=True).clamp_min(_TINY)
        passages = passages / lengths**recipe.length_exponent
        if self._passage_scale is None:
            # With it the temperature means what it does for unit vectors.
            self._passage_scale = 1 / float(passages.detach().norm(dim=1).mean())
        scores = _unit(queries) @ passages.T * (self._passage_scale / recipe.temperature)
        scores = scores.masked_fill(batch.same, -torch.inf)
        searching = functional.cross_entropy(scores, torch.arange(len(queries)))
        if not sentences:
            return searching, searching.new_zeros(())
        cosines = (_unit(sentences[0]) * _unit(sentences[1])).sum(dim=1)
        return searching, 1 - functional.cosine_similarity(
            cosines - cosines.mean(), batch.scores - batch.scores.mean(), dim=0
        )


def _unit(sums: torch.Tensor) -> torch.Tensor:
    return functional.normalize(sums, dim=1, eps=_TINY)
