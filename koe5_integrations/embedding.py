"""One call of an encoder: from the caller's texts to their vectors."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial

import numpy as np
from tqdm.auto import tqdm

from koe5_integrations.backends import Tokens
from koe5_integrations.caching import Embedded, Rows
from koe5_integrations.caching.shared import Caches
from koe5_integrations.handle import ModelHandle
from koe5_integrations.options import EncoderOptions
from koe5_integrations.passes import plan_batches
from koe5_integrations.profiles import ModelProfile
from koe5_integrations.prompts import add_prompt
from koe5_integrations.scheduling import Worker
from koe5_integrations.steps import Steps
from koe5_integrations.text import check_texts
from koe5_integrations.truncation import Truncation, account_for_truncation
from koe5_integrations.types import Role, Vectors
from koe5_integrations.vectors import finish_vectors

__all__ = ["Embedding", "Supplied", "are_few"]

# What takes no noticeable time without a model: an event loop need not hand it to a thread.
_FEW_TEXTS = 16
_SHORT_TEXT = 4096
# After so many passes a bulk job's vectors are written to disk, while up to so many other parts are
# under way. Neither number changes how long it takes, even with koe5-mini (see
# `tests/benchmarks/overhead.py --parts`); so what decides is what an interruption costs, which is
# 12 passes at most, and that several devices are kept busy.
_PASSES_IN_PART = 4
_PARTS_AHEAD = 2


def are_few(texts: object) -> bool:
    """Whether checking, prefixing and looking up these texts takes no noticeable time."""
    return (
        isinstance(texts, list | tuple)
        and len(texts) <= _FEW_TEXTS
        and all(isinstance(text, str) and len(text) <= _SHORT_TEXT for text in texts)
    )


class Supplied:
    """Vectors of texts that need not be computed, because the caller has them.

    Args:
        role: of the texts.
        texts: checked.
        vectors: float32, shape (len(texts), dim).
    """

    def __init__(self, role: Role, texts: Sequence[str], vectors: Vectors) -> None:
        self._role = role
        self._row_of = {text: row for row, text in enumerate(texts)}
        self._vectors = vectors

    def fill(self, role: Role, texts: Sequence[str], rows: Rows, into: Embedded) -> Rows:
        """Write what is known of these texts into their rows; return the rows of the others."""
        if role != self._role:
            return rows
        at = np.array([self._row_of.get(text, -1) for text in texts], dtype=np.intp)
        into.vectors[rows[at >= 0]] = self._vectors[at[at >= 0]]
        return rows[at < 0]


class Embedding:
    """What becomes of one call's texts.

    Args:
        role: of the texts.
        dim: returns the length of a vector.
        profile: whose prompts.
        options: checked options.
        handle: the model.
        open_caches: returns where embeddings are kept; others once the model's files have changed.
        supplied: what is not computed, nor kept in a cache, nor counted.

    Attributes:
        truncation: what was cut from the texts, equal ones counted each.
        computed: how many texts went through the model.
    """

    def __init__(
        self,
        role: Role,
        dim: Callable[[], int],
        *,
        profile: ModelProfile,
        options: EncoderOptions,
        handle: ModelHandle,
        open_caches: Callable[[], Caches],
        supplied: Sequence[Supplied] = (),
    ) -> None:
        self._role = role
        self._dim = dim
        self._profile = profile
        self._options = options
        self._handle = handle
        self._open_caches = open_caches
        self._supplied = supplied
        self.truncation = Truncation()
        self.computed = 0

    def steps(self, texts: Iterable[str], show_progress: bool) -> Steps[Vectors]:
        """Check, prefix, look up, tokenise, embed and keep texts, equal ones once.

        What may block comes after None is yielded, if the caches are open and the texts few.
        """
        checked = check_texts(texts, normalize_unicode=self._options["normalize_unicode"])
        if not checked:
            return np.empty((0, self._dim()), dtype=np.float32)
        prompted = add_prompt(checked, self._profile, self._role, self._options["on_prefixed"])
        distinct, first, row_of = _distinct(prompted)
        found = Embedded.empty(len(distinct), self._dim())
        caches = self._open_caches()
        keys = caches.keys(self._role, distinct)
        wanted = np.arange(len(distinct))
        for supplied in self._supplied:
            bare = [checked[i] for i in first[wanted].tolist()]
            wanted = supplied.fill(self._role, bare, wanted, found)
        rows = wanted
        if caches.memory is not None:
            rows = caches.memory.fill(keys, rows, found)
        new = rows
        tokens: list[Tokens] = []
        while len(rows):
            yield None
            if caches.disk is not None:
                rows = caches.disk.fill(keys, rows, found)
            if not len(rows):
                break
            worker = self._handle.worker()
            opened = self._open_caches()
            if opened == caches:
                tokens = worker.backend.tokenize([distinct[row] for row in rows.tolist()])
                found.read[rows] = [len(text.ids) for text in tokens]
                found.uncut[rows] = [text.uncut for text in tokens]
                break
            # The files were written again since they were last used: those were others' vectors.
            caches, keys = opened, opened.keys(self._role, distinct)
            rows = new = wanted
        policy = self._options["on_truncation"]
        cut = account_for_truncation(found.read[row_of], found.uncut[row_of], checked, policy)
        with tqdm(
            total=len(checked),
            initial=len(checked) - len(rows),
            desc=f"embedding {self._role}",
            unit="text",
            disable=not show_progress,
        ) as bar:
            if len(rows):
                disk = caches.disk
                yield from self._compute(
                    worker,
                    tokens,
                    rows,
                    found,
                    positions=first[rows],
                    progress=bar.update,
                    keep=None if disk is None else partial(disk.store, keys, embedded=found),
                )
        if len(checked) > _FEW_TEXTS:
            yield None
        if caches.memory is not None:
            caches.memory.store(keys, new, found)
        self.truncation, self.computed = cut, len(rows)
        return found.vectors if len(distinct) == len(checked) else found.vectors[row_of]

    def _compute(
        self,
        worker: Worker,
        tokens: Sequence[Tokens],
        rows: Rows,
        found: Embedded,
        *,
        positions: Rows,
        progress: Callable[[int], None],
        keep: Callable[[Rows], None] | None,
    ) -> Steps[None]:
        """Run texts through the model, part by part if what is done is to be kept.

        Args:
            worker: of the model.
            tokens: at least one text.
            rows: of these texts in ``found``, where the vectors go.
            found: of all texts.
            positions: of these texts in the caller's list.
            progress: told of each pass how many texts are done.
            keep: writes rows to disk.
        """
        options = self._options
        batches = [np.arange(len(rows))]
        if keep is not None:
            batches = plan_batches(
                found.read[rows],
                options["batch_tokens"] or worker.backend.batch_tokens,
                options["batch_size"],
                pass_tokens=worker.backend.pass_tokens,
            )
        running: deque[tuple[Rows, Future[Vectors]]] = deque()
        try:
            for start in range(0, len(batches), _PASSES_IN_PART):
                part = np.concatenate(batches[start : start + _PASSES_IN_PART])
                queued = worker.enqueue(
                    [tokens[i] for i in part.tolist()],
                    finish=partial(
                        finish_vectors,
                        truncate_dim=options["truncate_dim"],
                        normalize=self._handle.normalize,
                        positions=positions[part],
                    ),
                    progress=progress,
                    batch_tokens=options["batch_tokens"],
                    batch_size=options["batch_size"],
                    positions=positions[part],
                )
                running.append((rows[part], queued.vectors))
                if not queued.room.done():
                    yield queued.room
                while len(running) > _PARTS_AHEAD:
                    yield from _take(running, found, keep)
            while running:
                yield from _take(running, found, keep)
        finally:
            for _, future in running:
                future.cancel()


def _take(
    running: deque[tuple[Rows, Future[Vectors]]],
    found: Embedded,
    keep: Callable[[Rows], None] | None,
) -> Steps[None]:
    """Wait for the part that was begun first, and write it down."""
    rows, future = running[0]
    vectors = yield future
    running.popleft()
    if keep is None and len(rows) == len(found.vectors):
        found.vectors = vectors  # of all texts, in order
        return
    found.vectors[rows] = vectors
    if keep is not None:
        yield None
        keep(rows)


def _distinct(texts: Sequence[str]) -> tuple[list[str], Rows, Rows]:
    """Return the distinct texts, where each comes first, and which of them each text is."""
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    if len(row_of) == len(texts):
        every = np.arange(len(texts))
        return list(texts), every, every
    rows = np.fromiter(map(row_of.__getitem__, texts), np.intp, len(texts))
    return list(row_of), np.unique(rows, return_index=True)[1], rows
