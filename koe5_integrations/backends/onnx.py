"""Exported graphs on onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from koe5_integrations.backends import Tokens
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.graphs import GraphUse, load_error, run_error
from koe5_integrations.backends.hardware import available_cores
from koe5_integrations.backends.tokenizer import TextTokenizer
from koe5_integrations.errors import MissingExtraError
from koe5_integrations.types import Vectors

try:
    import onnxruntime
except ImportError as error:
    raise MissingExtraError("backend='onnx'", "onnx") from error

__all__ = ["OnnxBackend"]


class OnnxBackend:
    """A graph on onnxruntime, on all cores of the process; also in a forked one.

    In int8 it scales activations by batch, so that a text's vector shifts by about a thousandth
    with the texts that share its pass; OpenVINO and torch scale them by token.

    Args:
        folder: the model, for its tokenizer and pooling.
        graph: an ``.onnx`` file.
        max_seq_length: tokens read of each text, special tokens included.
        pooling: used if neither the graph pools nor the folder says how.

    Raises:
        ModelLoadError: the graph is damaged, or none of an embedding model.
    """

    batch_tokens = 2048
    # Measured at KoE5's shape on 2 cores, 10 to 20; reading the weights weighs more on more cores.
    pass_tokens = 32

    def __init__(
        self,
        folder: ModelFolder,
        graph: Path,
        *,
        max_seq_length: int | None,
        pooling: str | None,
    ) -> None:
        self._graph = graph
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        # Threads that spin between operators take the cores from tokenising and from each other:
        # measured on 2 busy cores, a question costs twice the processor time and waits longer.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # It would keep a plan for each shape of batch there has ever been, and gains nothing.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own classes share no narrower base
            raise load_error(graph, error) from error
        self._use = GraphUse.of(
            graph,
            [each.name for each in self._session.get_inputs()],
            [each.name for each in self._session.get_outputs()],
            folder=folder,
            pooling=pooling,
        )
        self.tokenize = TextTokenizer.from_folder(folder, max_seq_length)

    def forward(self, batch: Sequence[Tokens]) -> Vectors:
        """Return the graph's sentence embeddings, shape (len(batch), dim).

        Raises:
            DeviceMemoryError: the batch is too large.
            EncodingError: the graph fails at it.
        """
        feed = self._use.feed(batch)
        mask = feed["attention_mask"]
        try:
            (output,) = self._session.run([self._use.output], feed)
        except Exception as error:
            raise run_error(self._graph, mask.shape, error) from error
        return self._use.vectors(output, mask)
