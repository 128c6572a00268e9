"""What can be measured: a backend and a precision, and which of them can run here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from koe5_integrations.backends.hardware import this_machine
from koe5_integrations.backends.pick import EngineChoice, pick
from koe5_integrations.errors import ConfigError, KoE5Error
from koe5_integrations.options import BackendName, Precision

if TYPE_CHECKING:
    from koe5_integrations.backends.folder import ModelFolder

__all__ = ["Configuration", "runnable", "weight_bytes"]


@dataclass(frozen=True)
class Configuration:
    """One way to run a model.

    Attributes:
        backend: as :class:`~koe5_integrations.encoder.KoE5Encoder` takes it.
        precision: likewise.
    """

    backend: BackendName
    precision: Precision = "fp32"

    @property
    def name(self) -> str:
        """Short, for tables and plots."""
        return self.backend if self.backend == "static" else f"{self.backend} {self.precision}"

    @classmethod
    def parse(cls, spec: str) -> Configuration:
        """Read ``BACKEND`` (fp32) or ``BACKEND:PRECISION``.

        Raises:
            ConfigError: there is no such backend or precision.
        """
        backend, _, precision = spec.partition(":")
        for name, value, choices in (
            ("backend", backend, get_args(BackendName)),
            ("precision", precision or "fp32", get_args(Precision)),
        ):
            if value not in choices:
                raise ConfigError(
                    f"backend={spec!r} names the {name} {value!r}; there are "
                    f"{', '.join(choices)}, as in torch, torch:bf16 or onnx:int8"
                )
        return cls(cast(BackendName, backend), cast(Precision, precision or "fp32"))


def runnable(folder: ModelFolder, device: str | None) -> list[Configuration]:
    """Return every configuration that can run a model here and may be worth it, fp32 first.

    A static model has one. A transformer has torch, in each precision that the device may gain
    from, and each export that is at hand.

    Args:
        folder: the model.
        device: asked for; None takes the best there is.
    """
    machine = this_machine(ask_for_gpu=device is None)
    found = []
    for precision in get_args(Precision):
        for backend in ("static", "torch", "onnx", "openvino"):
            try:
                choice = pick(
                    folder, backend=backend, device=device, precision=precision, machine=machine
                )
            except KoE5Error:
                continue
            on_cpu = choice.device.startswith("cpu")
            # What emulates a format is slower than fp32, several times; int8 is for CPUs.
            wasted = {
                "fp32": False,
                "bf16": on_cpu and not machine.bf16,
                "fp16": on_cpu,
                "int8": backend == "torch" and device is None and machine.gpu is not None,
            }
            if not wasted[precision]:
                found.append(Configuration(backend, precision))
    return found


def weight_bytes(folder: ModelFolder, device: str | None, configuration: Configuration) -> int:
    """Return the size of the files a configuration loads; 0 if it can't run."""
    try:
        choice = pick(
            folder,
            backend=configuration.backend,
            device=device,
            precision=configuration.precision,
        )
    except KoE5Error:
        return 0
    return sum(file.stat().st_size for file in _weights(folder, choice)) * len(choice.devices)


def _weights(folder: ModelFolder, choice: EngineChoice) -> list[Path]:
    graph = choice.graph
    if graph is None:
        return folder.files("*.safetensors")
    beside = (graph, graph.with_name(f"{graph.name}.data"), graph.with_suffix(".bin"))
    return [file for file in beside if file.is_file()]
