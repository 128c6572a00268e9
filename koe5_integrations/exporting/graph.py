"""From a folder to a graph: the whole sentence-transformers model, through torch's exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from sentence_transformers import SentenceTransformer

from koe5_integrations.errors import ExportError

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["INPUTS", "OUTPUTS", "build_graph"]

INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("token_embeddings", "sentence_embedding")

# The first with Attention as one node, which both runtimes execute faster than its parts.
_OPSET = 23


def build_graph(model: SentenceTransformer) -> ir.Model:
    """Export a model as a graph, its weights still shared with it.

    Inputs ``input_ids`` and ``attention_mask``, int64, shape (batch, sequence), any batch and any
    length up to what the model reads; outputs ``token_embeddings``, float32, shape (batch,
    sequence, hidden), and ``sentence_embedding``, float32, shape (batch, dim), before
    normalisation.

    Raises:
        ExportError: torch's exporter can't follow the model's code.
    """
    # Two different numbers above 1: the exporter takes equal sizes for one, and 1 for a constant.
    ids = torch.full((2, 7), 5)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    names = {0: "batch", 1: "sequence"}
    try:
        with torch.inference_mode(), _quiet():
            program = torch.onnx.export(
                _Unnormalized(model).eval(),
                (ids, mask),
                dynamo=True,
                opset_version=_OPSET,
                dynamic_shapes=(names, names),
                input_names=INPUTS,
                output_names=OUTPUTS,
                external_data=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        why = str(error).strip().splitlines()[0]
        raise ExportError(f"torch {torch.__version__} can't export this model: {why}") from error
    if program is None:
        raise ExportError(f"torch {torch.__version__} exported nothing")
    graph_model: ir.Model = program.model
    _forget_origin(graph_model)
    return graph_model


class _Unnormalized(torch.nn.Module):
    """A model's modules but for the normalisation at the end, which is the encoder's."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleList(
            module for module in model if type(module).__name__ != "Normalize"
        )

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features = {"input_ids": input_ids, "attention_mask": attention_mask}
        for part in self.parts:
            features = part(features)
        return features["token_embeddings"], features["sentence_embedding"]


def _forget_origin(model: ir.Model) -> None:
    """Remove the stack traces of this machine's files that the exporter leaves at each node."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in (*node.inputs, *node.outputs):
            if value is not None:
                value.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the exporter says of itself: deprecations of its own, torchvision's absence."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
