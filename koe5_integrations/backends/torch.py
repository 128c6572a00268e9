"""Transformer models on PyTorch, loaded and run by sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from koe5_integrations.backends import Tokens
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.tokenizer import TextTokenizer
from koe5_integrations.errors import ConfigError, MissingExtraError, ModelLoadError
from koe5_integrations.profiles import Pooling
from koe5_integrations.types import Vectors

try:
    import torch
    from sentence_transformers import SentenceTransformer
except ImportError as error:
    raise MissingExtraError("backend='torch'", "torch") from error

__all__ = ["TorchBackend"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchBackend:
    """A sentence-transformers model.

    Args:
        folder: a folder of kind ``transformer``.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, …; None takes the best there is.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        max_seq_length: tokens read of each text, special tokens included.
        pooling: used if the folder doesn't say.
        single_thread: don't start OpenMP threads (needed in a forked process).

    Raises:
        ConfigError: the device does not exist here.
        ModelLoadError: transformers can't load the folder.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        device: str | None,
        precision: str,
        max_seq_length: int | None,
        pooling: Pooling | None,
        single_thread: bool = False,
    ) -> None:
        if single_thread:
            # GNU OpenMP's threads don't survive a fork: the first parallel loop would wait for
            # ever.
            torch.set_num_threads(1)
        self._device = _pick_device(device)
        kwargs = {"dtype": _DTYPES[precision], "use_safetensors": True}
        path = str(folder.path)
        try:
            if folder.modules:
                self._model = SentenceTransformer(
                    path,
                    device=str(self._device),
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs=kwargs,
                )
            else:
                from sentence_transformers.models import Pooling as PoolingModule
                from sentence_transformers.models import Transformer

                transformer = Transformer(path, model_kwargs=kwargs)
                pooler = PoolingModule(folder.dim, pooling_mode=pooling)
                self._model = SentenceTransformer(
                    modules=[transformer, pooler], device=str(self._device)
                )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise ModelLoadError(f"{path} can't be loaded: {error}") from error
        self._model.eval()
        transformers_tokenizer = self._model.tokenizer
        if not hasattr(transformers_tokenizer, "backend_tokenizer"):
            raise ModelLoadError(
                f"{path}: {type(transformers_tokenizer).__name__} is not backed by a tokenizer.json"
            )
        self._pad_id = int(transformers_tokenizer.pad_token_id or 0)
        self.tokenize = TextTokenizer(
            transformers_tokenizer.backend_tokenizer, max_seq_length, add_special_tokens=True
        )
        # Measured on 2 CPU cores, sorted batches of 2048 tokens waste 0.8% on padding and fit the
        # cache; a GPU wants enough work to fill it.
        self.batch_tokens = 2048 if self._device.type == "cpu" else 65_536

    @torch.inference_mode()
    def forward(self, batch: Sequence[Tokens]) -> Vectors:
        """Return the model's sentence embeddings, shape (len(batch), dim)."""
        width = max(len(tokens.ids) for tokens in batch)
        ids = np.full((len(batch), width), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(batch), width), dtype=np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens.ids)] = tokens.ids
            mask[row, : len(tokens.ids)] = 1
        features = {
            "input_ids": torch.from_numpy(ids).to(self._device),
            "attention_mask": torch.from_numpy(mask).to(self._device),
        }
        vectors: Vectors = self._model(features)["sentence_embedding"].float().cpu().numpy()
        return vectors


def _pick_device(device: str | None) -> torch.device:
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device={device!r} can't be used here ({str(error).splitlines()[0]}); "
            "device='cpu' always works, None takes the best there is"
        ) from error
    return picked
