"""What a transformer is given: a rectangle of padded texts, or one row of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from koe5_integrations.backends import Tokens
from koe5_integrations.backends.tokenizer import pad

__all__ = ["padded", "unpadded"]


def padded(batch: Sequence[Tokens], pad_id: int, device: torch.device) -> dict[str, Any]:
    """Return token ids and attention mask, both shape (len(batch), longest text), int64."""
    ids, mask = _to_device(pad(batch, pad_id), device)
    return {"input_ids": ids, "attention_mask": mask}


def unpadded(batch: Sequence[Tokens], first_position: int, device: torch.device) -> dict[str, Any]:
    """Return all texts as one, with what tells attention and pooling where each begins.

    This is what sentence-transformers gives a model that runs on flash attention; its own collator
    goes through Python lists of every token.

    Args:
        batch: at least one text.
        first_position: position of a text's first token, not 0 in RoBERTa's family.
        device: where the model is.
    """
    lengths = np.array([len(tokens.ids) for tokens in batch])
    ends = np.cumsum(lengths)
    rows = np.repeat(np.arange(len(batch)), lengths)
    ids = np.concatenate([tokens.ids for tokens in batch])
    positions = np.arange(len(ids)) - (ends - lengths)[rows] + first_position
    input_ids, position_ids = _to_device(
        np.stack([ids, positions])[:, None].astype(np.int64), device
    )
    bounds = _to_device(np.append(0, ends).astype(np.int32), device)
    longest = int(lengths.max())
    return {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "seq_idx": _to_device(rows[None].astype(np.int32), device),
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def _to_device(values: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    tensor = torch.from_numpy(values)
    if device.type == "cuda":
        # Pinned memory is copied while the CPU goes on.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
