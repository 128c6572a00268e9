"""From a model's name to a folder on disk: bundled, local, or the Hugging Face hub and its cache."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

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

    Raises:
        ModelLoadError: it can't be had, or its files are incomplete.
    """
    if is_folder:
        return ModelFolder.read(Path(model).expanduser())
    if model == BUNDLED_MODEL:
        return ModelFolder.read(Path(str(files("koe5_integrations") / "models" / model)))

    def snapshot(local_files_only: bool) -> Path:
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

    if revision is not None:
        # A commit never changes, so a complete cached copy needs no question to the hub.
        try:
            return ModelFolder.read(snapshot(local_files_only=True))
        except (LocalEntryNotFoundError, ModelLoadError):
            pass
    try:
        return ModelFolder.read(snapshot(local_files_only))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        if isinstance(error, ModelLoadError):
            raise
        at = f"{model!r} at revision {revision!r}" if revision else repr(model)
        raise ModelLoadError(
            f"{at} is not in the local cache and can't be downloaded ({type(error).__name__}). Three ways on: "
            "pass the path of a local folder as model=; point cache_folder= (or the environment variable "
            "HF_HOME) at a cache that has it, or HF_ENDPOINT at a mirror; or use the bundled "
            f"model={BUNDLED_MODEL!r} for a first try"
        ) from error
