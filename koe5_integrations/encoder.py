"""The one place that adds a prefix, checks text, accounts for truncation and normalises."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from koe5_integrations.errors import ConfigError
from koe5_integrations.fingerprint import Fingerprint
from koe5_integrations.handle import ModelHandle
from koe5_integrations.options import (
    VECTOR_OPTIONS,
    BackendName,
    EncoderOptions,
    OnPrefixed,
    OnTruncation,
    Precision,
    check_options,
    check_truncate_dim,
    model_argument,
)
from koe5_integrations.profiles import BUNDLED_MODEL, DEFAULT_MODEL, ModelProfile, profile_for
from koe5_integrations.prompts import add_prompt
from koe5_integrations.text import check_texts
from koe5_integrations.truncation import Truncation, account_for_truncation
from koe5_integrations.types import Role, Vectors
from koe5_integrations.vectors import finish_vectors

__all__ = ["KoE5Encoder"]


class KoE5Encoder:
    """Embeds Korean questions and passages, each with the prefix it needs.

    Constructing is free: files are read when first needed, and the loaded model is shared by every
    encoder in the process that asks for the same one. Safe to use from threads and event loops;
    pickling and forking carry the settings over and reload the model lazily.

    Args:
        model: a hub name whose profile is known, ``koe5-mini`` (bundled), or a local folder in
            sentence-transformers' layout, which is used as KoE5 is unless told otherwise.
        revision: hub commit, branch or tag; None is the profile's pinned commit, or else the
            newest.
        profile: use the model as this known model is used (prompts, normalisation).
        query_prompt: replaces the profile's; ``""`` for none.
        passage_prompt: replaces the profile's; ``""`` for none.
        backend: ``torch``, ``onnx`` or ``openvino`` (of a model that ``koe5 export`` has written),
            ``static``, or ``auto``: the fastest of them that is at hand; see :attr:`engine`.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, …, or several, as ``cuda:0,cuda:1``; None
            takes the best there is.
        precision: ``fp32`` (None), ``bf16``, ``fp16`` (GPUs) or ``int8`` (CPUs).
        compile: let ``torch.compile`` work on the model before its first use; torch only.
        max_seq_length: read fewer tokens of each text than the model could.
        truncate_dim: keep the first dimensions only; for models trained so (Matryoshka).
        batch_size: most texts in one pass; None leaves it to ``batch_tokens``.
        batch_tokens: most tokens in one pass, padding included; None picks by device.
        on_prefixed: what to do with text that already starts with a prefix: ``warn`` and add ours
            all the same, raise an ``error``, or ``keep`` the prefix it has (if it is the role's)
            and add none.
        on_truncation: what to do with text longer than the model reads: ``warn``, raise an
            ``error`` before anything is embedded, or ``ignore``. Counted in :attr:`truncation` in
            any case.
        normalize_unicode: rewrite text to NFC.
        embedding_cache: folder of a cache of embeddings that outlives the process.
        embedding_cache_size: embeddings of so many texts are kept in memory, the last used ones.
        cache_folder: hub cache to use instead of the default one.
        local_files_only: never ask the hub.

    Raises:
        ConfigError: an option has an impossible value.
        UnknownModelError: a hub name whose prompts are not known and not given.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        revision: str | None = None,
        profile: str | None = None,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        backend: BackendName = "auto",
        device: str | None = None,
        precision: Precision | None = None,
        compile: bool = False,
        max_seq_length: int | None = None,
        truncate_dim: int | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        on_prefixed: OnPrefixed = "warn",
        on_truncation: OnTruncation = "warn",
        normalize_unicode: bool = True,
        embedding_cache: str | os.PathLike[str] | None = None,
        embedding_cache_size: int | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> None:
        self._options = EncoderOptions(
            revision=revision,
            profile=profile,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            backend=backend,
            device=device,
            precision=precision,
            compile=compile,
            max_seq_length=max_seq_length,
            truncate_dim=truncate_dim,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            on_prefixed=on_prefixed,
            on_truncation=on_truncation,
            normalize_unicode=normalize_unicode,
            embedding_cache=_path_as_text(embedding_cache),
            embedding_cache_size=embedding_cache_size,
            cache_folder=_path_as_text(cache_folder),
            local_files_only=local_files_only,
        )
        check_options(self._options)
        self._model, self._is_folder = model_argument(model)
        self._profile = profile_for(
            self._model,
            is_folder=self._is_folder,
            profile=profile,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
        )
        if truncate_dim is not None:
            check_truncate_dim(truncate_dim, self._profile, is_folder=self._is_folder)
        self._handle = ModelHandle(self._model, self._is_folder, self._profile, self._options)
        self._truncation = Truncation()

    def encode_queries(self, texts: Iterable[str], *, show_progress: bool = False) -> Vectors:
        """Embed questions.

        Args:
            texts: bare questions; the prefix is added here.
            show_progress: draw a progress bar on stderr.

        Returns:
            float32, shape (n, dim), one row per text in order; unit length if the profile
            normalises.

        Raises:
            InputError: a text can't be embedded (see :mod:`koe5_integrations.errors`); raised
                before anything is.
            ModelLoadError: the model can't be had.
            MissingExtraError: its backend is not installed.
            EncodingError: the model returned something that is no embedding.
        """
        return self._encode(texts, "query", show_progress)

    def encode_passages(self, texts: Iterable[str], *, show_progress: bool = False) -> Vectors:
        """Embed texts to be found. Arguments, result and errors as :meth:`encode_queries`."""
        return self._encode(texts, "passage", show_progress)

    async def aencode_queries(
        self, texts: Iterable[str], *, show_progress: bool = False
    ) -> Vectors:
        """Embed questions without blocking the event loop; as :meth:`encode_queries`."""
        return await self._aencode(texts, "query", show_progress)

    async def aencode_passages(
        self, texts: Iterable[str], *, show_progress: bool = False
    ) -> Vectors:
        """Embed texts to be found without blocking the event loop; as :meth:`encode_queries`."""
        return await self._aencode(texts, "passage", show_progress)

    def count_tokens(self, texts: Iterable[str], role: Role) -> list[int]:
        """Count the tokens of each text, its prefix and the special tokens included, uncut.

        Loads the tokenizer but not the weights.

        Raises:
            InputError: as :meth:`encode_queries`.
            ConfigError: ``role`` is neither ``query`` nor ``passage``.
        """
        if role not in ("query", "passage"):
            raise ConfigError(f"role={role!r} must be 'query' or 'passage'")
        checked = check_texts(texts, normalize_unicode=self._options["normalize_unicode"])
        prompted = add_prompt(checked, self._profile, role, self._options["on_prefixed"])
        return [tokens.uncut for tokens in self._handle.tokenize(prompted)]

    def load(self) -> None:
        """Load the model now, rather than when it is first used.

        Raises:
            ModelLoadError: the model can't be had.
            MissingExtraError: its backend is not installed.
        """
        self._handle.worker()

    @property
    def model(self) -> str:
        """Name or absolute path of the model."""
        return self._model

    @property
    def profile(self) -> ModelProfile:
        """How the model is used."""
        return self._profile

    @property
    def dim(self) -> int:
        """Length of a vector. Reads a local folder's configuration, but no weights."""
        # A profile borrowed from another model says nothing of this one's size.
        full = self._profile.dim if self._profile.name == self._model else None
        return self._options["truncate_dim"] or full or self._handle.folder.dim

    @property
    def max_seq_length(self) -> int | None:
        """Tokens read of each text, prefix and special tokens included; None is no limit."""
        return self._options["max_seq_length"] or self._handle.folder.max_seq_length

    @property
    def fingerprint(self) -> Fingerprint:
        """What tells these vectors from another encoder's. Reads a little of each model file."""
        folder = self._handle.folder
        return Fingerprint(
            model=self._model,
            weights=folder.digest,
            query_prompt=self._profile.query_prompt,
            passage_prompt=self._profile.passage_prompt,
            pooling=folder.pooling or self._profile.pooling or "mean",
            normalize=self._handle.normalize,
            max_seq_length=self._options["max_seq_length"] or folder.max_seq_length,
            truncate_dim=self._options["truncate_dim"],
            precision=self._options["precision"] or "fp32",
            unicode="NFC" if self._options["normalize_unicode"] else "none",
        )

    @property
    def identity(self) -> dict[str, Any]:
        """The part of :meth:`config` that decides what the vectors are, for storing beside them.

        Where the name does not pin the weights (a local folder, the bundled model), the weights'
        hash is included under ``weights``.
        """
        kept = {k: v for k, v in self.config().items() if k == "model" or k in VECTOR_OPTIONS}
        if self._is_folder or self._model == BUNDLED_MODEL:
            kept["weights"] = self.fingerprint.weights
        return kept

    @property
    def truncation(self) -> Truncation:
        """What this encoder has cut so far."""
        return self._truncation

    def config(self) -> dict[str, Any]:
        """Return the arguments that rebuild this encoder, as JSON types, defaults left out."""
        defaults = KoE5Encoder.__init__.__kwdefaults__ or {}
        changed = {k: v for k, v in self._options.items() if v != defaults[k]}
        return {"model": self._model, **changed}

    def __repr__(self) -> str:
        """Show the arguments that differ from their defaults."""
        return f"KoE5Encoder({', '.join(f'{k}={v!r}' for k, v in self.config().items())})"

    def __eq__(self, other: object) -> bool:
        """Equal encoders give equal vectors, made in the same way."""
        return isinstance(other, KoE5Encoder) and self.config() == other.config()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings; whoever unpickles them loads the model anew."""
        return self.__dict__ | {"_truncation": Truncation()}

    def _encode(self, texts: Iterable[str], role: Role, show_progress: bool) -> Vectors:
        future = self._submit(texts, role, show_progress)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C included: nobody will read the rest.
            future.cancel()
            raise

    async def _aencode(self, texts: Iterable[str], role: Role, show_progress: bool) -> Vectors:
        # Loading, checking and tokenising take a thread for as long as they run; waiting for the
        # worker takes none.
        submission = asyncio.ensure_future(
            asyncio.to_thread(self._submit, texts, role, show_progress)
        )
        try:
            future = await asyncio.shield(submission)
        except asyncio.CancelledError:
            submission.add_done_callback(_cancel_submitted)
            raise
        return await asyncio.wrap_future(future)

    def _submit(self, texts: Iterable[str], role: Role, show_progress: bool) -> Future[Vectors]:
        """Check, prefix and tokenise texts, and queue them for the worker."""
        checked = check_texts(texts, normalize_unicode=self._options["normalize_unicode"])
        if not checked:
            done: Future[Vectors] = Future()
            done.set_result(np.empty((0, self.dim), dtype=np.float32))
            return done
        prompted = add_prompt(checked, self._profile, role, self._options["on_prefixed"])
        worker = self._handle.worker()
        tokens = worker.backend.tokenize(prompted)
        cut = account_for_truncation(tokens, checked, self._options["on_truncation"])
        bar = tqdm(
            total=len(tokens), desc=f"embedding {role}", unit="text", disable=not show_progress
        )

        def finish(vectors: Vectors) -> Vectors:
            # Runs in the one worker thread, so that the count needs no lock.
            self._truncation += cut
            return finish_vectors(
                vectors,
                truncate_dim=self._options["truncate_dim"],
                normalize=self._handle.normalize,
            )

        future = worker.submit(
            tokens,
            finish=finish,
            progress=bar.update,
            batch_tokens=self._options["batch_tokens"],
            batch_size=self._options["batch_size"],
        )
        future.add_done_callback(lambda _: bar.close())
        return future


def _cancel_submitted(submission: asyncio.Future[Future[Vectors]]) -> None:
    if not submission.cancelled() and submission.exception() is None:
        submission.result().cancel()


def _path_as_text(path: str | os.PathLike[str] | None) -> str | None:
    return os.fspath(path) if isinstance(path, os.PathLike) else path
