"""From a model's name to a folder on disk: bundled, local, or the Hugging Face hub's cache."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Literal

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import ModelLoadError
from koe5_integrations.profiles import BUNDLED_MODEL

__all__ = ["UnavailableError", "find_model", "snapshot"]

_log = logging.getLogger("koe5_integrations")

# What a safetensors model in sentence-transformers' layout is made of. Pickled weights, ONNX and
# OpenVINO exports and images are left on the hub.
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]
_UNWANTED = ["onnx/*", "openvino/*"]


class UnavailableError(Exception):
    """Something is neither in the hub's cache nor to be had from the hub.

    Attributes:
        kind: of the hub client's error.
    """

    def __init__(self, error: Exception) -> None:
        self.kind = type(error).__name__
        super().__init__(f"{self.kind}: {str(error).partition(chr(10))[0]}")


def snapshot(
    name: str,
    *,
    wanted: Sequence[str],
    unwanted: Sequence[str] = (),
    kind: Literal["model", "dataset"] = "model",
    revision: str | None = None,
    cache_folder: str | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return the folder of a repository's files in the hub's cache, downloading what is missing.

    Where the hub can't be reached, it holds what there is, and the log says so.

    Args:
        name: of the repository.
        wanted: patterns of its files.
        unwanted: patterns of those that are left there.
        kind: of the repository.
        revision: commit, branch or tag.
        cache_folder: hub cache to use instead of the default one.
        local_files_only: never ask the hub.

    Raises:
        UnavailableError: there is nothing.
    """
    from huggingface_hub import snapshot_download  # 90 ms that the bundled model does without

    get = partial(
        snapshot_download,
        name,
        repo_type=kind,
        revision=revision,
        cache_dir=cache_folder,
        allow_patterns=list(wanted),
        ignore_patterns=list(unwanted),
    )
    # By its version, the client fails with errors of requests, of httpx or of its own, and looks
    # into its cache or does not.
    try:
        return Path(get(local_files_only=local_files_only))
    except Exception as error:
        unavailable = UnavailableError(error)
        try:
            cached = Path(get(local_files_only=True))
        except Exception:
            raise unavailable from error
        _log.warning("%s: what is cached is used, for the hub can't be had (%s)", name, unavailable)
        return cached


def find_model(
    model: str,
    *,
    is_folder: bool,
    revision: str | None = None,
    cache_folder: str | None = None,
    local_files_only: bool = False,
    weights: bool = True,
) -> ModelFolder:
    """Return the folder that holds a model, downloading it if it is a hub name that is not cached.

    A hub name is looked up once in a process: it goes on meaning the commit it meant at first.

    Args:
        model: name or path.
        is_folder: it is a path.
        revision: commit, branch or tag on the hub; of a folder without weights, its version.
        cache_folder: hub cache to use instead of the default one.
        local_files_only: never ask the hub.
        weights: they are needed; otherwise they are not downloaded, and may be missing.

    Raises:
        ModelLoadError: it can't be had, or its files are incomplete.
    """
    if is_folder:
        return ModelFolder.read(Path(model), version=None if weights else revision or "")
    if model == BUNDLED_MODEL:
        return ModelFolder.read(Path(str(files("koe5_integrations") / "models" / model)))
    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        # A commit never changes, so a complete cached copy needs no question to the hub.
        try:
            return _read(model, _snapshot(model, revision, cache_folder, True, weights), weights)
        except ModelLoadError:
            if local_files_only:
                raise
    found = _snapshot(model, revision, cache_folder, local_files_only, weights)
    return _read(model, found, weights)


def _read(model: str, snapshot: Path, weights: bool) -> ModelFolder:
    # The cache names a snapshot by its commit.
    return ModelFolder.read(snapshot, version=None if weights else f"{model}@{snapshot.name}")


@cache
def _snapshot(
    model: str,
    revision: str | None,
    cache_folder: str | None,
    local_files_only: bool,
    weights: bool,
) -> Path:
    try:
        return snapshot(
            model,
            revision=revision,
            cache_folder=cache_folder,
            local_files_only=local_files_only,
            wanted=_WANTED,
            unwanted=_UNWANTED if weights else [*_UNWANTED, "*.safetensors"],
        )
    except UnavailableError as error:
        at = f"{model!r} at revision {revision!r}" if revision else repr(model)
        raise ModelLoadError(
            f"{at} is not in the local cache and can't be downloaded ({error.kind}). "
            "Three ways on: pass the path of a local folder as model=; point cache_folder= (or the "
            "environment variable HF_HOME) at a cache that has it, or HF_ENDPOINT at a mirror; or "
            f"use the bundled model={BUNDLED_MODEL!r} for a first try"
        ) from error
