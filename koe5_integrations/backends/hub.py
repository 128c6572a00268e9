"""From a model's name to a folder on disk: bundled, local, or the Hugging Face hub's cache."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import ModelLoadError
from koe5_integrations.profiles import BUNDLED_MODEL

__all__ = ["find_model"]

# What a safetensors model in sentence-transformers' layout is made of. Pickled weights, ONNX and
# OpenVINO exports and images are left on the hub.
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]
_UNWANTED = ["onnx/*", "openvino/*"]


def find_model(
    model: str,
    *,
    is_folder: bool,
    revision: str | None = None,
    cache_folder: str | None = None,
    local_files_only: bool = False,
) -> ModelFolder:
    """Return the folder that holds a model, downloading it if it is a hub name that is not cached.

    A hub name is looked up once in a process: it goes on meaning the commit it meant at first.

    Raises:
        ModelLoadError: it can't be had, or its files are incomplete.
    """
    if is_folder:
        return ModelFolder.read(Path(model))
    if model == BUNDLED_MODEL:
        return ModelFolder.read(Path(str(files("koe5_integrations") / "models" / model)))
    if revision is not None and re.fullmatch("[0-9a-f]{40}", revision):
        # A commit never changes, so a complete cached copy needs no question to the hub.
        try:
            return ModelFolder.read(_snapshot(model, revision, cache_folder, True))
        except ModelLoadError:
            if local_files_only:
                raise
    return ModelFolder.read(_snapshot(model, revision, cache_folder, local_files_only))


@cache
def _snapshot(
    model: str, revision: str | None, cache_folder: str | None, local_files_only: bool
) -> Path:
    from huggingface_hub import snapshot_download  # 90 ms that the bundled model does without
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                model,
                revision=revision,
                cache_dir=cache_folder,
                local_files_only=local_files_only,
                allow_patterns=_WANTED,
                ignore_patterns=_UNWANTED,
            )
        )
    # HTTP errors of the hub are OSErrors.
    except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
        at = f"{model!r} at revision {revision!r}" if revision else repr(model)
        raise ModelLoadError(
            f"{at} is not in the local cache and can't be downloaded ({type(error).__name__}). "
            "Three ways on: pass the path of a local folder as model=; point cache_folder= (or the "
            "environment variable HF_HOME) at a cache that has it, or HF_ENDPOINT at a mirror; or "
            f"use the bundled model={BUNDLED_MODEL!r} for a first try"
        ) from error
