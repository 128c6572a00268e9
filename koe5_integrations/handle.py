"""A model by its settings: its files once they are asked for, its worker once it is needed."""

from __future__ import annotations

import logging
from typing import Any

from koe5_integrations.backends import Backend, Tokens
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.hub import find_model
from koe5_integrations.backends.load import load_backend
from koe5_integrations.backends.pick import EngineChoice, pick
from koe5_integrations.backends.remote.server import Address
from koe5_integrations.backends.tokenizer import TextTokenizer
from koe5_integrations.errors import ConfigError, ModelLoadError
from koe5_integrations.options import EncoderOptions
from koe5_integrations.profiles import ModelProfile
from koe5_integrations.scheduling import Worker, shared_worker

__all__ = ["ModelHandle"]

_logger = logging.getLogger("koe5_integrations")


class ModelHandle:
    """Finds and loads a model lazily; pickling and forking drop what was loaded.

    Args:
        model: name or absolute path.
        is_folder: it is a path.
        profile: how it is used.
        options: checked options.
    """

    def __init__(
        self, model: str, is_folder: bool, profile: ModelProfile, options: EncoderOptions
    ) -> None:
        self._model = model
        self._is_folder = is_folder
        self._profile = profile
        self._options = options
        url = options.get("base_url")
        self._address = Address(url.rstrip("/"), options.get("api_key_env")) if url else None
        self._folder: ModelFolder | None = None
        self._worker: Worker | None = None
        self._engine: EngineChoice | None = None
        self._state: tuple[object, ...] = ()
        self._tokenizer: TextTokenizer | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings alone."""
        return self.__dict__ | {
            "_folder": None,
            "_worker": None,
            "_engine": None,
            "_tokenizer": None,
        }

    @property
    def folder(self) -> ModelFolder:
        """The model's files, found on first use and checked against the options.

        Raises:
            ModelLoadError: they can't be had or are incomplete.
            ConfigError: they contradict the profile or an option.
        """
        if self._folder is None:
            profile, options = self._profile, self._options
            # A profile borrowed from another model says nothing of this one's commits.
            pinned = profile.revision if profile.name == self._model else None
            folder = find_model(
                self._model,
                is_folder=self._is_folder,
                revision=options["revision"] or pinned,
                cache_folder=options["cache_folder"],
                local_files_only=options["local_files_only"],
                weights=self._address is None,
            )
            self._check(folder)
            self._folder, self._state = folder, folder.state
        return self._folder

    def _check(self, folder: ModelFolder) -> None:
        wanted = self._profile.pooling
        if wanted is not None and folder.pooling is not None and folder.pooling != wanted:
            raise ConfigError(
                f"{folder.path} pools by {folder.pooling!r}, but as {self._profile.name} it would "
                f"pool by {wanted!r}: it is another kind of model. Say which with profile=, or "
                "give both query_prompt= and passage_prompt="
            )
        if wanted is None and folder.pooling is None:
            raise ConfigError(
                f"{folder.path} has no modules.json and doesn't say how it pools: say which known "
                "model it is used like with profile="
            )
        known = self._profile.dim if self._profile.name == self._model else None
        if known is not None and folder.dim != known:
            raise ModelLoadError(
                f"{folder.path} makes vectors of {folder.dim} dimensions, not the {known} of "
                f"{self._model}: these are another model's files"
            )
        truncate_dim = self._options["truncate_dim"]
        max_seq_length = self._options["max_seq_length"]
        if truncate_dim is not None and truncate_dim > folder.dim:
            raise ConfigError(f"truncate_dim={truncate_dim} is more than the model's {folder.dim}")
        limit = folder.max_seq_length
        if max_seq_length is not None and limit is not None and max_seq_length > limit:
            raise ConfigError(f"max_seq_length={max_seq_length} is more than the model's {limit}")

    @property
    def normalize(self) -> bool:
        """Whether vectors have unit length: the model ends so, or its profile asks for it."""
        return self.folder.normalize or bool(self._profile.normalize)

    def tokenize(self, texts: list[str]) -> list[Tokens]:
        """Return each text's tokens, without loading the weights if they are not."""
        if self._worker is not None and self._worker.alive:
            return self._worker.backend.tokenize(texts)
        if self._tokenizer is None or self.folder.state != self._state:
            self._folder = None  # written again since it was read
            self._tokenizer = TextTokenizer.from_folder(self.folder, None)
        return self._tokenizer(texts)

    @property
    def engine(self) -> EngineChoice:
        """What runs the model, or would if it were loaded now; a server is asked what it serves.

        Raises:
            ConfigError: the options can't be combined, or not for this model.
            MissingExtraError: the backend is not installed.
            ModelLoadError: the model or the export that the backend needs can't be had.
            EmbeddingServerError: the server can't be reached.
        """
        if self._worker is not None and self._worker.alive and self._engine is not None:
            return self._engine
        options = self._options
        return pick(
            self.folder,
            backend=options["backend"],
            device=options["device"],
            precision=options["precision"],
            compile=options["compile"],
            name=self._model,
            address=self._address,
            normalize=self.normalize,
        )

    @property
    def precision(self) -> str:
        """Number format of the vectors' making; that of int8 with the engine, for each differs.

        A server is asked, unless the options say it.
        """
        if self._address is not None:
            return self._options["precision"] or self.engine.precision
        export = self.folder.export
        precision = self._options["precision"] or (export.precision if export else "fp32")
        return precision if precision != "int8" else f"int8-{self.engine.backend}"

    def worker(self) -> Worker:
        """Return the process's worker for this model, loading it on first use.

        Raises:
            ConfigError: the backend can't run the model.
            MissingExtraError: the backend is not installed.
            ModelLoadError: the model can't be had or loaded.
            EmbeddingServerError: the server can't be reached.
        """
        if self._worker is None or not self._worker.alive:
            if self._worker is not None or self.folder.state != self._state:
                self._folder = None  # released, forked or written again since it was read
            folder, pooling = self.folder, self._profile.pooling
            max_seq_length = self._options["max_seq_length"] or folder.max_seq_length
            compile = self._options["compile"]
            engine = self.engine
            served = engine.served

            def load(forked: bool) -> list[Backend]:
                _logger.info("%s: %s", self._model, engine)

                def load_on(device: str) -> Backend:
                    return load_backend(
                        folder,
                        engine,
                        device=device,
                        max_seq_length=max_seq_length,
                        pooling=pooling,
                        compile=compile,
                        forked=forked,
                    )

                if served is not None:  # one client for all requests
                    return [load_on(engine.device)] * len(engine.devices)
                return [load_on(device) for device in engine.devices]

            key = (folder.path, engine, max_seq_length, pooling, compile)
            self._worker = shared_worker(
                key,
                (folder.state, engine.state),
                load,
                most_texts=served.most_texts if served else None,
                elsewhere=served is not None,
            )
            self._engine = engine
        return self._worker
