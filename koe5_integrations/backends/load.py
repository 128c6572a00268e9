"""Loads a model into the engine that was picked for it."""

from __future__ import annotations

from koe5_integrations.backends import Backend
from koe5_integrations.backends.folder import BAG, ModelFolder
from koe5_integrations.backends.pick import EngineChoice
from koe5_integrations.profiles import Pooling

__all__ = ["load_backend"]


def load_backend(
    folder: ModelFolder,
    choice: EngineChoice,
    *,
    device: str,
    max_seq_length: int | None,
    pooling: Pooling | None,
    compile: bool,
    forked: bool,
) -> Backend:
    """Load a model on one of the devices chosen.

    Args:
        folder: where it is.
        choice: what runs it.
        device: one of ``choice.devices``.
        max_seq_length: tokens read of each text.
        pooling: used if the folder doesn't say.
        compile: let torch compile it.
        forked: this process was forked from one that may have used the model.

    Raises:
        ConfigError: the device does not exist here, or the server embeds otherwise.
        EmbeddingServerError: it can't be reached.
        MissingExtraError: the backend is not installed.
        ModelLoadError: the folder can't be loaded.
    """
    # Each engine is imported where it is used: none of the others need be installed.
    if choice.served is not None:
        from koe5_integrations.backends.remote.backend import RemoteBackend
        from koe5_integrations.backends.remote.checks import check_server

        remote = RemoteBackend(folder, choice.served, max_seq_length)
        check_server(remote, folder, choice.served, max_seq_length, pooling)
        return remote
    if folder.modules == (BAG,):
        from koe5_integrations.backends.bag import BagBackend

        return BagBackend(folder, max_seq_length)
    if choice.backend == "static":
        from koe5_integrations.backends.static import StaticBackend

        return StaticBackend(folder, max_seq_length)
    if choice.graph is None:
        from koe5_integrations.backends.torch import TorchBackend

        return TorchBackend(
            folder,
            device=device,
            precision=choice.precision,
            max_seq_length=max_seq_length,
            pooling=pooling,
            single_thread=forked,
            compile=compile,
        )
    if choice.backend == "onnx":
        from koe5_integrations.backends.onnx import OnnxBackend

        return OnnxBackend(folder, choice.graph, max_seq_length=max_seq_length, pooling=pooling)
    from koe5_integrations.backends.openvino import OpenVinoBackend

    return OpenVinoBackend(
        folder,
        choice.graph,
        precision=choice.precision,
        max_seq_length=max_seq_length,
        pooling=pooling,
    )
