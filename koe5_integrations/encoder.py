"""The one place that adds a prefix, checks text, accounts for truncation and normalises."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.pick import EngineChoice
from koe5_integrations.caching.disk import check_folder
from koe5_integrations.caching.shared import NO_CACHES, Caches, open_caches
from koe5_integrations.embedding import Embedding, Supplied, are_few
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
    check_server,
    check_truncate_dim,
    model_argument,
)
from koe5_integrations.profiles import BUNDLED_MODEL, DEFAULT_MODEL, ModelProfile, profile_for
from koe5_integrations.prompts import add_prompt
from koe5_integrations.steps import Steps, run, run_async
from koe5_integrations.text import check_texts
from koe5_integrations.truncation import Truncation
from koe5_integrations.types import Role, Vectors

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
            ``static``, ``remote`` (a server), or ``auto``: the server if there is a ``base_url``,
            else the fastest of the others that is at hand; see :attr:`engine`.
        base_url: address of a server that runs the model: Text Embeddings Inference, or one with
            OpenAI's interface (vLLM, infinity, llama.cpp). Of the model's files only tokenizer and
            configuration are then needed here.
        api_key_env: name of the environment variable that holds the server's key, never the key
            itself; None is ``KOE5_API_KEY``, if that is set.
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
        embedding_cache: folder, on a local disk, where embeddings are kept for this and other
            processes; what is computed is written there while a long call is still running, so that
            an interrupted one goes on where it was.
        embedding_cache_size: embeddings of so many texts are kept in memory, the last used ones,
            for all encoders of the process with the same fingerprint.
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
        base_url: str | None = None,
        api_key_env: str | None = None,
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
            base_url=base_url,
            api_key_env=api_key_env,
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
        _check(self._options)
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
        self._computed = 0
        self._known: tuple[ModelFolder, Fingerprint] | None = None
        self._opened: Caches | None = None
        self._supplied: tuple[Supplied, ...] = ()

    def encode_queries(self, texts: Iterable[str], *, show_progress: bool = False) -> Vectors:
        """Embed questions; equal ones are computed once, cached ones not at all.

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
            ConfigError: the options don't suit the model, or the cache's folder can't be used.
            EncodingError: the model returned something that is no embedding.
            EmbeddingServerError: the server that runs it can't be reached, or answers nonsense.
        """
        return run(self._steps(texts, "query", show_progress))

    def encode_passages(self, texts: Iterable[str], *, show_progress: bool = False) -> Vectors:
        """Embed texts to be found. Arguments, result and errors as :meth:`encode_queries`."""
        return run(self._steps(texts, "passage", show_progress))

    async def aencode_queries(
        self, texts: Iterable[str], *, show_progress: bool = False
    ) -> Vectors:
        """Embed questions without blocking the event loop; as :meth:`encode_queries`."""
        return await run_async(self._steps(texts, "query", show_progress))

    async def aencode_passages(
        self, texts: Iterable[str], *, show_progress: bool = False
    ) -> Vectors:
        """Embed texts to be found without blocking the event loop; as :meth:`encode_queries`."""
        return await run_async(self._steps(texts, "passage", show_progress))

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
        if self._known is None or self._known[0] is not folder:
            fingerprint = Fingerprint(
                model=self._model,
                weights=folder.digest,
                query_prompt=self._profile.query_prompt,
                passage_prompt=self._profile.passage_prompt,
                pooling=folder.pooling or self._profile.pooling or "mean",
                normalize=self._handle.normalize,
                max_seq_length=self._options["max_seq_length"] or folder.max_seq_length,
                truncate_dim=self._options["truncate_dim"],
                precision=self._handle.precision,
                unicode="NFC" if self._options["normalize_unicode"] else "none",
            )
            self._known = folder, fingerprint
        return self._known[1]

    @property
    def engine(self) -> EngineChoice:
        """What runs the model, where and why; the weights are not loaded for it.

        Raises:
            ConfigError: the options can't be combined, or not for this model.
            MissingExtraError: the engine is not installed.
            ModelLoadError: the model, or the export that the engine needs, can't be had.
            EmbeddingServerError: the server that is to run it can't be reached.
        """
        return self._handle.engine

    @property
    def identity(self) -> dict[str, Any]:
        """The part of :meth:`config` that decides what the vectors are, for storing beside them.

        Where the name does not pin the weights (a local folder, the bundled model), the weights'
        hash is included under ``weights``; in int8, which each engine rounds in a way of its own,
        the engine under ``int8_engine``.
        """
        kept = {k: v for k, v in self.config().items() if k == "model" or k in VECTOR_OPTIONS}
        if self._is_folder or self._model == BUNDLED_MODEL:
            kept["weights"] = self.fingerprint.weights
        if self._is_folder or self._options["precision"] == "int8":
            made_in = self._handle.precision
            if made_in.startswith("int8-"):
                kept["int8_engine"] = made_in.removeprefix("int8-")
        if self._options["base_url"] is not None and self._handle.precision != "fp32":
            kept["precision"] = self._handle.precision  # the server may have chosen it
        return kept

    @property
    def truncation(self) -> Truncation:
        """What this encoder has cut so far; equal and cached texts are counted each time."""
        return self._truncation

    @property
    def computed(self) -> int:
        """How many texts have gone through the model so far: not the equal or cached ones."""
        return self._computed

    def with_cache(
        self,
        embedding_cache: str | os.PathLike[str] | None = None,
        *,
        embedding_cache_size: int | None = None,
    ) -> KoE5Encoder:
        """Return an encoder that differs only in its caches, and counts from 0.

        Args:
            embedding_cache: as the option; None for none.
            embedding_cache_size: as the option; None for none.

        Raises:
            ConfigError: impossible values.
        """
        options = self._options.copy()
        options["embedding_cache"] = _path_as_text(embedding_cache)
        options["embedding_cache_size"] = embedding_cache_size
        _check(options)
        other = copy.copy(self)
        other._options = options
        return other

    @contextmanager
    def supplying(
        self, texts: Iterable[str], vectors: Vectors, *, role: Role = "passage"
    ) -> Iterator[None]:
        """Have these texts not computed in a ``with`` block, because their vectors are known.

        For what embeds by itself the texts it is given, as LangChain's vector stores do. It holds
        for every call of this encoder that begins in the block, from whatever thread. Such texts
        are not counted in :attr:`computed` and :attr:`truncation`, and not kept in caches.

        Args:
            texts: bare, as they will be passed to :meth:`encode_passages`; others are computed.
            vectors: float32, shape (len(texts), dim), of an encoder with the same fingerprint.
            role: in which they are known.

        Raises:
            InputError: as :meth:`encode_queries`.
            ConfigError: there is not one vector of ``dim`` finite numbers for each text.
        """
        checked = check_texts(texts, normalize_unicode=self._options["normalize_unicode"])
        given = np.asarray(vectors, dtype=np.float32)
        if given.shape != (len(checked), self.dim) or not np.isfinite(given).all():
            raise ConfigError(
                f"vectors of shape {given.shape} must be {len(checked)} of {self.dim} finite "
                "numbers, one for each text"
            )
        supplied = Supplied(role, checked, given)
        with _changing:
            self._supplied += (supplied,)
        try:
            yield
        finally:
            with _changing:
                self._supplied = tuple(one for one in self._supplied if one is not supplied)

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
        """Pickle the settings; whoever unpickles them loads the model anew and counts from 0."""
        new = {"_truncation": Truncation(), "_computed": 0, "_known": None, "_opened": None}
        return self.__dict__ | new | {"_supplied": ()}

    def _steps(self, texts: Iterable[str], role: Role, show_progress: bool) -> Steps[Vectors]:
        in_memory = self._opened is not None and self._opened.memory is not None
        if not in_memory or not are_few(texts):
            yield None
        call = Embedding(
            role,
            lambda: self.dim,
            profile=self._profile,
            options=self._options,
            handle=self._handle,
            open_caches=self._caches,
            supplied=self._supplied,
        )
        vectors = yield from call.steps(texts, show_progress)
        with _changing:
            self._truncation += call.truncation
            self._computed += call.computed
        return vectors

    def _caches(self) -> Caches:
        size, folder = self._options["embedding_cache_size"], self._options["embedding_cache"]
        if size is None and folder is None:
            return NO_CACHES
        fingerprint = self.fingerprint.digest
        if self._opened is None or self._opened.fingerprint != fingerprint:
            self._opened = open_caches(fingerprint, size=size, folder=folder)
        return self._opened


_changing = threading.Lock()


def _after_fork() -> None:
    global _changing
    _changing = threading.Lock()  # another thread may have held it


if hasattr(os, "register_at_fork"):  # not on Windows, which can't fork
    os.register_at_fork(after_in_child=_after_fork)


def _check(options: EncoderOptions) -> None:
    check_options(options)
    check_server(options)
    if options["embedding_cache"] is not None:
        check_folder(options["embedding_cache"])


def _path_as_text(path: str | os.PathLike[str] | None) -> str | None:
    return os.fspath(path) if isinstance(path, os.PathLike) else path
