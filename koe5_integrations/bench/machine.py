"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from koe5_integrations.backends.hardware import available_cores
from koe5_integrations.errors import MissingExtraError

try:
    import psutil
except ImportError as error:
    raise MissingExtraError("koe5 bench", "bench") from error

__all__ = ["available_memory", "describe_machine", "installed_versions", "peak_memory"]

# Those that can change a speed or a vector.
_PACKAGES = (
    "koe5-integrations",
    "numpy",
    "tokenizers",
    "torch",
    "transformers",
    "sentence-transformers",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
)
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def describe_machine() -> dict[str, Any]:
    """Return processor, instruction sets, cores, memory (bytes) and load, as JSON types.

    ``load`` is the number of processes that wanted a core in the last minute, before this run.
    """
    return {
        "cpu": _cpu_name(),
        "flags": sorted(_cpuinfo("flags", "Features").split()),
        "cores": available_cores(),
        "memory": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "load": round(psutil.getloadavg()[0], 2),
        "environment": {name: os.environ[name] for name in _THREAD_SETTINGS if name in os.environ},
    }


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def available_memory() -> int:
    """Return the bytes that can be used without swapping, within the container if there is one."""
    available = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no container, or "max"
        return available
    # Cached files are given back when memory is wanted.
    return min(available, limit - used + int(stat.get("inactive_file", 0)))


def peak_memory() -> int:
    """Return the most physical memory this process has had, in bytes."""
    try:
        # ru_maxrss would start at what the parent had when it started this process.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(re.findall(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)[0]) * 1024
    except (OSError, IndexError):
        pass
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):
        return int(memory.peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _cpu_name() -> str:
    if name := _cpuinfo("model name"):
        return name
    if platform.system() == "Darwin":
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.stdout.strip():
            return done.stdout.strip()
    return platform.processor() or platform.machine()


def _cpuinfo(*names: str) -> str:
    """Return the first line of one of these names in Linux' description of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(rf"^(?:{'|'.join(names)})\s*:(.*)$", text, re.MULTILINE)
    return match[1].strip() if match else ""
