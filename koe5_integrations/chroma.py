"""KoE5 as a Chroma embedding function, and collections that know what their vectors are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Unpack

from koe5_integrations.errors import MissingExtraError

try:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection
    from chromadb.api.types import Documents, EmbeddingFunction, Embeddings, Space
    from chromadb.errors import ChromaError, NotFoundError
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as error:
    raise MissingExtraError("koe5_integrations.chroma", "chroma") from error

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import (
    CollectionError,
    ConfigError,
    FingerprintMismatchError,
    shorten,
)
from koe5_integrations.options import VECTOR_OPTIONS, EncoderOptions, check_options
from koe5_integrations.profiles import DEFAULT_MODEL

__all__ = ["KoE5EmbeddingFunction", "open_collection", "stored_fingerprint"]

_DIGEST = "koe5:fingerprint"
_FIELDS = "koe5:fingerprint_fields"


@register_embedding_function
class KoE5EmbeddingFunction(EmbeddingFunction[Documents]):
    """Chroma embedding function with KoE5, or any model of ``koe5 models``.

    Documents are embedded as passages, ``query_texts`` as queries. Constructing loads nothing
    (Chroma does it for nearly every call); the loaded model is shared. Importing this module
    registers the function under the name ``koe5``, which a process must do before it opens a
    collection that uses it.

    Args:
        model_name: hub name, ``koe5-mini`` or a local folder; also accepted as ``model``.
        show_progress: draw a progress bar while embedding documents.
        **options: options of :class:`~koe5_integrations.encoder.KoE5Encoder`.
    """

    def __init__(
        self,
        model_name: str | None = None,
        *,
        model: str | None = None,
        show_progress: bool = False,
        **options: Unpack[EncoderOptions],
    ) -> None:
        if model_name is not None and model is not None and model_name != model:
            raise ConfigError(f"model_name={model_name!r} and model={model!r} differ: give one")
        encoder = KoE5Encoder(model_name or model or DEFAULT_MODEL, **options)
        self._encoder: KoE5Encoder | None = encoder
        self._config = _vector_config(encoder)
        self._show_progress = show_progress

    @property
    def encoder(self) -> KoE5Encoder:
        """The encoder behind this function: fingerprint, profile, token counts, truncation."""
        if self._encoder is None:
            self._encoder = KoE5Encoder(**self._config)
        return self._encoder

    def __call__(self, input: Documents) -> Embeddings:
        """Embed texts to be found: one float32 array of shape (dim,) each, in order."""
        return list(self.encoder.encode_passages(input, show_progress=self._show_progress))

    def embed_query(self, input: Documents) -> Embeddings:
        """Embed questions: one float32 array of shape (dim,) each, in order."""
        return list(self.encoder.encode_queries(input))

    @staticmethod
    def name() -> str:
        """Name under which Chroma stores this function."""
        return "koe5"

    def default_space(self) -> Space:
        """Cosine, which the model was trained for."""
        return "cosine"

    def supported_spaces(self) -> list[Space]:
        """All of Chroma's; unit vectors rank alike in each."""
        return ["cosine", "ip", "l2"]

    def get_config(self) -> dict[str, Any]:
        """Return what decides the vectors; device and batch sizes belong to the machine."""
        return dict(self._config)

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> KoE5EmbeddingFunction:
        """Rebuild from :meth:`get_config`.

        The model is looked for when first used: Chroma rebuilds the function only to read a
        collection's settings too, which works where the model's folder has moved.
        """
        KoE5EmbeddingFunction.validate_config(config)
        function = KoE5EmbeddingFunction.__new__(KoE5EmbeddingFunction)
        function._encoder = None
        function._config = dict(config)
        function._show_progress = False
        return function

    @staticmethod
    def validate_config(config: dict[str, Any]) -> None:
        """Raise ConfigError for a configuration that this class does not write."""
        unknown = sorted(config.keys() - VECTOR_OPTIONS - {"model"})
        if unknown or not isinstance(config.get("model"), str):
            raise ConfigError(
                f"not a configuration of the embedding function 'koe5': {config!r}"
                + (f"; unknown: {', '.join(unknown)}" if unknown else "; 'model' is missing")
            )
        check_options({k: v for k, v in config.items() if k != "model"})

    def validate_config_update(
        self, old_config: dict[str, Any], new_config: dict[str, Any]
    ) -> None:
        """Refuse any change: what is stored decides the vectors already in the collection."""
        self.validate_config(new_config)
        if old_config != new_config:
            raise ConfigError(
                f"a collection embedded with {old_config!r} can't go on with {new_config!r}: "
                "embed it again into a new collection"
            )


def _vector_config(encoder: KoE5Encoder) -> dict[str, Any]:
    return {k: v for k, v in encoder.config().items() if k == "model" or k in VECTOR_OPTIONS}


def open_collection(
    client: ClientAPI,
    name: str,
    embedding_function: KoE5EmbeddingFunction | KoE5Encoder | None = None,
    *,
    metadata: Mapping[str, str | int | float | bool] | None = None,
    hnsw: Mapping[str, int | float] | None = None,
) -> Collection:
    """Create or open a collection whose vectors are known to be comparable with ours.

    A new collection gets our function, cosine space and the encoder's fingerprint in its metadata.
    An existing one is opened only if it has the same. The collection can be handed to LangChain's
    ``Chroma(client=…, collection_name=name)`` and LlamaIndex's
    ``ChromaVectorStore(chroma_collection=…)``.

    Args:
        client: any Chroma client.
        name: 3 to 512 characters of ``[a-zA-Z0-9._-]``.
        embedding_function: ours, or an encoder (each of our adapters has one as ``.encoder``); None
            is KoE5 with its defaults.
        metadata: further entries for a new collection.
        hnsw: settings of a new collection's index under Chroma's names, such as ``max_neighbors``.

    Raises:
        FingerprintMismatchError: the collection's vectors were made by another model or settings.
        CollectionError: it is not a collection of ours, or not in cosine space.
        ConfigError: ``embedding_function`` is something else.
        ModelLoadError: the model can't be had.
    """
    function = _function(embedding_function)
    fingerprint = function.encoder.fingerprint
    # Chroma's types ask of every function that it can embed images too.
    chroma_function: Any = function
    index: Any = {**(hnsw or {}), "space": "cosine"}
    try:
        # Without a function first: Chroma would refuse another one's collection with less to say.
        existing = client.get_collection(name, embedding_function=None)
    except NotFoundError:
        try:
            return client.create_collection(
                name,
                embedding_function=chroma_function,
                configuration={"hnsw": index},
                metadata={
                    **(metadata or {}),
                    _DIGEST: fingerprint.digest,
                    _FIELDS: fingerprint.to_json(),
                },
            )
        except ChromaError as error:
            # Another process may have created it meanwhile, for which disk and server have three
            # kinds of error.
            try:
                existing = client.get_collection(name, embedding_function=None)
            except NotFoundError:
                raise error from None
    _check_collection(existing, function)
    return client.get_collection(name, embedding_function=chroma_function)


def stored_fingerprint(collection: Collection) -> tuple[str | None, dict[str, Any]]:
    """Return digest and fields of what a collection was embedded with; None if it doesn't say."""
    stored = collection.metadata or {}
    digest = stored.get(_DIGEST)
    return (
        None if digest is None else str(digest),
        dict(json.loads(str(stored.get(_FIELDS, "{}")))),
    )


def _function(given: object) -> KoE5EmbeddingFunction:
    if given is None:
        return KoE5EmbeddingFunction()
    if isinstance(given, KoE5Encoder):
        return KoE5EmbeddingFunction(**given.config())
    if not isinstance(given, KoE5EmbeddingFunction):
        raise ConfigError(
            f"embedding_function={shorten(given)} must be a KoE5EmbeddingFunction or a KoE5Encoder "
            "(our LangChain and LlamaIndex adapters have one as .encoder)"
        )
    return given


def _check_collection(collection: Collection, function: KoE5EmbeddingFunction) -> None:
    made_by = (collection.configuration_json.get("embedding_function") or {}).get("name")
    if made_by not in (None, function.name()):
        raise CollectionError(
            f"collection {collection.name!r} belongs to the embedding function {made_by!r}, not "
            f"{function.name()!r}: open another name with open_collection() and add the documents "
            "there"
        )
    digest, there = stored_fingerprint(collection)
    if digest is None:
        raise CollectionError(
            f"collection {collection.name!r} has no fingerprint, so nobody can say which model and "
            "prefix its vectors were made with: open another name with open_collection() and add "
            "the documents there"
        )
    fingerprint = function.encoder.fingerprint
    if digest != fingerprint.digest:
        raise FingerprintMismatchError(
            f"collection {collection.name!r} was embedded with {there.get('model')!r} "
            f"({digest}), not with {fingerprint.model!r} ({fingerprint.digest}). "
            f"{'; '.join(fingerprint.differences(there))}. Open it with the settings it was made "
            "with, or embed the documents again into a new collection"
        )
    space = (collection.configuration_json.get("hnsw") or {}).get("space")
    if space != "cosine":
        raise CollectionError(
            f"collection {collection.name!r} measures distance by {space!r}, not 'cosine', and "
            "Chroma can't change that: embed the documents again into a new collection"
        )
