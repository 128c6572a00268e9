"""Picks the backend a model folder runs on and loads it."""

from __future__ import annotations

from koe5_integrations.backends import Backend
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import ConfigError
from koe5_integrations.profiles import Pooling

__all__ = ["load_backend"]


def load_backend(
    folder: ModelFolder,
    *,
    backend: str,
    device: str | None,
    precision: str,
    max_seq_length: int | None,
    pooling: Pooling | None,
    forked: bool,
) -> Backend:
    """Load a model.

    Args:
        folder: where it is.
        backend: ``torch``, ``static``, or ``auto`` by the folder's kind.
        device: for torch; None takes the best there is.
        precision: number format of the weights.
        max_seq_length: tokens read of each text.
        pooling: used if the folder doesn't say.
        forked: this process was forked from one that may have used the model.

    Raises:
        ConfigError: the backend can't run this kind of model, or not on this device or precision.
        MissingExtraError: the backend is not installed.
        ModelLoadError: the folder can't be loaded.
    """
    picked = backend if backend != "auto" else "static" if folder.kind == "static" else "torch"
    if (picked == "static") != (folder.kind == "static"):
        right = "static" if folder.kind == "static" else "torch"
        raise ConfigError(
            f"backend={backend!r} can't run {folder.path}, a {folder.kind} model: "
            f"use backend={right!r}"
        )
    if picked == "static":
        if device not in (None, "cpu") or precision != "fp32":
            raise ConfigError(
                f"device={device!r}, precision={precision!r}: static embeddings run on the CPU in "
                "fp32"
            )
        from koe5_integrations.backends.static import StaticBackend

        return StaticBackend(folder, max_seq_length)
    from koe5_integrations.backends.torch import TorchBackend

    return TorchBackend(
        folder,
        device=device,
        precision=precision,
        max_seq_length=max_seq_length,
        pooling=pooling,
        single_thread=forked,
    )
