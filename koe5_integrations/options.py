"""The encoder's settings: their names, their types, and the check that each is possible."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, get_args, get_type_hints
from urllib.parse import urlsplit

from koe5_integrations.errors import ConfigError, TruncateDimWarning, shorten
from koe5_integrations.profiles import ModelProfile
from koe5_integrations.warn import warn

__all__ = [
    "VECTOR_OPTIONS",
    "EncoderOptions",
    "check_options",
    "check_server",
    "check_truncate_dim",
    "model_argument",
]

BackendName: TypeAlias = Literal["auto", "torch", "onnx", "openvino", "static", "remote"]
Precision: TypeAlias = Literal["fp32", "bf16", "fp16", "int8"]
OnPrefixed: TypeAlias = Literal["warn", "error", "keep"]
OnTruncation: TypeAlias = Literal["warn", "error", "ignore"]


class EncoderOptions(TypedDict, total=False):
    """The keyword arguments of ``KoE5Encoder``, explained there, for those that pass them on."""

    revision: str | None
    profile: str | None
    query_prompt: str | None
    passage_prompt: str | None
    backend: BackendName
    base_url: str | None
    api_key_env: str | None
    device: str | None
    precision: Precision | None
    compile: bool
    max_seq_length: int | None
    truncate_dim: int | None
    batch_size: int | None
    batch_tokens: int | None
    on_prefixed: OnPrefixed
    on_truncation: OnTruncation
    normalize_unicode: bool
    embedding_cache: str | None
    embedding_cache_size: int | None
    cache_folder: str | None
    local_files_only: bool


VECTOR_OPTIONS = frozenset(
    {
        "revision",
        "profile",
        "query_prompt",
        "passage_prompt",
        "precision",
        "max_seq_length",
        "truncate_dim",
        "on_prefixed",
        "normalize_unicode",
    }
)
"""The options that change a vector; the others say where and how fast it is made."""

_TYPES: dict[str, tuple[type, ...]] = {
    name: tuple(
        str if isinstance(kind, str) else kind
        for part in (get_args(hint) or (hint,))
        for kind in (get_args(part) or (part,))
    )
    for name, hint in get_type_hints(EncoderOptions).items()
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "backend": get_args(BackendName),
    "precision": get_args(Precision),
    "on_prefixed": get_args(OnPrefixed),
    "on_truncation": get_args(OnTruncation),
}
_NO_KEY = (
    "api_key_env= must be the name of an environment variable, in capitals, such as "
    "'TEI_API_KEY', and not the key itself (what was given is not shown)"
)
_LONG_WORD = 20
_POSITIVE = (
    "max_seq_length",
    "truncate_dim",
    "batch_size",
    "batch_tokens",
    "embedding_cache_size",
)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first option that is unknown, of the wrong type or out of range."""
    for name, value in options.items():
        if name not in _TYPES:
            raise ConfigError(f"{name}= is no option; there are {', '.join(sorted(_TYPES))}")
        if name in _CHOICES:
            if value not in _CHOICES[name] and not (value is None and name == "precision"):
                listed = ", ".join(map(repr, _CHOICES[name]))
                raise ConfigError(f"{name}={shorten(value)} must be one of {listed}")
            continue
        # bool is an int to Python, but batch_size=True is a mistake.
        if not isinstance(value, _TYPES[name]) or (
            isinstance(value, bool) and bool not in _TYPES[name]
        ):
            if name == "api_key_env":
                raise ConfigError(_NO_KEY)
            wanted = " or ".join("None" if t is type(None) else t.__name__ for t in _TYPES[name])
            raise ConfigError(f"{name}={shorten(value)} must be {wanted}")
        if name in _POSITIVE and isinstance(value, int) and value < 1:
            raise ConfigError(f"{name}={value!r} must be at least 1, or None for the default")
        if name == "base_url" and isinstance(value, str):
            _check_url(value)
        if name == "api_key_env" and isinstance(value, str) and not _names_a_variable(value):
            raise ConfigError(_NO_KEY)


def check_server(options: EncoderOptions) -> None:
    """Raise ConfigError for a backend and an address that don't go together."""
    backend, url = options["backend"], options["base_url"]
    if backend == "remote" and url is None:
        raise ConfigError(
            "backend='remote' needs base_url=, the address of the server that runs the model, such "
            "as 'http://127.0.0.1:8080'"
        )
    if url is not None and backend not in ("auto", "remote"):
        raise ConfigError(
            f"base_url={url!r}, backend={backend!r}: either a server runs the model, or this "
            "machine does; leave one of them out"
        )
    if url is None and options["api_key_env"] is not None:
        raise ConfigError("api_key_env= is for a server: give its base_url= too")


def _check_url(url: str) -> None:
    if any(character in url for character in "@?#"):
        raise ConfigError(
            "base_url= holds more than an address (it is not shown, in case that is a secret): "
            "give it as 'https://host:port/path', and the name of the environment variable that "
            "holds the key as api_key_env="
        )
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not url.isprintable() or " " in url:
        raise ConfigError(
            f"base_url={shorten(url)} must be the address of a server, such as "
            "'http://127.0.0.1:8080'"
        )


def _names_a_variable(text: str) -> bool:
    """Whether this names an environment variable, and is no key given in its place."""
    plain = re.fullmatch("[A-Z][A-Z0-9_]*", text) is not None
    return plain and (len(text) < _LONG_WORD or "_" in text)


def check_truncate_dim(truncate_dim: int, profile: ModelProfile, *, is_folder: bool) -> None:
    """Refuse more dimensions than the model has; warn if it was not trained to be cut.

    How many a folder has is known, and checked, once it is read: its profile may be borrowed.
    """
    if not is_folder and profile.dim is not None and truncate_dim > profile.dim:
        raise ConfigError(
            f"truncate_dim={truncate_dim} is more than the {profile.dim} dimensions of "
            f"{profile.name}"
        )
    if truncate_dim != profile.dim and truncate_dim not in profile.matryoshka:
        trained = ", ".join(map(str, profile.matryoshka)) or "none"
        warn(
            TruncateDimWarning(
                f"truncate_dim={truncate_dim}: {profile.name} is not known to be trained for it "
                f"(Matryoshka dimensions: {trained}); measure what it costs before relying on it"
            )
        )


def model_argument(model: object) -> tuple[str, bool]:
    """Return a model's name or absolute path as text, and whether it is a folder.

    Raises:
        ConfigError: neither a name nor a path, or a path where no folder is.
    """
    if not isinstance(model, str | os.PathLike) or not os.fspath(model):
        raise ConfigError(f"model={shorten(model)} must be a model's name or the path of a folder")
    text = str(model)
    path = Path(text).expanduser()
    if path.is_dir():
        return str(path.resolve()), True
    # A hub name is owner/name at most; anything else was meant as a path.
    looks_like_path = text.startswith((".", "/", "~")) or "\\" in text or text.count("/") > 1
    if looks_like_path or isinstance(model, os.PathLike):
        raise ConfigError(f"model={text!r}: there is no such folder")
    return text, False
