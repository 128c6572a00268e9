"""What the runtimes of exported graphs share: what goes in, which output is taken, pooling."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from koe5_integrations.backends import Tokens
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.tokenizer import pad
from koe5_integrations.errors import DeviceMemoryError, EncodingError, ModelLoadError
from koe5_integrations.types import Vectors

__all__ = ["GraphUse", "load_error", "run_error"]

_SENTENCE = "sentence_embedding"
_TOKENS = ("token_embeddings", "last_hidden_state")
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "failed to allocate", "out of memory")


@dataclass(frozen=True)
class GraphUse:
    """How a graph is used.

    Attributes:
        inputs: names it expects.
        output: the one that is asked for.
        pooling: ``mean`` or ``cls`` if that holds token vectors; None if one vector per text.
        pad_id: token that fills up shorter texts.
    """

    inputs: tuple[str, ...]
    output: str
    pooling: str | None
    pad_id: int

    @classmethod
    def of(
        cls,
        graph: Path,
        inputs: Sequence[str],
        outputs: Collection[str],
        *,
        folder: ModelFolder,
        pooling: str | None,
    ) -> GraphUse:
        """Find out how to use a graph.

        Args:
            graph: its file, for errors.
            inputs: their names.
            outputs: their names.
            folder: the model it belongs to.
            pooling: used if the folder doesn't say.

        Raises:
            ModelLoadError: it is no embedding model's graph, or what it leaves out (pooling other
                than mean and cls, Dense modules) is not done outside a graph.
        """
        remedy = "`koe5 export` writes one that can be used"
        if unknown := set(inputs) - _INPUTS:
            raise ModelLoadError(f"{graph} wants {sorted(unknown)} as input; {remedy}")
        of_tokens = next((name for name in _TOKENS if name in outputs), None)
        # A bare folder is pooled as its profile says, however its graph was pooled when exported.
        pooled_inside = _SENTENCE in outputs and (folder.pooling is not None or of_tokens is None)
        if pooled_inside:
            return cls(tuple(inputs), _SENTENCE, None, folder.pad_id)
        if of_tokens is None:
            raise ModelLoadError(
                f"{graph} has the outputs {sorted(outputs)}, none of them {_SENTENCE} or "
                f"{_TOKENS[0]}; {remedy}"
            )
        by = folder.pooling or pooling
        left_out = [name for name in folder.modules if name in ("Dense", "LayerNorm")]
        if by not in ("mean", "cls") or left_out:
            missing = " and ".join([f"pooling by {by!r}", *left_out])
            raise ModelLoadError(
                f"{graph} has no output {_SENTENCE}, so {missing} would be left out; {remedy}"
            )
        return cls(tuple(inputs), of_tokens, by, folder.pad_id)

    def feed(self, batch: Sequence[Tokens]) -> dict[str, npt.NDArray[np.int64]]:
        """Return the inputs of a batch, each int64 of shape (len(batch), longest text)."""
        ids, mask = pad(batch, self.pad_id)
        made = {"input_ids": ids, "attention_mask": mask}
        return {name: made[name] if name in made else np.zeros_like(ids) for name in self.inputs}

    def vectors(self, output: npt.NDArray[np.floating], mask: npt.NDArray[np.int64]) -> Vectors:
        """Return one vector per text from the output, which is pooled if it holds more."""
        found = np.asarray(output, dtype=np.float32)
        if self.pooling == "cls":
            return found[:, 0].copy()
        if self.pooling == "mean":
            weights = (mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)).astype(np.float32)
            pooled: Vectors = np.matmul(weights[:, None], found)[:, 0]
            return pooled
        return found


def load_error(graph: Path, error: Exception) -> ModelLoadError:
    """Say that a runtime refused a graph."""
    return ModelLoadError(
        f"{graph} can't be loaded ({_first_line(error)}): `koe5 export` the model again, or copy "
        "the folder again"
    )


def run_error(graph: Path, shape: tuple[int, ...], error: Exception) -> EncodingError:
    """Say that a runtime failed at a batch of (texts, tokens), for want of memory or not."""
    said = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in said for sign in _OUT_OF_MEMORY):
        return DeviceMemoryError(
            f"{shape[0]} texts of up to {shape[1]} tokens don't fit into memory: ask for fewer "
            "with batch_tokens="
        )
    return EncodingError(f"{graph} failed at {shape[0]} texts: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    # OpenVINO says first where in its sources it failed.
    said = [line for line in map(str.strip, str(error).splitlines()) if line]
    told = [line for line in said if not line.startswith("Exception from ")]
    return (told or said or [type(error).__name__])[0]
