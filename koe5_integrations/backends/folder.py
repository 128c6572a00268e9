"""A model folder in sentence-transformers' layout, read without loading a weight."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from koe5_integrations.backends.files import (
    check_weights,
    read_json,
    sample_tensors,
    tensor_shape,
)
from koe5_integrations.errors import ModelLoadError
from koe5_integrations.exports import (
    Engine,
    Export,
    ExportPrecision,
    default_exports_folder,
    graph_path,
)

__all__ = ["BAG", "ModelFolder"]

BAG = "koe5-bag"

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
        kind: ``static`` is a table of vectors of tokens, ``transformer`` anything with attention.
        modules: names of its modules in order, `BAG` alone for a model in the form of koe5-mini;
            none for a bare transformers folder, which says nothing of pooling.
        dim: length of a vector.
        max_seq_length: tokens read, special tokens included; None is no limit.
        pooling: ``mean``, ``cls``, …; None if the files don't say.
        normalize: the model ends in a normalisation.
        export: what the folder holds instead of weights, if it was written by ``koe5 export``.
        version: what tells the model from others where its weights are not there; None if they are.
    """

    path: Path
    folders: tuple[Path, ...]
    kind: Literal["static", "transformer"]
    modules: tuple[str, ...]
    dim: int
    max_seq_length: int | None
    pooling: str | None
    normalize: bool
    export: Export | None = None
    version: str | None = None

    @classmethod
    def read(cls, path: Path, *, version: str | None = None) -> ModelFolder:
        """Read ``modules.json`` and the configurations it names.

        Args:
            path: the folder.
            version: weights may be missing, and this then says which they would be.

        Raises:
            ModelLoadError: neither safetensors weights nor an export, a file that is missing or not
                JSON, or a module whose output size can't be known.
        """
        listed = path / "modules.json"
        modules = _modules(listed) if listed.is_file() else []
        folders = tuple(dict.fromkeys(path / at for _, at in modules)) or (path,)
        has_weights = any(any(folder.glob("*.safetensors")) for folder in folders)
        export = None if has_weights else Export.read(path)
        if has_weights or export is not None:
            version = None
        if export is None and version is None:
            check_weights(path, folders)
        if modules:
            return cls._from_modules(path, folders, modules, export, version)
        config = read_json(path / "config.json")
        if config.get("model_type") == BAG:
            dim = _field(config, "dim", path / "config.json")
            return cls(path, folders, "static", (BAG,), dim, None, "mean", True)
        return cls(
            path=path,
            folders=folders,
            kind="transformer",
            modules=(),
            dim=_field(config, "hidden_size", path / "config.json"),
            max_seq_length=_max_seq_length(path, config),
            pooling=None,
            normalize=False,
            export=export,
            version=version,
        )

    @classmethod
    def _from_modules(
        cls,
        path: Path,
        folders: tuple[Path, ...],
        modules: list[tuple[str, str]],
        export: Export | None,
        version: str | None,
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
                dim = tensor_shape(at / "model.safetensors", "embedding.weight")[1]
            elif name == "Transformer":
                config = read_json(at / "config.json")
                dim = config.get("hidden_size")
                max_seq_length = _max_seq_length(at, config)
            elif name == "Pooling":
                config = read_json(at / "config.json")
                pooling = _pooling(config)
                modes = 1 if pooling in _LEGACY_POOLING.values() else pooling.count("+") + 1
                width = config.get(
                    "embedding_dimension", config.get("word_embedding_dimension", dim)
                )
                dim = width * modes if isinstance(width, int) else None
            elif name == "Dense":
                dim = _field(read_json(at / "config.json"), "out_features", at / "config.json")
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
        return cls(
            path, folders, kind, names, dim, max_seq_length, pooling, normalize, export, version
        )

    def files(self, pattern: str) -> list[Path]:
        """The model's own files of this pattern: not those of checkpoints or exports beside it."""
        return sorted(file for folder in self.folders for file in folder.glob(pattern))

    def find_graph(
        self, engine: Engine, precision: ExportPrecision, *, unproven: bool = False
    ) -> Path | None:
        """Return the model's graph for an engine: in this folder, or kept by ``koe5 export``.

        Args:
            engine: what is to run it.
            precision: of its weights.
            unproven: also take a graph of this folder that doesn't say which weights it was made
                from: nothing shows that it is still this model.

        Raises:
            ModelLoadError: an export is damaged, or was made from other weights than it lies with.
        """
        opened = self.export or Export.read(self.path)
        if opened is not None and (opened.engine, opened.precision) == (engine, precision):
            if opened.weights == self.digest:
                return self.path / opened.graph
            if unproven:
                raise ModelLoadError(
                    f"{self.path / opened.graph} was made from other weights than lie beside it: "
                    "`koe5 export` the model again"
                )
        elif unproven and (own := self.path / graph_path(engine, precision)).is_file():
            return own
        kept = default_exports_folder()
        # The digest takes a while to read, for nothing where nothing was exported.
        if self.export is None and any(kept.glob(f"*-{engine}-{precision}")):
            at = kept / f"{self.digest}-{engine}-{precision}"
            if (export := Export.read(at)) is not None:
                return at / export.graph
        return None

    @property
    def pad_id(self) -> int:
        """The token that fills up shorter texts."""
        return int(read_json(self.folders[0] / "config.json").get("pad_token_id") or 0)

    @property
    def state(self) -> tuple[object, ...]:
        """The size and time of the model's files now: changes when one is written again."""
        graph = [self.path / name for name in self.export.sizes] if self.export else []
        files = [*self.files("*.safetensors"), *self.files("*.json"), *graph]
        stats = [path.stat() for path in files]
        return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)

    @cached_property
    def digest(self) -> str:
        """A hash of what makes the vectors: tokenizer, modules, and samples of every weight tensor.

        The start, middle and end of each tensor are read, so fine-tuning changes it while moving,
        re-sharding or re-saving the same weights does not, and 2 GB take milliseconds. An export
        has that of the model it was made from. Without weights, the version stands for them.
        """
        if self.export is not None:
            return self.export.weights
        digest = hashlib.sha256(repr(self.modules).encode())
        if self.version is not None:
            digest.update(f"without weights: {self.version}".encode())
        if self.modules == (BAG,):
            config = read_json(self.path / "config.json")
            digest.update(json.dumps(config, sort_keys=True).encode())
        for dense in self.files("config.json") if "Dense" in self.modules else []:
            digest.update(str(read_json(dense).get("activation_function")).encode())
        for tokenizer in self.files("tokenizer.json"):
            content = read_json(tokenizer)
            # Loaders write their own cutting and padding into the file; ours comes from the
            # profile.
            content.pop("truncation", None)
            content.pop("padding", None)
            digest.update(json.dumps(content, sort_keys=True).encode())
        samples = [
            sample for weights in self.files("*.safetensors") for sample in sample_tensors(weights)
        ]
        for sample in sorted(samples):
            digest.update(sample)
        return digest.hexdigest()[:32]


def _modules(listed: Path) -> list[tuple[str, str]]:
    """Return the name and subfolder of each module."""
    try:
        rows = [(str(m["type"]).rpartition(".")[2], str(m["path"])) for m in read_json(listed)]
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
    stated = read_json(own).get("max_seq_length") if own else None
    if stated is None and tokenizer.is_file():
        stated = read_json(tokenizer).get("model_max_length")
    if isinstance(stated, int | float) and stated < _NO_LIMIT:
        limits.append(int(stated))
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and positions > 0:
        if config.get("model_type") in _POSITIONS_AFTER_PADDING:
            positions -= int(config.get("pad_token_id", 1)) + 1
        limits.append(positions)
    return min(limits, default=None)
