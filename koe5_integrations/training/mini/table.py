"""Train a table of token vectors so that the mean of a question's finds the mean of its passage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from koe5_integrations.errors import ConfigError, DatasetError
from koe5_integrations.training.mini.bags import Bags, Ints, document_frequency
from koe5_integrations.types import Vectors

Report = Callable[[int, float], None]


@dataclass(frozen=True)
class Recipe:
    """How a table is trained; the defaults are those of the bundled model.

    Attributes:
        dim: length of a vector.
        steps: batches trained on.
        batch_size: pairs in a batch; each query's negatives are the batch's other passages.
        learning_rate: Adam's highest, after warming up over `warm_up` of the steps; it then falls
            in a line to 0. Low rates keep more of the random start, whose near-orthogonal rows
            match words exactly.
        warm_up: share of the steps, 0 to 1.
        temperature: what cosines are divided by in the loss.
        max_tokens: tokens of a text that training reads.
        one_source: share of the batches whose pairs all come from one source, which makes their
            negatives harder; the others mix sources by size.
        seed: of the start and of every draw.
    """

    dim: int = 704
    steps: int = 1200
    batch_size: int = 1024
    learning_rate: float = 0.05
    warm_up: float = 0.1
    temperature: float = 0.06
    max_tokens: int = 160
    one_source: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible values before anything is trained."""
        for name in ("dim", "steps", "batch_size", "max_tokens", "learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be above 0")
        for name in ("warm_up", "one_source"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be between 0 and 1")


def initial_table(passages: Bags, vocab_size: int, recipe: Recipe) -> Vectors:
    """Return random rows as long as their token is rare: idf over `passages`, mean length 1."""
    counts = document_frequency(passages, vocab_size)
    idf = np.log((len(passages) + 1) / (counts + 1))
    rng = np.random.default_rng(recipe.seed)
    rows = rng.standard_normal((vocab_size, recipe.dim), dtype=np.float32)
    rows *= (idf / idf.mean()).astype(np.float32)[:, None]
    return rows


def train_table(
    table: Vectors,
    queries: Bags,
    passages: Bags,
    sources: Ints,
    recipe: Recipe,
    *,
    report: Report | None = None,
) -> Vectors:
    """Return `table` trained with in-batch negatives in both directions (symmetric InfoNCE).

    Passages of equal tokens, and passages of queries of equal tokens, are not each other's
    negatives. The same arguments give the same table on the same machine and torch version.

    Args:
        table: the start, shape (vocab_size, recipe.dim); not changed.
        queries: tokens of the queries, prompt included.
        passages: tokens of each query's passage, prompt included.
        sources: number of each pair's source, shape (len(queries),).
        recipe: batch size, steps and so on.
        report: called after every step with the steps done and the step's loss.

    Raises:
        DatasetError: there are fewer than two pairs, so no negatives.
    """
    if len(queries) < 2:
        raise DatasetError(f"training needs at least 2 pairs, not {len(queries)}")
    torch.manual_seed(recipe.seed)
    weights = torch.tensor(table, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=recipe.learning_rate, fused=True)
    warm_steps = max(1, round(recipe.steps * recipe.warm_up))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(
            (step + 1) / warm_steps, (recipe.steps - step) / max(1, recipe.steps - warm_steps)
        ),
    )
    batches = draw_batches(sources, recipe)
    for step in range(recipe.steps):
        rows = next(batches)
        loss = _loss(
            weights,
            queries.select(rows, max_tokens=recipe.max_tokens),
            passages.select(rows, max_tokens=recipe.max_tokens),
            recipe.temperature,
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        optimizer.step()
        schedule.step()
        if report is not None:
            report(step + 1, float(loss.detach()))
    return weights.detach().numpy()


def draw_batches(sources: Ints, recipe: Recipe) -> Iterator[Ints]:
    """Yield positions of pairs without end; each source's pairs come round in shuffled passes.

    A batch of one source is drawn from it with the probability of the source's size, and holds at
    most half of the source, so that small sources don't meet the same negatives every time.
    """
    rng = np.random.default_rng(recipe.seed)
    members = [np.flatnonzero(sources == source) for source in np.unique(sources)]
    shares = np.array([len(rows) for rows in members]) / len(sources)
    decks = [_Deck(rows, rng) for rows in members]
    while True:
        if rng.random() < recipe.one_source:
            source = int(rng.choice(len(members), p=shares))
            yield decks[source].draw(min(recipe.batch_size, max(2, len(members[source]) // 2)))
        else:
            counts = rng.multinomial(min(recipe.batch_size, len(sources)), shares)
            drawn = [deck.draw(int(count)) for deck, count in zip(decks, counts, strict=True)]
            yield np.concatenate(drawn)


class _Deck:
    """Rows dealt in random order, reshuffled when they run out."""

    def __init__(self, rows: Ints, rng: np.random.Generator) -> None:
        self._rows, self._rng = rows, rng
        self._left = rng.permutation(rows)

    def draw(self, count: int) -> Ints:
        """Deal `count` rows; a row can come twice only when the deck ran out in between."""
        dealt: Sequence[npt.NDArray[np.int64]] = []
        while count > len(self._left):
            dealt = [*dealt, self._left]
            count -= len(self._left)
            self._left = self._rng.permutation(self._rows)
        dealt = [*dealt, self._left[:count]]
        self._left = self._left[count:]
        return np.concatenate(dealt)


def _loss(weights: torch.Tensor, queries: Bags, passages: Bags, temperature: float) -> torch.Tensor:
    scores = _embed(weights, queries) @ _embed(weights, passages).T / temperature
    same_query, same_passage = queries.groups(), passages.groups()
    same = (same_query[:, None] == same_query) | (same_passage[:, None] == same_passage)
    np.fill_diagonal(same, False)
    scores = scores.masked_fill(torch.from_numpy(same), -torch.inf)
    labels = torch.arange(len(queries))
    forward = functional.cross_entropy(scores, labels)
    return (forward + functional.cross_entropy(scores.T, labels)) / 2


def _embed(weights: torch.Tensor, bags: Bags) -> torch.Tensor:
    # Unit length makes the sum and the mean the same, and the sum is cheaper.
    summed = functional.embedding_bag(
        torch.from_numpy(bags.ids),
        weights,
        torch.from_numpy(bags.offsets[:-1].astype(np.int32)),
        mode="sum",
    )
    return functional.normalize(summed, dim=1)
