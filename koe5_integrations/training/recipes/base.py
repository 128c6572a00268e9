"""The base model a recipe trains, and the devices it is trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koe5_integrations.errors import ConfigError, MissingExtraError, ModelLoadError
from koe5_integrations.options import model_argument

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from koe5_integrations.training.config import TrainingConfig

__all__ = ["is_distributed", "load_base"]


def load_base(config: TrainingConfig) -> SentenceTransformer:
    """Load ``config.model`` to train: fp32, on the CPU, reading ``config.max_seq_length`` tokens.

    A folder or hub repository without a word on pooling, as klue/roberta-base, gets mean pooling.
    Weights are safetensors only and code of the model's is never run.

    Raises:
        ConfigError: there is no such folder, the model reads fewer tokens, or
            ``config.matryoshka_dims`` don't begin with its own.
        MissingExtraError: sentence-transformers is not installed.
        ModelLoadError: the model can't be had or loaded, or is an export.
    """
    from koe5_integrations.backends.folder import BAG
    from koe5_integrations.backends.hub import find_model

    try:
        import torch

        from koe5_integrations.backends.torch_load import load_sentence_transformer
    except ImportError as error:
        raise MissingExtraError("training", "train") from error
    name, is_folder = model_argument(config.model)
    folder = find_model(name, is_folder=is_folder, revision=config.revision)
    if folder.export is not None:
        raise ModelLoadError(
            f"{folder.path} holds an export, which can't be trained; name the model it was made of"
        )
    if folder.modules == (BAG,):
        raise ModelLoadError(
            f"{folder.path} is no model of sentence-transformers and can't be trained further; "
            "`python -m koe5_integrations.training.mini` trains one like it"
        )
    limit = folder.max_seq_length
    if limit is not None and config.max_seq_length > limit:
        raise ConfigError(
            f"max_seq_length={config.max_seq_length}: {config.model} reads {limit} tokens at most; "
            f"ask for {limit} or fewer"
        )
    dims = config.matryoshka_dims
    if dims and dims[0] != folder.dim:
        raise ConfigError(
            f"matryoshka_dims={dims!r} must begin with the {folder.dim} dimensions of "
            f"{config.model}, or its whole vectors would not be trained"
        )
    model = load_sentence_transformer(folder, device="cpu", pooling="mean", dtype=torch.float32)
    model.float()  # a static model is loaded as it was stored
    # It would be put before texts whose own prefix is given as "".
    model.default_prompt_name = None
    if folder.kind == "transformer":
        model.max_seq_length = config.max_seq_length
    return model


def is_distributed() -> bool:
    """Whether the run has several processes, whose batches are each other's negatives."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized()
