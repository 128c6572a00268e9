"""What this machine offers, found out without importing a model library where that is possible."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

__all__ = ["Machine", "available_cores", "mark_used", "this_machine"]

# Instructions that multiply 8-bit integers faster than fp32, and those that know bf16, as Linux
# (x86 and ARM) and macOS name them.
_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "i8mm", "avx512vnni", "feat_i8mm"}
_BF16 = {"avx512_bf16", "amx_bf16", "bf16", "feat_bf16"}
_NEEDS = {
    "torch": ("torch", "sentence_transformers"),
    "onnx": ("onnxruntime",),
    "openvino": ("openvino",),
}


@dataclass(frozen=True)
class Machine:
    """What a choice of engine depends on.

    Attributes:
        int8: the processor multiplies 8-bit integers faster than fp32.
        bf16: the processor computes in bf16.
        installed: engines whose libraries are installed.
        gpu: the device torch would take rather than the CPU; None without one.
        lost_by_fork: engines whose threads were running when this process was forked, and that
            can't be started again in it.
    """

    int8: bool
    bf16: bool
    installed: frozenset[str]
    gpu: str | None = None
    lost_by_fork: frozenset[str] = frozenset()


def this_machine(*, ask_for_gpu: bool) -> Machine:
    """Look at this machine.

    Args:
        ask_for_gpu: whether to find out if torch has a GPU, which imports torch where there may be
            one.
    """
    features = _cpu_features()
    installed = frozenset(name for name, modules in _NEEDS.items() if all(map(_is_there, modules)))
    return Machine(
        int8=bool(features & _INT8),
        bf16=bool(features & _BF16),
        installed=installed,
        gpu=_gpu() if ask_for_gpu and "torch" in installed else None,
        lost_by_fork=frozenset(name for name, pid in _used.items() if pid != os.getpid()),
    )


# Engines that don't survive a fork, with the process that first used them.
_used: dict[str, int] = {}


def mark_used(engine: str) -> None:
    """Note that this process has started an engine whose threads a forked child can't replace."""
    _used.setdefault(engine, os.getpid())


def available_cores() -> int:
    """Return how many cores this process may use: at least 1.

    Two hardware threads of one core count once, because dense arithmetic fills a core with one; an
    affinity mask and the quota of a container are respected.
    """
    if not hasattr(os, "sched_getaffinity"):  # macOS and Windows
        return os.cpu_count() or 1
    siblings = set()
    for cpu in os.sched_getaffinity(0):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(topology.read_text() if topology.is_file() else str(cpu))
    return max(1, min([len(siblings), *_quotas(Path("/"))]))


def _quotas(root: Path) -> list[int]:
    """Return the cores that each of Linux' control groups grants, where it sets a limit."""
    groups = root / "proc/self/cgroup"
    quotas = []
    for line in groups.read_text().splitlines() if groups.is_file() else []:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        at = top / group.lstrip("/")
        # Within a container its own group is mounted at the top.
        for folder in {top, at, *(parent for parent in at.parents if top in parent.parents)}:
            quotas += _read_quota(folder)
    return quotas


def _read_quota(folder: Path) -> list[int]:
    for files in ["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]:
        try:
            words = [word for name in files for word in (folder / name).read_text().split()]
            quota, period = map(int, words)
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if quota > 0 and period > 0:
            return [math.ceil(quota / period)]
    return []


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


@cache
def _cpu_features() -> frozenset[str]:
    """Return the processor's instruction sets in lower case; none where the system doesn't say."""
    if sys.platform == "darwin":
        import subprocess

        names = ["hw.optional", "machdep.cpu"]
        listed = subprocess.run(["/usr/sbin/sysctl", *names], capture_output=True, text=True)
        return _sysctl_features(listed.stdout.splitlines())
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return _cpuinfo_features(lines)
    except OSError:
        return frozenset()


def _cpuinfo_features(lines: Iterable[str]) -> frozenset[str]:
    """Read the first processor of Linux' ``/proc/cpuinfo``."""
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.lower().split())
    return frozenset()


def _sysctl_features(lines: Iterable[str]) -> frozenset[str]:
    """Read macOS' ``hw.optional.arm.FEAT_I8MM: 1`` and ``machdep.cpu.leaf7_features: AVX2 …``."""
    found: set[str] = set()
    for line in lines:
        name, _, value = line.partition(":")
        if name.startswith("machdep.cpu.") and name.endswith("features"):
            found.update(value.lower().split())
        elif value.strip() == "1":
            found.add(name.rpartition(".")[2].lower())
    return frozenset(found)


def _gpu() -> str | None:
    """Return the GPU that torch would use; torch is imported only where there may be one."""
    devices = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, Windows' subsystem
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    if sys.platform == "linux" and (hidden or not any(Path(path).exists() for path in devices)):
        return None
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None
