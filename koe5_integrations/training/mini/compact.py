"""Shrink a table to what a wheel can carry, and save it as a sentence-transformers model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from koe5_integrations.errors import ConfigError, MissingExtraError
from koe5_integrations.types import Vectors

_STEP = 0.625


def compact_table(table: Vectors, *, levels: int) -> npt.NDArray[np.float16]:
    """Round each row to a few evenly spaced values that deflate packs well.

    Every value becomes a whole number from -levels to levels times a power of two chosen per row.
    Up to 7 levels such float16 values have an empty low byte, so that a wheel carries them in 4 to
    5 bits each. The table's overall scale is lost, which a normalised mean doesn't see.

    Args:
        table: shape (vocab_size, dim), float32.
        levels: distinct magnitudes beside zero, at least 1.

    Returns:
        shape (vocab_size, dim), float16.

    Raises:
        ConfigError: `levels` is below 1, or the table is not finite.
    """
    if levels < 1:
        raise ConfigError(f"levels must be at least 1, not {levels!r}")
    if not np.isfinite(table).all():
        raise ConfigError("the table holds NaN or infinity; train with a lower learning rate")
    spread = np.sqrt(np.mean(np.square(table), axis=1, keepdims=True))
    typical = np.sqrt(np.mean(np.square(spread))) or 1.0
    # 2**-10 is so far below the other rows that the token is as good as deleted.
    exponent = np.clip(np.round(np.log2(np.maximum(spread / typical, 1e-9))), -10, 10)
    scale = np.exp2(exponent)
    step = _STEP * 3 / levels
    whole = np.clip(np.round(table / typical / scale / step), -levels, levels)
    # -0.0 has a sign bit, which deflate would have to tell from 0.0.
    rounded: npt.NDArray[np.float16] = (whole * scale + 0.0).astype(np.float16)
    return rounded


def save_model(
    folder: Path, tokenizer: Tokenizer, table: npt.NDArray[np.float16], *, prompts: dict[str, str]
) -> None:
    """Write the folder that `SentenceTransformer(folder)` and our own encoder load.

    Args:
        folder: made if need be; model files already there are replaced.
        tokenizer: its ids are the rows of `table`.
        table: shape (vocab_size, dim).
        prompts: prefix by prompt name.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
        from torch.nn import Module
    except ImportError as error:
        raise MissingExtraError("saving a static model", "train") from error
    modules: list[Module] = [StaticEmbedding(tokenizer, embedding_weights=table), Normalize()]
    model = SentenceTransformer(modules=modules, prompts=prompts, device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
