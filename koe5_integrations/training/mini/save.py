"""Write the folder that KoE5Encoder loads."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors.numpy import save as serialise
from tokenizers import Tokenizer

from koe5_integrations.errors import ConfigError
from koe5_integrations.training.mini.data import PASSAGE, QUERY
from koe5_integrations.training.mini.features import Ints
from koe5_integrations.training.mini.quantise import OneBitTable
from koe5_integrations.training.mini.recipe import Recipe

__all__ = ["BagModel", "check_new", "save_model"]

# "document" because sentence-transformers looks for it before "passage", and defaults it to "".
_PROMPTS = {"document": PASSAGE, "passage": PASSAGE, "query": QUERY}


@dataclass(frozen=True)
class BagModel:
    """A bag model.

    Attributes:
        tokenizer: content of its file; its ids are the table's first rows.
        bigrams: codes of the next rows, ascending.
        table: all rows, the buckets last.
        longest: length of a passage's sum that its vector is not shortened for.
        recipe: how it was made.
    """

    tokenizer: str
    bigrams: Ints
    table: OneBitTable
    longest: float
    recipe: Recipe


def check_new(folder: Path) -> None:
    """Refuse a folder that is there, or that can't be made.

    Raises:
        ConfigError: it exists, or what is to hold it is no folder.
    """
    if folder.exists():
        raise ConfigError(f"{str(folder)!r} is there already; give another --out, or remove it")
    if not folder.parent.is_dir():
        raise ConfigError(f"{str(folder.parent)!r} is no folder; make it before training")


def save_model(folder: Path, model: BagModel, record: dict[str, Any]) -> None:
    """Write a model beside its place, then move it there whole.

    Args:
        folder: must not exist.
        model: what to write.
        record: what is known of its making, for ``training.json``.

    Raises:
        ConfigError: the folder exists.
    """
    check_new(folder)
    recipe = model.recipe
    tokenizer = Tokenizer.from_str(model.tokenizer)
    config = {
        "model_type": "koe5-bag",
        "dim": recipe.dim,
        "pieces": tokenizer.get_vocab_size(),
        "buckets": recipe.buckets,
        "saturation": recipe.saturation,
        "length_exponent": recipe.length_exponent,
        "longest": model.longest,
        "query_token": tokenizer.token_to_id(QUERY),
        "passage_token": tokenizer.token_to_id(PASSAGE),
        "prompts": [QUERY, PASSAGE],
    }
    prompts = {
        "model_type": "SentenceTransformer",
        "prompts": _PROMPTS,
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        staging.chmod(0o755)
        _write_json(staging / "config.json", config)
        _write_json(staging / "config_sentence_transformers.json", prompts)
        _write_json(staging / "training.json", record)
        (staging / "tokenizer.json").write_text(model.tokenizer, encoding="utf-8")
        tensors: dict[str, npt.NDArray[Any]] = {
            "bits": model.table.bits,
            "scales": model.table.scales,
            "bigrams": model.bigrams,
        }
        (staging / "model.safetensors").write_bytes(serialise(tensors))
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=2)
    file.write_text(f"{text}\n", encoding="utf-8")
