"""Which engine runs a model: what was asked for, or else the fastest at hand.

On the CPU ``auto`` goes by this order, and takes the first that is installed and has a graph of the
model (:meth:`ModelFolder.find_graph`); torch needs none:

=========  ======================  =============================================================
precision  order                   why
=========  ======================  =============================================================
fp32       openvino, onnx, torch   OpenVINO is the fastest; onnxruntime is as fast as torch, but
                                   starts in a second and needs less memory
int8       openvino, onnx, torch   with instructions for 8-bit products
int8       onnx, openvino, torch   without them, for OpenVINO then computes in fp32
bf16       openvino, torch         with instructions for bf16; OpenVINO would gain nothing without
fp16       torch                   the others don't compute in it
=========  ======================  =============================================================

``koe5 bench`` measures it anew on the machine at hand. Where torch finds a GPU, torch runs the
model, unless int8 is asked for, which is for CPUs. A server runs it where one is named.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias, cast

from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.backends.hardware import Machine, this_machine
from koe5_integrations.backends.remote.server import REPLICAS, Address, Served
from koe5_integrations.errors import ConfigError, MissingExtraError, ModelLoadError
from koe5_integrations.exports import Engine, Export, ExportPrecision

__all__ = ["EngineChoice", "pick"]

EngineName: TypeAlias = Literal["torch", "onnx", "openvino", "static", "remote"]

_PRECISIONS: dict[str, tuple[str, ...]] = {
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
    "static": ("fp32",),
}
_SHOWN = {"onnx": "onnxruntime", "openvino": "OpenVINO"}


@dataclass(frozen=True)
class EngineChoice:
    """What runs a model.

    Attributes:
        backend: the engine.
        precision: number format it computes in: ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        device: where; several, separated by commas, have a copy of the model each.
        graph: the file it loads, of an exported model; None if it runs the model's own weights.
        why: one sentence for people.
        served: what a server says of itself, where one runs the model.
    """

    backend: EngineName
    precision: str
    device: str
    graph: Path | None = None
    why: str = field(default="", compare=False)
    served: Served | None = None

    @property
    def devices(self) -> list[str]:
        """Each device, once for each copy of the model, or each request under way at once."""
        return [self.device] * REPLICAS if self.served else self.device.split(",")

    @property
    def state(self) -> tuple[object, ...]:
        """The size and time of the graph's files now: changes when one is written again."""
        files = sorted(self.graph.parent.iterdir()) if self.graph else []
        return tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in files)

    def __str__(self) -> str:
        """Say what runs, where and why."""
        return f"{self.precision} on {self.device} by {self.why}"


def pick(
    folder: ModelFolder,
    *,
    backend: str,
    device: str | None,
    precision: str | None,
    compile: bool = False,
    name: str | None = None,
    machine: Machine | None = None,
    address: Address | None = None,
    normalize: bool = True,
) -> EngineChoice:
    """Choose what runs a model, without loading anything of it.

    Args:
        folder: the model.
        backend: ``auto``, or the engine to use.
        device: None takes the best there is.
        precision: None is fp32, or an export's own.
        compile: torch is to compile the model, which only torch can.
        name: what its user calls the model, for errors.
        machine: what there is to choose from; None looks.
        address: of the server that is to run it, which is asked what it serves.
        normalize: the model's vectors are to have unit length.

    Raises:
        ConfigError: what was asked for can't be combined, or the server serves something else.
        MissingExtraError: what is needed is not installed.
        ModelLoadError: the backend needs an export of the model, and none is there.
        EmbeddingServerError: the server can't be reached.
    """
    if address is not None:
        if device is not None or compile:
            wanted = "compile=True" if compile else f"device={device!r}"
            raise ConfigError(f"{wanted}: the server decides how it runs the model; leave it out")
        from koe5_integrations.backends.remote.discovery import find_server

        called = name or str(folder.path)
        served = find_server(folder, address, called, precision, normalize=normalize)
        return EngineChoice(
            "remote",
            precision or served.precision or "fp32",
            address.base_url,
            served=served,
            why=f"{served.shown}, which calls it {served.model!r}",
        )
    return _Picker(
        folder, backend, device, precision, compile, name or str(folder.path), machine
    ).pick()


@dataclass
class _Picker:
    folder: ModelFolder
    backend: str
    device: str | None
    precision: str | None
    compile: bool
    name: str
    machine: Machine | None

    def pick(self) -> EngineChoice:
        self._check_device()
        if self.folder.kind == "static" or self.backend == "static":
            return self._static()
        if self.compile and self.backend not in ("auto", "torch"):
            raise ConfigError(
                f"compile=True, backend={self.backend!r}: torch compiles, the graphs of the others "
                "are compiled already; leave compile= out"
            )
        if self.folder.export is not None:
            return self._opened(self.folder.export)
        precision = self.precision or "fp32"
        only_torch = self.compile or (self.device or "cpu") != "cpu" or precision == "fp16"
        if self.backend in ("onnx", "openvino"):
            return self._graph(cast(Engine, self.backend), precision)
        if self.backend == "torch" or only_torch:
            return self._torch(precision, "asked for" if self.backend == "torch" else None)
        return self._auto(precision)

    def _look(self, *, ask_for_gpu: bool = False) -> Machine:
        return self.machine or this_machine(ask_for_gpu=ask_for_gpu)

    def _check_device(self) -> None:
        if self.device is None:
            return
        devices = [device.strip() for device in self.device.split(",")]
        if not all(devices):
            raise ConfigError(
                f"device={self.device!r} names no device; name them as 'cuda:0,cuda:1'"
            )
        self.device = ",".join(devices)

    def _static(self) -> EngineChoice:
        if self.folder.kind != "static" or self.backend not in ("auto", "static"):
            right = "static" if self.folder.kind == "static" else "torch"
            raise ConfigError(
                f"backend={self.backend!r} can't run {self.folder.path}, a {self.folder.kind} "
                f"model: use backend={right!r}"
            )
        if self.device not in (None, "cpu") or self.precision not in (None, "fp32"):
            raise ConfigError(
                f"device={self.device!r}, precision={self.precision or 'fp32'!r}: static "
                "embeddings run on the CPU in fp32"
            )
        if self.compile:
            raise ConfigError("compile=True: a static model has nothing to compile")
        return EngineChoice("static", "fp32", "cpu", None, "numpy, for the model is static")

    def _opened(self, export: Export) -> EngineChoice:
        """Take the engine and precision an export was made for."""
        asked = (self.backend, self.precision)
        precision = self.precision or export.precision
        in_bf16 = (export.engine, export.precision, precision) == ("openvino", "fp32", "bf16")
        if self.backend not in ("auto", export.engine) or self.compile:
            wanted = "compile=True" if self.compile else f"backend={asked[0]!r}"
        elif precision != export.precision and not in_bf16:
            wanted = f"precision={asked[1]!r}"
        else:
            return self._graph(export.engine, precision)
        raise ConfigError(
            f"{wanted}: {self.folder.path} holds a graph for {_SHOWN[export.engine]} in "
            f"{export.precision} and nothing else; open the model it was made from "
            f"({export.model})"
        )

    def _graph(self, engine: Engine, precision: str) -> EngineChoice:
        """Take an engine of exported graphs that was asked for."""
        if self.device not in (None, "cpu"):
            raise ConfigError(
                f"device={self.device!r}: {_SHOWN[engine]} runs on one CPU here; "
                "backend='torch' runs on GPUs, and on several devices"
            )
        if precision not in _PRECISIONS[engine]:
            raise ConfigError(
                f"precision={precision!r}: {_SHOWN[engine]} runs "
                f"{', '.join(_PRECISIONS[engine])} here; backend='torch' runs the others"
            )
        machine = self._look()
        if precision == "bf16" and not machine.bf16:
            raise ConfigError(
                "precision='bf16': this processor has no instructions for it, so that OpenVINO "
                "would gain nothing; leave precision= out"
            )
        if engine not in machine.installed:
            raise MissingExtraError(f"backend={engine!r}", engine)
        if engine in machine.lost_by_fork:
            self._lost_by_fork(engine)
        stored: ExportPrecision = "int8" if precision == "int8" else "fp32"
        graph = self.folder.find_graph(engine, stored, unproven=True)
        if graph is None:
            raise ModelLoadError(
                f"backend={engine!r}, precision={precision!r}: no such export of {self.name} is "
                f"at hand; write it with `{self._export_line(engine, stored)}`"
            )
        why = "the export is for it" if self.folder.export is not None else "asked for"
        return EngineChoice(engine, precision, "cpu", graph, f"{_SHOWN[engine]}: {why}")

    def _torch(self, precision: str, why: str | None) -> EngineChoice:
        device = self.device
        if precision == "int8":
            if any(each != "cpu" for each in (device or "cpu").split(",")):
                raise ConfigError(
                    f"device={device!r}, precision='int8': int8 runs on CPUs; on a GPU bf16 and "
                    "fp16 are the fast ones"
                )
            device = device or "cpu"
        machine = self._look(ask_for_gpu=device is None)
        if "torch" not in machine.installed:
            wanted = "backend='torch'" if self.backend == "torch" else self._only_torch(precision)
            raise MissingExtraError(wanted, "torch")
        device = device or machine.gpu or "cpu"
        reason = why or f"{self._only_torch(precision)} needs it"
        return EngineChoice("torch", precision, device, None, f"torch: {reason}")

    def _only_torch(self, precision: str) -> str:
        """Name the option that nothing but torch can follow."""
        if self.compile:
            return "compile=True"
        return f"device={self.device!r}" if self.device else f"precision={precision!r}"

    def _auto(self, precision: str) -> EngineChoice:
        machine = self._look(ask_for_gpu=self.device is None and precision != "int8")
        if machine.gpu is not None and self.device is None and precision != "int8":
            return EngineChoice("torch", precision, machine.gpu, None, "torch: there is a GPU")
        stored: ExportPrecision = "int8" if precision == "int8" else "fp32"
        engines: list[Engine] = ["openvino", "onnx"]
        if precision == "int8" and not machine.int8:
            engines.reverse()
        elif precision == "bf16":
            engines = ["openvino"] if machine.bf16 else []
        why = "it alone computes in bf16 here"
        if engines:
            line = self._export_line(engines[0], stored)
            why = f"no export is at hand; `{line}` writes a faster one"
        unusable: Engine | None = None
        for engine in engines:
            if (graph := self.folder.find_graph(engine, stored)) is None:
                continue
            if engine in machine.installed and engine not in machine.lost_by_fork:
                why = f"{_SHOWN[engine]}: the fastest here that there is an export for"
                return EngineChoice(engine, precision, "cpu", graph, why)
            if engine in machine.installed and precision == "int8":
                # Another engine's int8 would give the child other vectors than its parent.
                self._lost_by_fork(engine)
            unusable = unusable or engine
        if unusable:
            lost = unusable in machine.lost_by_fork
            state = "does not survive a fork" if lost else "is not installed"
            why = f"{_SHOWN[unusable]}, for which there is an export, {state}"
        if "torch" in machine.installed:
            return EngineChoice("torch", precision, "cpu", None, f"torch: {why}")
        if unusable in machine.lost_by_fork:
            self._lost_by_fork(unusable)
        if unusable:
            raise MissingExtraError(f"the export of {self.name} for {_SHOWN[unusable]}", unusable)
        raise MissingExtraError(
            f"{self.name} has no export that could run here, and without one (where torch is "
            f"installed, `{self._export_line('onnx', stored)}` writes it) it",
            "torch",
        )

    def _export_line(self, engine: Engine, stored: ExportPrecision) -> str:
        int8 = " --int8" if stored == "int8" else ""
        return f"koe5 export {shlex.quote(self.name)} --to {engine}{int8}"

    def _lost_by_fork(self, engine: Engine) -> NoReturn:
        raise ConfigError(
            f"{_SHOWN[engine]} was in use when this process was forked and can't run in it: start "
            "processes by multiprocessing's 'spawn' or 'forkserver' method, or use another backend="
        )
