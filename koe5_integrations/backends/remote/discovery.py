"""Finds out what a server is and which model it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.remote.client import Client, Refused, Unusable
from koe5_integrations.backends.remote.server import REPLICAS, Address, Served
from koe5_integrations.errors import ConfigError, EmbeddingServerError

__all__ = ["discover", "find_server"]

# What servers of every kind take by default.
_MOST_TEXTS = 32
_BATCH_TOKENS = 16_384
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_POOLINGS = {"last_token": "lasttoken"}
_NOT_THERE = frozenset({404, 405, 501})


def find_server(
    folder: ModelFolder, address: Address, name: str, precision: str | None, *, normalize: bool
) -> Served:
    """Ask a server what it serves, and compare it with what is wanted.

    Args:
        folder: the model.
        address: of the server.
        name: what its user calls the model.
        precision: the vectors are to be made in; None takes the server's.
        normalize: they are to have unit length.

    Raises:
        ConfigError: it serves something else.
        EmbeddingServerError: it can't be reached.
    """
    if precision == "int8":
        raise ConfigError(
            "precision='int8': servers round in ways of their own, and their vectors can't be told "
            "apart; let the server compute in fp32, bf16 or fp16"
        )
    names = [name, str(folder.path), *([folder.export.model] if folder.export else [])]
    served = discover(address, names)
    if precision and served.precision and precision != served.precision:
        raise ConfigError(
            f"precision={precision!r}: {address.base_url} computes in {served.precision}; start it "
            f"with another --dtype, or say precision={served.precision!r}"
        )
    if served.precision not in (None, "fp32", "bf16", "fp16"):
        raise ConfigError(
            f"base_url={address.base_url!r} computes in {served.precision!r}; let it compute in "
            "float32, bfloat16 or float16"
        )
    if served.protocol == "openai" and not normalize:
        raise ConfigError(
            f"base_url={address.base_url!r}: {name} makes vectors of different lengths, and "
            "servers with OpenAI's interface scale all to one; use Text Embeddings Inference"
        )
    return served


def discover(address: Address, names: Sequence[str], client: Client | None = None) -> Served:
    """Ask a server what it is: TEI by its ``/info``, others by OpenAI's ``/models``.

    Args:
        address: with or without ``/v1`` at its end.
        names: what the model may be called; of a path the last part counts.
        client: None makes one for this.

    Raises:
        ConfigError: it serves another model.
        EmbeddingServerError: it can't be reached, or is neither.
    """
    if client is None:
        client = Client(address)
        try:
            return discover(address, names, client)
        finally:
            client.close()
    base = address.base_url
    info = _get(client, f"{base.removesuffix('/v1')}/info", _tei_info)
    if info is not None:
        return _tei(address, info, names)
    for root in [base] if base.endswith("/v1") else [f"{base}/v1", base]:
        served = _get(client, f"{root}/models", _model_ids)
        if served is not None:
            return Served(
                address=address,
                protocol="openai",
                root=root,
                model=_pick(address, served, names),
                commit=None,
                precision=None,
                pooling=None,
                max_seq_length=None,
                most_texts=_MOST_TEXTS,
                batch_tokens=_BATCH_TOKENS,
            )
    raise EmbeddingServerError(
        f"{base} has neither /info, as Text Embeddings Inference, nor /models or /v1/models, as "
        "servers with OpenAI's interface: is it the address of a server that embeds?"
    )


def _get(client: Client, url: str, read: Any) -> Any:
    """Return what is at a URL; None if there is nothing."""
    try:
        return client.send(url, read=read, first_contact=True)
    except Refused as refused:
        if refused.status in _NOT_THERE:
            return None
        raise EmbeddingServerError(refused.problem) from None


def _tei_info(answer: Any) -> dict[str, Any] | None:
    """Return TEI's description of itself; None if this is some other program's."""
    if not isinstance(answer, dict) or "model_id" not in answer:
        return None
    for name in ("max_client_batch_size", "max_batch_tokens", "max_input_length"):
        if not isinstance(answer.get(name), int) or answer[name] < 1:
            raise Unusable(f"answers with {name}={str(answer.get(name))[:40]!r}")
    return answer


def _tei(address: Address, info: dict[str, Any], names: Sequence[str]) -> Served:
    kind = info.get("model_type")
    embedding = kind.get("embedding") if isinstance(kind, dict) else None
    if not isinstance(embedding, dict):
        raise ConfigError(
            f"base_url={address.base_url!r}: TEI serves {info['model_id']!r} there, which is no "
            "embedding model"
        )
    dtype = str(info.get("model_dtype"))
    pooling = str(embedding.get("pooling"))
    # Every text of a request takes one of these places.
    places = info.get("max_concurrent_requests")
    share = places // (2 * REPLICAS) if isinstance(places, int) else _MOST_TEXTS
    return Served(
        address=address,
        protocol="tei",
        root=address.base_url.removesuffix("/v1"),
        model=_pick(address, [str(info["model_id"]), str(info.get("served_model_name"))], names),
        commit=info.get("model_sha"),
        precision=_PRECISIONS.get(dtype, dtype),
        pooling=_POOLINGS.get(pooling, pooling),
        max_seq_length=info["max_input_length"],
        most_texts=max(1, min(_MOST_TEXTS, info["max_client_batch_size"], share)),
        batch_tokens=min(_BATCH_TOKENS, info["max_batch_tokens"]),
    )


def _model_ids(answer: Any) -> list[str]:
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or not data or not all(isinstance(m, dict) for m in data):
        raise Unusable("answers with something that is no list of models")
    return [str(model.get("id")) for model in data]


def _pick(address: Address, served: Sequence[str], names: Sequence[str]) -> str:
    """Return the name of ours among those served.

    Some servers answer to any name with the one model they have, so a wrong one must not be sent.
    """
    for name in served:
        if any(_are_one(name, ours) for ours in names):
            return name
    raise ConfigError(
        f"base_url={address.base_url!r} serves {', '.join(map(repr, served))}, not "
        f"{names[0]!r}. If it is the same model, let the server call it so (TEI, vLLM, infinity: "
        "--served-model-name; llama.cpp: --alias); otherwise serve that one, or name another "
        "with model="
    )


def _are_one(served: str, ours: str) -> bool:
    """Whether two names are one model's; a path is known by its last part."""
    pair = [name.replace("\\", "/").rstrip("/").casefold() for name in (served, ours)]
    if all(name.count("/") == 1 and name[0] not in "./~" for name in pair):  # owner/name
        return pair[0] == pair[1]
    return pair[0].rpartition("/")[2] == pair[1].rpartition("/")[2]
