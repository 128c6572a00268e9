"""A model folder in sentence-transformers' layout, read without loading a weight."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal

from koe5_integrations.errors import ModelLoadError

__all__ = ["ModelFolder"]

# Tokenizers state "no limit" as a huge number (int(1e30) in transformers).
_NO_LIMIT = 1_000_000
# RoBERTa's positions begin after the padding id, so its table is longer than what it reads.
_POSITIONS_AFTER_PADDING = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl"}
_LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class ModelFolder:
    """What a model's files say of it.

    Attributes:
        path: the folder.
        folders: it and its subfolders, as far as they hold modules of the model.
        kind: ``static`` is a table of token vectors, ``transformer`` anything with attention.
        modules: names of its modules in order; none for a bare transformers folder, which says
            nothing of pooling.
        dim: length of a vector.
        max_seq_length: tokens read, special tokens included; None is no limit.
        pooling: ``mean``, ``cls``, …; None if the files don't say.
        normalize: the model ends in a normalisation.
    """

    path: Path
    folders: tuple[Path, ...]
    kind: Literal["static", "transformer"]
    modules: tuple[str, ...]
    dim: int
    max_seq_length: int | None
    pooling: str | None
    normalize: bool

    @classmethod
    def read(cls, path: Path) -> ModelFolder:
        """Read ``modules.json`` and the configurations it names.

        Raises:
            ModelLoadError: no safetensors weights, a file that is missing or not JSON, or a module
                whose output size can't be known.
        """
        listed = path / "modules.json"
        modules = _modules(listed) if listed.is_file() else []
        folders = tuple(dict.fromkeys(path / at for _, at in modules)) or (path,)
        _check_weights(path, folders)
        if modules:
            return cls._from_modules(path, folders, modules)
        config = _read_json(path / "config.json")
        return cls(
            path=path,
            folders=folders,
            kind="transformer",
            modules=(),
            dim=_field(config, "hidden_size", path / "config.json"),
            max_seq_length=_max_seq_length(path, config),
            pooling=None,
            normalize=False,
        )

    @classmethod
    def _from_modules(
        cls, path: Path, folders: tuple[Path, ...], modules: list[tuple[str, str]]
    ) -> ModelFolder:
        kind: Literal["static", "transformer"] = "transformer"
        dim: int | None = None
        max_seq_length: int | None = None
        pooling: str | None = None
        normalize = False
        for name, subfolder in modules:
            at = path / subfolder
            if name == "StaticEmbedding":
                kind, pooling = "static", "mean"
                dim = _tensor_header(at / "model.safetensors")["embedding.weight"]["shape"][1]
            elif name == "Transformer":
                config = _read_json(at / "config.json")
                dim = config.get("hidden_size")
                max_seq_length = _max_seq_length(at, config)
            elif name == "Pooling":
                config = _read_json(at / "config.json")
                pooling = _pooling(config)
                modes = 1 if pooling in _LEGACY_POOLING.values() else pooling.count("+") + 1
                width = config.get(
                    "embedding_dimension", config.get("word_embedding_dimension", dim)
                )
                dim = width * modes if isinstance(width, int) else None
            elif name == "Dense":
                dim = _field(_read_json(at / "config.json"), "out_features", at / "config.json")
            elif name == "Normalize":
                normalize = True
            elif name not in {"Dropout", "LayerNorm"}:
                raise ModelLoadError(
                    f"{path / 'modules.json'} names the module {name!r}, which is not "
                    "supported; supported are Transformer, StaticEmbedding, Pooling, Dense, "
                    "LayerNorm, Normalize"
                )
        if dim is None:
            raise ModelLoadError(f"{path}: no module in modules.json says how long a vector is")
        names = tuple(name for name, _ in modules)
        return cls(path, folders, kind, names, dim, max_seq_length, pooling, normalize)

    def files(self, pattern: str) -> list[Path]:
        """The model's own files of this pattern: not those of checkpoints or exports beside it."""
        return sorted(file for folder in self.folders for file in folder.glob(pattern))

    @property
    def state(self) -> tuple[object, ...]:
        """The size and time of the model's files now: changes when one is written again."""
        stats = [path.stat() for path in [*self.files("*.safetensors"), *self.files("*.json")]]
        return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)

    @cached_property
    def digest(self) -> str:
        """A hash of what makes the vectors: tokenizer, modules, and samples of every weight tensor.

        The start, middle and end of each tensor are read, so fine-tuning changes it while moving,
        re-sharding or re-saving the same weights does not, and 2 GB take milliseconds.
        """
        digest = hashlib.sha256(repr(self.modules).encode())
        for dense in self.files("config.json") if "Dense" in self.modules else []:
            digest.update(str(_read_json(dense).get("activation_function")).encode())
        for tokenizer in self.files("tokenizer.json"):
            content = _read_json(tokenizer)
            # Loaders write their own cutting and padding into the file; ours comes from the
            # profile.
            content.pop("truncation", None)
            content.pop("padding", None)
            digest.update(json.dumps(content, sort_keys=True).encode())
        samples = [
            sample for weights in self.files("*.safetensors") for sample in _sample_tensors(weights)
        ]
        for sample in sorted(samples):
            digest.update(sample)
        return digest.hexdigest()[:32]


def _modules(listed: Path) -> list[tuple[str, str]]:
    """Return the name and subfolder of each module."""
    try:
        rows = [(str(m["type"]).rpartition(".")[2], str(m["path"])) for m in _read_json(listed)]
    except (KeyError, TypeError) as error:
        raise ModelLoadError(f"{listed} is not a list of modules with type and path") from error
    if not rows:
        raise ModelLoadError(f"{listed} lists no module")
    for name, subfolder in rows:
        if not (listed.parent / subfolder).resolve().is_relative_to(listed.parent.resolve()):
            raise ModelLoadError(
                f"{listed} puts {name} at {subfolder!r}, outside the model's folder"
            )
    if rows[0][0] == "StaticEmbedding" and any(name != "Normalize" for name, _ in rows[1:]):
        raise ModelLoadError(
            f"{listed} puts {rows[1][0]} on a StaticEmbedding; only Normalize is supported there"
        )
    return rows


def _check_weights(path: Path, folders: tuple[Path, ...]) -> None:
    """Name what is missing or cut short of an interrupted download, before anything is loaded."""
    weights = [file for folder in folders for file in folder.glob("*.safetensors")]
    if not weights:
        pickled = any(path.rglob("pytorch_model*.bin"))
        raise ModelLoadError(
            f"{path} holds no *.safetensors weights"
            + (
                "; pickled weights (pytorch_model.bin) can run code and are not loaded: "
                "convert them with save_pretrained(safe_serialization=True)"
                if pickled
                else "; is it the folder of a model, completely copied?"
            )
        )
    for file in weights:
        _read_header(file)
    for index in (file for folder in folders for file in folder.glob("*.safetensors.index.json")):
        shards = set(_read_json(index).get("weight_map", {}).values())
        if missing := sorted(s for s in shards if not (index.parent / s).is_file()):
            raise ModelLoadError(f"{path} is incomplete: {', '.join(missing)} missing; copy again")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelLoadError(f"{path} can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelLoadError(f"{path} is not valid JSON ({error}); copy it again") from error


def _field(config: dict[str, Any], name: str, path: Path) -> int:
    value = config.get(name)
    if not isinstance(value, int):
        raise ModelLoadError(f"{path} has no integer {name!r}, but {value!r}")
    return value


def _pooling(config: dict[str, Any]) -> str:
    mode = config.get("pooling_mode")
    if mode is None:
        mode = [name for key, name in _LEGACY_POOLING.items() if config.get(key)]
    return mode if isinstance(mode, str) else "+".join(mode)


def _max_seq_length(path: Path, config: dict[str, Any]) -> int | None:
    """Follow sentence-transformers: its file, else the tokenizer's limit; capped by positions."""
    limits: list[int] = []
    tokenizer = path / "tokenizer_config.json"
    # Named after the architecture in older folders: sentence_roberta_config.json, ….
    own = next(iter(sorted(path.glob("sentence_*_config.json"))), None)
    stated = _read_json(own).get("max_seq_length") if own else None
    if stated is None and tokenizer.is_file():
        stated = _read_json(tokenizer).get("model_max_length")
    if isinstance(stated, int | float) and stated < _NO_LIMIT:
        limits.append(int(stated))
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and positions > 0:
        if config.get("model_type") in _POSITIONS_AFTER_PADDING:
            positions -= int(config.get("pad_token_id", 1)) + 1
        limits.append(positions)
    return min(limits, default=None)


def _open_header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    """Return the JSON header of a safetensors file and where its data begins."""
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    except (struct.error, ValueError, MemoryError, OverflowError) as error:
        raise ModelLoadError(
            f"{path} is not a safetensors file ({error}); copy it again"
        ) from error
    header.pop("__metadata__", None)
    expected = 8 + length + max((t["data_offsets"][1] for t in header.values()), default=0)
    if (size := path.stat().st_size) != expected:
        raise ModelLoadError(
            f"{path} has {size} bytes instead of {expected}; download or copy it again"
        )
    return header, 8 + length


def _read_header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return _open_header(file, path)[0]


def _tensor_header(path: Path) -> dict[str, Any]:
    try:
        header = _read_header(path)
    except FileNotFoundError:
        raise ModelLoadError(f"{path} is missing; copy the model again") from None
    if "embedding.weight" not in header:
        raise ModelLoadError(f"{path} has no tensor 'embedding.weight', but {sorted(header)}")
    return header


def _sample_tensors(path: Path, size: int = 2048) -> list[bytes]:
    samples = []
    with path.open("rb") as file:
        header, start = _open_header(file, path)
        for name, tensor in header.items():
            begin, end = tensor["data_offsets"]
            parts = [name.encode(), tensor["dtype"].encode(), repr(tensor["shape"]).encode()]
            for offset in (begin, (begin + end) // 2, max(begin, end - size)):
                file.seek(start + offset)
                parts.append(file.read(min(size, end - offset)))
            samples.append(b"\0".join(parts))
    return samples
