"""Exported graphs on OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from koe5_integrations.backends import Tokens
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.graphs import GraphUse, load_error, run_error
from koe5_integrations.backends.hardware import available_cores, mark_used, this_machine
from koe5_integrations.backends.tokenizer import TextTokenizer
from koe5_integrations.errors import DeviceMemoryError, MissingExtraError
from koe5_integrations.types import Vectors

try:
    import openvino
except ImportError as error:
    raise MissingExtraError("backend='openvino'", "openvino") from error

__all__ = ["OpenVinoBackend"]


class OpenVinoBackend:
    """A graph on OpenVINO's CPU plugin, on all cores of the process.

    Not in a process forked from one that ran OpenVINO: its threads are missing there, and it waits
    for them for ever.

    Args:
        folder: the model, for its tokenizer and pooling.
        graph: an ``.xml`` file with its ``.bin``, or an ``.onnx`` file.
        precision: ``fp32`` or ``bf16`` of a graph in fp32, or ``int8`` of one in int8.
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
        precision: str,
        max_seq_length: int | None,
        pooling: str | None,
    ) -> None:
        self._graph = graph
        machine = this_machine(ask_for_gpu=False)
        # What int8 leaves in floating point takes long enough to matter.
        in_bf16 = precision == "bf16" or (precision == "int8" and machine.bf16)
        self._config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if in_bf16 else "f32",
            "INFERENCE_NUM_THREADS": available_cores(),
            # A pinned thread waits for its core while another process has it.
            "ENABLE_CPU_PINNING": False,
            # Activations get a scale for each 128 of a token: measured with VNNI, the runtime's own
            # 32 take a quarter longer, and a scale for all 1024 a third.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128 if machine.int8 else 0,
            # Kernels are kept for every shape of batch there has been: half a megabyte each, up to
            # a gigabyte by default, where making them again takes 2 ms.
            "CPU_RUNTIME_CACHE_CAPACITY": 256,
        }
        mark_used("openvino")
        model = self._read()
        self._use = GraphUse.of(
            graph,
            [port.any_name for port in model.inputs],
            {name for port in model.outputs for name in port.names},
            folder=folder,
            pooling=pooling,
        )
        self._request: openvino.InferRequest | None = self._compile(model)
        self.tokenize = TextTokenizer.from_folder(folder, max_seq_length)

    def forward(self, batch: Sequence[Tokens]) -> Vectors:
        """Return the graph's sentence embeddings, shape (len(batch), dim).

        Raises:
            DeviceMemoryError: the batch is too large.
            EncodingError: the graph fails at it.
        """
        if self._request is None:
            self._request = self._compile(self._read())
        feed = self._use.feed(batch)
        mask = feed["attention_mask"]
        try:
            self._request.infer(feed, share_inputs=True)
            # The next pass writes over the tensor.
            output = self._request.get_output_tensor().data.copy()
        except Exception as error:
            problem = run_error(self._graph, mask.shape, error)
            if isinstance(problem, DeviceMemoryError):
                # It goes on asking for as much memory, for a batch of any size.
                self._request = None
            raise problem from error
        return self._use.vectors(output, mask)

    def _read(self) -> openvino.Model:
        try:
            return openvino.Core().read_model(self._graph)
        except Exception as error:
            raise load_error(self._graph, error) from error

    def _compile(self, model: openvino.Model) -> openvino.InferRequest:
        # OpenVINO 2026.4 gives the thread that compiles a signal stack and frees it with the model,
        # after which the thread's next signal (Ctrl-C) is a crash. This one gets none.
        with ThreadPoolExecutor(1, thread_name_prefix="koe5-compile") as thread:
            try:
                return thread.submit(self._compile_here, model).result()
            except Exception as error:
                raise load_error(self._graph, error) from error

    def _compile_here(self, model: openvino.Model) -> openvino.InferRequest:
        # Of the one output alone: what only the others need is not computed.
        used = openvino.Model([model.output(self._use.output)], model.get_parameters())
        compiled = openvino.Core().compile_model(used, "CPU", self._config)
        return compiled.create_infer_request()
