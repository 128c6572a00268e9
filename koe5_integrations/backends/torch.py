"""Transformer models on PyTorch, loaded and run by sentence-transformers."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from koe5_integrations.backends import Tokens
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.tokenizer import TextTokenizer
from koe5_integrations.errors import (
    ConfigError,
    DeviceMemoryError,
    MissingExtraError,
    ModelLoadError,
)
from koe5_integrations.profiles import Pooling
from koe5_integrations.types import Vectors

try:
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils.import_utils import is_flash_attn_2_available
except ImportError as error:
    raise MissingExtraError("backend='torch'", "torch") from error

from koe5_integrations.backends.torch_inputs import padded, unpadded
from koe5_integrations.backends.torch_linear import pack_linears, packing_pays, quantize_linears
from koe5_integrations.backends.torch_load import load_sentence_transformer

__all__ = ["TorchBackend"]

_log = logging.getLogger("koe5_integrations")

_DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.float32,  # of what isn't a linear layer
}
# How CUDA, cuBLAS, MPS, the CPU's allocator and C++ each say that there is no memory left.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|can't allocate memory|cannot allocate memory|"
    r"ALLOC_FAILED|bad_alloc",
    re.IGNORECASE,
)
# Measured at KoE5's width: sorted batches of 2048 tokens waste 0.8% on padding and fit the cache,
# 4096 are 3% slower, 8192 16%. A GPU wants enough work to fill it.
_CPU_TOKENS = 2048
_GPU_TOKENS = 65_536
# What a pass costs before its first token: reading the weights, starting the kernels.
_CPU_PASS = 64
_GPU_PASS = 4096
# What a model is tried with: a text every model can read. Not two tokens, because torch.compile
# takes two texts of two tokens for a rule, and would compile again for any other shape.
_PROBE = Tokens(np.zeros(3, dtype=np.int32), 3)


class TorchBackend:
    """A sentence-transformers model.

    On the CPU its linear layers run on weights laid out by oneDNN where that is faster on this
    processor, with the same vectors. On CUDA in half precision texts go unpadded through flash
    attention where the flash-attn package is installed and sentence-transformers supports it.

    Args:
        folder: a folder of kind ``transformer``.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, …; None takes the best there is.
        precision: ``fp32``, ``bf16``, ``fp16``, or ``int8`` (CPU only). Texts whose vector is not
            finite in half precision are computed again in fp32, from weights loaded then.
        max_seq_length: tokens read of each text, special tokens included.
        pooling: used if the folder doesn't say.
        single_thread: don't start OpenMP threads (needed in a forked process).
        compile: let ``torch.compile`` work on the transformer, which takes a minute or more.

    Raises:
        ConfigError: the device does not exist here, or can't run this precision or compile.
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
        compile: bool = False,
    ) -> None:
        if single_thread:
            # GNU OpenMP's threads don't survive a fork: the first parallel loop would wait for
            # ever.
            torch.set_num_threads(1)
        self._folder = folder
        self._device = _pick_device(device)
        self._precision = precision
        self._pooling = pooling
        _check_precision(precision, self._device, compile)
        self._model = self._load()
        transformers_tokenizer = self._model.tokenizer
        if not hasattr(transformers_tokenizer, "backend_tokenizer"):
            raise ModelLoadError(
                f"{folder.path}: {type(transformers_tokenizer).__name__} is not backed by a "
                "tokenizer.json"
            )
        self._pad_id = int(transformers_tokenizer.pad_token_id or 0)
        self.tokenize = TextTokenizer(
            transformers_tokenizer.backend_tokenizer, max_seq_length, add_special_tokens=True
        )
        if compile:
            self._compile()
        elif self._device.type == "cpu":
            self._replace_linears()
        self.batch_tokens = self._pick_batch_tokens()
        self.pass_tokens = _CPU_PASS if self._device.type == "cpu" else _GPU_PASS

    @property
    def _transformer(self) -> Any:
        return self._model[0]

    def _load(self) -> SentenceTransformer:
        load = partial(
            load_sentence_transformer,
            self._folder,
            device=str(self._device),
            pooling=self._pooling,
            dtype=_DTYPES[self._precision],
        )
        half = self._precision in ("bf16", "fp16")
        if self._device.type == "cuda" and half and is_flash_attn_2_available():
            try:
                return load(attn_implementation="flash_attention_2")
            except ModelLoadError:  # this architecture or GPU has no flash attention
                _log.debug("%s: no flash attention", self._folder.path, exc_info=True)
        return load()

    def _replace_linears(self) -> None:
        """Put faster linear layers in, if this processor has them and the model takes them."""
        if self._precision == "int8":
            quantize_linears(self._transformer)
        elif packing_pays(self._transformer):
            pack_linears(self._transformer)
        else:
            return
        try:
            self._run([_PROBE])
        except (AttributeError, RuntimeError, TypeError) as error:
            # The model does something of its own with its layers' weights.
            if self._precision == "int8":
                raise ConfigError(
                    f"precision='int8': {self._folder.path} can't run in 8 bits on torch "
                    f"({_first_line(error)}); use precision='fp32' or backend='onnx'"
                ) from error
            self._model = self._load()

    def _compile(self) -> None:
        model = self._transformer.auto_model
        # Not model.compile(), because sentence-transformers calls forward and not the module.
        model.forward = torch.compile(model.forward, dynamic=True)
        try:
            # Single texts are compiled apart from batches, whatever their lengths.
            for batch in [_PROBE, _PROBE], [_PROBE]:
                self._run(batch)
        except (RuntimeError, OSError) as error:
            raise ConfigError(
                f"compile=True can't be done here ({_first_line(error)}); it needs a C++ compiler "
                "(g++, clang++ or MSVC), and Triton on a GPU: install them or leave compile=False"
            ) from error

    def _pick_batch_tokens(self) -> int:
        if self._device.type == "cpu":
            return _CPU_TOKENS
        if self._device.type != "cuda":
            return _GPU_TOKENS
        # What a layer holds of a token at its peak: its input, queries, keys, values and their
        # attention; the wide half of the feed-forward before and after the activation.
        config = self._transformer.auto_model.config
        hidden: int = getattr(config, "hidden_size", self._folder.dim)
        wide: int = getattr(config, "intermediate_size", None) or 4 * hidden
        bytes_per_token = (8 * hidden + 3 * wide) * _DTYPES[self._precision].itemsize
        free, _ = torch.cuda.mem_get_info(self._device)
        return int(min(_GPU_TOKENS, max(_CPU_TOKENS, free // 2 // bytes_per_token)))

    def forward(self, batch: Sequence[Tokens]) -> Vectors:
        """Return the model's sentence embeddings, shape (len(batch), dim).

        Raises:
            DeviceMemoryError: the batch does not fit into the device's memory.
        """
        try:
            vectors = self._run(batch)
        except (RuntimeError, MemoryError) as error:
            if not (isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error))):
                raise
            problem = _first_line(error)
        else:
            return self._redo_overflown(batch, vectors)
        # Outside of the handler, because the error holds the frames that hold the batch's tensors.
        if self._device.type != "cpu":
            getattr(torch, self._device.type).empty_cache()
        texts, longest = len(batch), max(len(tokens.ids) for tokens in batch)
        raise DeviceMemoryError(
            f"{texts} texts of up to {longest} tokens do not fit into the memory of "
            f"{self._device} ({problem}); use batch_tokens=, a shorter max_seq_length= or a lower "
            "precision="
        )

    @torch.inference_mode()
    def _run(self, batch: Sequence[Tokens]) -> Vectors:
        transformer = self._transformer
        # Older versions of sentence-transformers flatten without knowing the positions.
        first_position = getattr(transformer, "_flatten_position_offset", None)
        if getattr(transformer, "can_flatten_inputs", False) and first_position is not None:
            features = unpadded(batch, first_position, self._device)
        else:
            features = padded(batch, self._pad_id, self._device)
        vectors: Vectors = self._model(features)["sentence_embedding"].float().cpu().numpy()
        return vectors

    def _redo_overflown(self, batch: Sequence[Tokens], vectors: Vectors) -> Vectors:
        """Compute in fp32 what half precision could not hold."""
        overflown = np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()
        if self._precision in ("bf16", "fp16") and overflown:
            vectors[overflown] = self._in_fp32.forward([batch[row] for row in overflown])
        return vectors

    @cached_property
    def _in_fp32(self) -> TorchBackend:
        _log.info("%s overflows in %s: loading fp32 too", self._folder.path, self._precision)
        return TorchBackend(
            self._folder,
            device=str(self._device),
            precision="fp32",
            max_seq_length=None,
            pooling=self._pooling,
        )


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
            f"device={device!r} can't be used here ({_first_line(error)}); "
            "device='cpu' always works, None takes the best there is"
        ) from error
    return picked


def _check_precision(precision: str, device: torch.device, compile: bool) -> None:
    """Refuse what can't work before anything is loaded."""
    if precision == "int8" and (device.type != "cpu" or compile):
        raise ConfigError(
            f"precision='int8' with device={str(device)!r}, compile={compile}: torch runs 8 bits "
            "on the CPU only and uncompiled; use precision='bf16' there"
        )
    try:
        ones = torch.ones(1, 1, 2, 8, device=device, dtype=_DTYPES[precision])
        attended = torch.nn.functional.scaled_dot_product_attention(ones, ones, ones)
        torch.nn.functional.layer_norm(torch.nn.functional.linear(attended, ones[0, 0]), (2,))
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"precision={precision!r} can't be used on {device} ({_first_line(error)}); "
            "use precision='fp32'"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
