"""How well a table does on what it was not trained on."""

from __future__ import annotations

import numpy as np

from koe5_integrations.backends.bag import stretched
from koe5_integrations.evaluation.metrics import mean_over_queries, ndcg
from koe5_integrations.evaluation.search import rank
from koe5_integrations.evaluation.sts import spearman
from koe5_integrations.training.mini.bag import BagSums
from koe5_integrations.training.mini.data import Held, PairFeatures, Similar
from koe5_integrations.types import Vectors

__all__ = ["Measurer", "longest_sum"]

_LENGTHS = 20_000
# Share of the passages whose vectors are stretched.
_STRETCHED = 0.15


class Measurer:
    """Measures tables on the same held-out pairs, as the model will be used.

    Args:
        pairs: the pairs' features.
        held: what was held out.
        similar: sentence pairs beside, or None.
        saturation: of the recipe.
        length_exponent: of the recipe.
    """

    def __init__(
        self,
        pairs: PairFeatures,
        held: list[Held],
        similar: Similar | None,
        saturation: float,
        length_exponent: float,
    ) -> None:
        self._pairs, self._held, self._similar = pairs, held, similar
        self._sums = BagSums(saturation)
        self._exponent = length_exponent

    def __call__(self, table: Vectors) -> dict[str, float]:
        """Return nDCG@10 by source, their mean, and Spearman's correlation of sentence pairs."""
        found = {held.source: self._ndcg(table, held) for held in self._held}
        if found:
            found["mean"] = float(np.mean(list(found.values())))
        if self._similar is not None:
            first, second = (
                _unit(self._sums.vectors(table, some))
                for some in (self._similar.first, self._similar.second)
            )
            cosines = np.sum(first * second, axis=1)
            found["sentence pairs, Spearman"] = spearman(cosines, self._similar.scores)
        return found

    def _ndcg(self, table: Vectors, held: Held) -> float:
        queries = _unit(self._sums.vectors(table, self._pairs.queries.select(held.rows)))
        sums = self._sums.vectors(table, self._pairs.passages.select(held.pool))
        longest = float(np.linalg.norm(sums, axis=1).max())
        passages = stretched(sums, self._exponent, longest)
        names = [str(row) for row in held.pool]
        run = rank(
            np.pad(queries, ((0, 0), (0, 1))), passages, names[: len(queries)], names, top_k=10
        )
        return mean_over_queries(ndcg, run, {name: {name: 1} for name in run}, 10)


def longest_sum(
    table: Vectors, pairs: PairFeatures, saturation: float, rng: np.random.Generator
) -> float:
    """Return the length that the sums of all but the shortest passages exceed.

    Were all passages stretched, as in training, exact search would find a little more, but to
    approximate indexes (HNSW) they would look alike and be lost: the dimension that fills them up
    is the same in all of them, and 0 in a question.
    """
    rows = rng.permutation(len(pairs.passages))[:_LENGTHS]
    sums = BagSums(saturation).vectors(table, pairs.passages.select(rows))
    return float(np.quantile(np.linalg.norm(sums, axis=1), _STRETCHED))


def _unit(sums: Vectors) -> Vectors:
    out: Vectors = sums / np.maximum(
        np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float32).tiny
    )
    return out
