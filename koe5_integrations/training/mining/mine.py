"""From pairs to triplets: the whole of mining, from reading to the file that is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from tqdm.auto import tqdm

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, DatasetError
from koe5_integrations.training.data import read_triplets
from koe5_integrations.training.mining.candidates import Window, find_candidates, has_faiss
from koe5_integrations.training.mining.near import NearDuplicates
from koe5_integrations.training.mining.table import NumberedPairs, write_triplets
from koe5_integrations.training.texts import read_texts
from koe5_integrations.types import Vectors

__all__ = ["Mined", "Sampling", "mine_negatives"]

Sampling: TypeAlias = Literal["top", "random"]

_LEAST_WINDOW = 50


@dataclass(frozen=True)
class Mined:
    """What mining came to.

    Attributes:
        file: the Parquet file of triplets.
        triplets: its rows, each with a negative or several.
        pairs: different pairs read.
        queries: different questions among them.
        without: questions for which no negative was found; their pairs are not in the file.
        fewer: questions for which fewer were found than asked for.
        passages: different passages searched.
        near_duplicates: candidates passed over for being nearly a positive or another negative.
    """

    file: Path
    triplets: int
    pairs: int
    queries: int
    without: int
    fewer: int
    passages: int
    near_duplicates: int


def mine_negatives(
    data: str | Path | Sequence[str | Path],
    out: str | os.PathLike[str],
    *,
    encoder: KoE5Encoder,
    num_negatives: int = 1,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = 0.05,
    sampling: Sampling = "top",
    seed: int = 777,
    near_duplicate: float | None = 0.8,
    corpus: str | Path | Sequence[str | Path] = (),
    revision: str | None = None,
    query_column: str | None = None,
    positive_column: str | None = None,
    use_faiss: bool | None = None,
    replace: bool = False,
    on_step: Callable[[str], None] = lambda step: None,
    show_progress: bool = False,
) -> Mined:
    """Add to pairs what a model finds near a question though it is not its answer.

    The nearest passages of each question are looked for with sentence-transformers' miner. Never a
    negative are the positives of the question, of the same question in another spelling, and
    passages that are equal to a positive, or nearly. The same data, encoder and settings give the
    same file.

    An encoder with an ``embedding_cache`` keeps what it has computed, so that an interrupted run
    and a second one with other settings need not compute it again.

    Args:
        data: pairs or triplets, as :func:`~koe5_integrations.training.data.read_triplets` takes
            them; negatives they have already are not read.
        out: Parquet file to write, with the columns query, positive and negative, or, if there
            may be several, negatives, a list. It appears when it is complete.
        encoder: any; its prefixes are added to questions and passages.
        num_negatives: of each pair, at most.
        range_min: nearest candidates passed over, which may be answers nobody has marked.
        range_max: rank up to which candidates are looked at; None is 50, or 10 for each negative,
            beyond ``range_min``.
        max_score: highest cosine of a negative with the question.
        min_score: lowest.
        absolute_margin: by how much its cosine must be below that of the question's positive, the
            least if there are several.
        relative_margin: the same as a share of the positive's.
        sampling: take the nearest candidates (``top``) or ``random`` ones.
        seed: of the latter.
        near_duplicate: share of letters in sequence from which on two passages are nearly the
            same, above 0 to 1; None compares none.
        corpus: further passages to search, as :func:`~koe5_integrations.training.texts.read_texts`
            takes them.
        revision: of a data set on the hub.
        query_column: None finds it by its usual names.
        positive_column: None finds it by its usual names.
        use_faiss: search with faiss; None if it is installed and there is no GPU.
        replace: an existing file.
        on_step: told what is done next.
        show_progress: draw progress bars on stderr.

    Raises:
        ConfigError: a setting is impossible, or the file is there already.
        DatasetError: pairs or passages can't be read, or there is nothing to choose from.
        MissingExtraError: the extra ``train`` is not installed.
        KoE5Error: the encoder fails, see :meth:`~koe5_integrations.KoE5Encoder.encode_queries`.
    """
    _check(num_negatives, near_duplicate, sampling, seed)
    window = Window(
        range_min,
        range_min + max(_LEAST_WINDOW, 10 * num_negatives) if range_max is None else range_max,
        max_score,
        min_score,
        absolute_margin,
        relative_margin,
    )
    window.check(num_negatives)
    file = _output(out, replace=replace)
    if use_faiss and not has_faiss():
        raise ConfigError("use_faiss=True: faiss is not installed; pip install faiss-cpu")
    on_step("reading pairs")
    pairs = NumberedPairs()
    triplets = read_triplets(
        data,
        revision=revision,
        query_column=query_column,
        positive_column=positive_column,
        num_negatives=0,
    )
    for query, positive in zip(triplets.data["query"], triplets.data["positive"], strict=True):
        pairs.add(query, positive)
    files = triplets.files
    if corpus:
        further = read_texts(corpus, revision=revision, role="corpus")
        for passage in further.passages:
            pairs.add_passage(passage)
        files += further.files
    if len(pairs.passages) < 2:
        raise DatasetError(f"{data} holds a single passage, so nothing can be a negative")
    on_step(f"embedding {len(pairs.passages):,} passages and {len(pairs.queries):,} questions")
    passages = _unit(encoder.encode_passages(pairs.passages, show_progress=show_progress))
    queries = _unit(encoder.encode_queries(pairs.queries, show_progress=show_progress))
    on_step(f"searching {len(pairs.passages):,} passages")
    near = NearDuplicates(pairs.passages, near_duplicate)
    negatives: dict[int, list[int]] = {}
    skipped = 0
    with tqdm(total=len(queries), disable=not show_progress, unit=" questions") as bar:
        for query, candidates in find_candidates(
            queries, passages, pairs.positives, window, use_faiss=use_faiss
        ):
            order = candidates
            if sampling == "random":
                order = np.random.default_rng([seed, query]).permutation(candidates).tolist()
            chosen, near_ones = _choose(order, pairs.positives[query], near, num_negatives)
            skipped += near_ones
            if chosen:
                negatives[query] = sorted(chosen, key=candidates.index)  # nearest first
            bar.update(query + 1 - bar.n)
        bar.update(len(queries) - bar.n)
    if not negatives:
        raise DatasetError(
            f"no question of {data} has a negative: all passages are its positives, nearly the "
            "same, or beyond the margins, scores and ranks that were set; loosen those"
        )
    on_step(f"writing {file}")
    settings = asdict(window) | {
        "num_negatives": num_negatives,
        "sampling": sampling,
        "seed": seed,
        "near_duplicate": near_duplicate,
    }
    written = write_triplets(
        file,
        pairs,
        negatives,
        several=num_negatives > 1,
        record={
            "encoder": json.loads(encoder.fingerprint.to_json()),
            "settings": settings,
            "files": [asdict(each) for each in files],
        },
    )
    return Mined(
        file=file,
        triplets=written,
        pairs=len(pairs.pairs),
        queries=len(pairs.queries),
        without=len(pairs.queries) - len(negatives),
        fewer=sum(len(chosen) < num_negatives for chosen in negatives.values()),
        passages=len(pairs.passages),
        near_duplicates=skipped,
    )


def _check(num_negatives: int, near_duplicate: float | None, sampling: str, seed: int) -> None:
    if num_negatives < 1:
        raise ConfigError(f"num_negatives={num_negatives!r} must be at least 1")
    if near_duplicate is not None and not 0 < near_duplicate <= 1:
        raise ConfigError(
            f"near_duplicate={near_duplicate!r} must be a share above 0 to 1, or None for no "
            "comparison"
        )
    if sampling not in get_args(Sampling):
        raise ConfigError(f"sampling={sampling!r} must be 'top' or 'random'")
    if seed < 0:
        raise ConfigError(f"seed={seed!r} must be 0 or more")


def _output(out: str | os.PathLike[str], *, replace: bool) -> Path:
    file = Path(out)
    if file.suffix.lower() != ".parquet":
        raise ConfigError(f"out={str(out)!r} must be a Parquet file: name it *.parquet")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"out={str(out)!r}: there is no folder {str(file.parent)!r}")
    if file.exists() and not (replace and file.is_file()):
        raise ConfigError(f"out={str(out)!r} is there already; choose another, or replace=True")
    return file


def _choose(
    candidates: Sequence[int], positives: Sequence[int], near: NearDuplicates, number: int
) -> tuple[list[int], int]:
    """Return the first candidates that are no near duplicates, and how many were before them."""
    chosen: list[int] = []
    skipped = 0
    for candidate in candidates:
        if near.is_near(candidate, (*positives, *chosen)):
            skipped += 1
            continue
        chosen.append(candidate)
        if len(chosen) == number:
            break
    return chosen, skipped


def _unit(vectors: Vectors) -> Vectors:
    """Bring vectors to unit length in their place; an encoder gives no zero ones."""
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
