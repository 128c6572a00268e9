"""sentence-transformers' miner over vectors that are there already, a block of questions a time."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from koe5_integrations.errors import ConfigError, MissingExtraError
from koe5_integrations.types import Vectors

if TYPE_CHECKING:
    import torch

__all__ = ["Window", "find_candidates", "has_faiss"]

# Bounds what the miner keeps in Python lists, and its matrix of similarities (256 MiB).
_BLOCK_CANDIDATES = 2_000_000
_BLOCK_PRODUCTS = 64 * 1024**2


@dataclass(frozen=True)
class Window:
    """Which of a question's nearest passages may be its negatives.

    Attributes:
        range_min: nearest ones passed over.
        range_max: rank up to which is looked.
        max_score: highest cosine with the question.
        min_score: lowest cosine with the question.
        absolute_margin: by how much it must be below the least of its positives'.
        relative_margin: the same as a share of that.
    """

    range_min: int
    range_max: int
    max_score: float | None
    min_score: float | None
    absolute_margin: float | None
    relative_margin: float | None

    def check(self, num_negatives: int) -> None:
        """Refuse what lets nothing, or nonsense, through.

        Raises:
            ConfigError: names the setting and the remedy.
        """
        if self.range_min < 0:
            raise ConfigError(f"range_min={self.range_min!r} must be 0 or more")
        if self.width < num_negatives:
            raise ConfigError(
                f"range_max={self.range_max!r} leaves fewer candidates than "
                f"num_negatives={num_negatives!r} after range_min={self.range_min!r}; raise it"
            )
        for name in ("max_score", "min_score"):
            score = getattr(self, name)
            if score is not None and not -1 <= score <= 1:
                raise ConfigError(f"{name}={score!r} is no cosine: it must be from -1 to 1")
        low, high = self.min_score, self.max_score
        if low is not None and high is not None and low >= high:
            raise ConfigError(
                f"min_score={low!r} must be below max_score={high!r}, or nothing is left"
            )
        for name in ("absolute_margin", "relative_margin"):
            margin = getattr(self, name)
            if margin is not None and not 0 <= margin <= 2:
                raise ConfigError(f"{name}={margin!r} must be from 0 to 2, or None for no margin")

    @property
    def width(self) -> int:
        """Most candidates a question can have."""
        return self.range_max - self.range_min


def has_faiss() -> bool:
    """Whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


def find_candidates(
    queries: Vectors,
    passages: Vectors,
    positives: Sequence[Sequence[int]],
    window: Window,
    *,
    use_faiss: bool | None,
) -> Iterator[tuple[int, list[int]]]:
    """Yield each question's row with the rows of its candidates, nearest first, if it has any.

    Args:
        queries: unit vectors, shape (q, dim).
        passages: unit vectors, shape (d, dim).
        positives: rows of the passages that answer each question; none of them is a candidate.
        window: which passages are.
        use_faiss: search with faiss, as exactly; None if it is installed and there is no GPU.

    Raises:
        MissingExtraError: sentence-transformers or datasets is not installed.
    """
    try:
        import torch
        from datasets import Dataset
        from sentence_transformers.util import mine_hard_negatives
    except ImportError as error:
        raise MissingExtraError("mining negatives", "train") from error
    if use_faiss is None:
        use_faiss = has_faiss() and not torch.cuda.is_available()
    # The miner copies texts and looks them up; it gets numbers in their place.
    model: Any = _Vectors(queries, passages, as_numpy=use_faiss)
    corpus = [str(row) for row in range(len(passages))]
    step = max(1, _BLOCK_CANDIDATES // window.width)
    for start in range(0, len(queries), step):
        block = range(start, min(start + step, len(queries)))
        pairs = [(str(query), str(passage)) for query in block for passage in positives[query]]
        with contextlib.redirect_stderr(io.StringIO()):  # its bars can't be turned off
            mined = mine_hard_negatives(
                Dataset.from_dict(
                    {"query": [pair[0] for pair in pairs], "positive": [pair[1] for pair in pairs]}
                ),
                model,
                corpus=corpus,
                range_min=window.range_min,
                range_max=window.range_max,
                max_score=window.max_score,
                min_score=window.min_score,
                absolute_margin=window.absolute_margin,
                relative_margin=window.relative_margin,
                num_negatives=window.width,
                output_format="labeled-list",
                faiss_batch_size=max(1, _BLOCK_PRODUCTS // len(passages)),
                use_faiss=use_faiss,
                verbose=False,
            )
        last = -1
        for row in mined:  # one for each positive, with the same candidates
            query = int(row["query"])
            if query != last:
                yield query, [int(passage) for passage in row["positive"][1:]]
            last = query


class _Vectors:
    """As much of a SentenceTransformer as the miner uses; its texts are numbers of rows."""

    def __init__(self, queries: Vectors, passages: Vectors, *, as_numpy: bool) -> None:
        import torch

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._queries = queries
        self._passages = passages if as_numpy else torch.as_tensor(passages, device=self.device)

    def encode_query(self, texts: Sequence[str], **options: object) -> Vectors:
        return self._queries[[int(text) for text in texts]]

    def encode_document(self, texts: Sequence[str], **options: object) -> Vectors | torch.Tensor:
        assert len(texts) == len(self._passages)
        return self._passages

    def similarity(self, queries: Vectors, passages: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.as_tensor(queries, device=self.device) @ passages.T

    def similarity_pairwise(
        self, queries: Vectors, passages: Vectors | torch.Tensor
    ) -> torch.Tensor:
        import torch

        firsts = torch.as_tensor(queries, device=self.device)
        return (firsts * torch.as_tensor(passages, device=self.device)).sum(dim=1)

    def get_embedding_dimension(self) -> int:
        return self._passages.shape[1]
