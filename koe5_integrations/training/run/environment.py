"""What a run was trained with, for the record."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

__all__ = ["describe_environment"]

# Those that can change a weight.
_PACKAGES = (
    "koe5-integrations",
    "accelerate",
    "datasets",
    "numpy",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)


def describe_environment(*, after_step: int, processes: int) -> dict[str, Any]:
    """Describe this machine and the libraries, as JSON types.

    Args:
        after_step: the update this session begins after.
        processes: among how many batches are divided.
    """
    gpu = torch.cuda.is_available()
    return {
        "after_step": after_step,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "processes": processes,
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
