"""A model folder as sentence-transformers loads it: offline, from safetensors, without its code."""

from __future__ import annotations

from typing import Any

from sentence_transformers import SentenceTransformer

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import ModelLoadError
from koe5_integrations.profiles import Pooling

__all__ = ["load_sentence_transformer"]


def load_sentence_transformer(
    folder: ModelFolder, *, device: str, pooling: Pooling | None, **model_kwargs: Any
) -> SentenceTransformer:
    """Load a model for inference.

    Args:
        folder: a folder of kind ``transformer``.
        device: where to.
        pooling: used if the folder doesn't say.
        model_kwargs: for transformers' ``from_pretrained``, such as ``dtype``.

    Raises:
        ModelLoadError: transformers can't load the folder.
    """
    kwargs = {"use_safetensors": True, **model_kwargs}
    path = str(folder.path)
    try:
        if folder.modules:
            model = SentenceTransformer(
                path,
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs=kwargs,
            )
        else:
            from sentence_transformers.models import Pooling as PoolingModule
            from sentence_transformers.models import Transformer

            transformer = Transformer(path, model_kwargs=kwargs)
            pooler = PoolingModule(folder.dim, pooling_mode=pooling)
            model = SentenceTransformer(modules=[transformer, pooler], device=device)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelLoadError(f"{path} can't be loaded: {error}") from error
    return model.eval()
