"""Tests of koe5_integrations.backends.hardware."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from koe5_integrations.backends import hardware
from koe5_integrations.backends.hardware import available_cores, this_machine

ZEN = ["processor\t: 0\n", "flags\t\t: fpu avx2 avx512_vnni AVX512_BF16\n", "flags\t: second\n"]
GRAVITON = ["processor : 0\n", "Features : fp asimd asimddp i8mm bf16\n"]
APPLE = [
    "hw.optional.arm.FEAT_I8MM: 1",
    "hw.optional.arm.FEAT_BF16: 0",
    "hw.optional.neon: 1",
    "machdep.cpu.brand_string: Apple M1",
]
INTEL_MAC = ["machdep.cpu.leaf7_features: RDWRFSGS AVX2 AVX512VNNI", "hw.optional.avx2_0: 1"]


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_reads_the_first_processor_of_linux() -> None:
    """Instruction sets come from the first processor, in lower case, on x86 and ARM."""
    assert hardware._cpuinfo_features(ZEN) == {"fpu", "avx2", "avx512_vnni", "avx512_bf16"}
    assert {"i8mm", "bf16"} < hardware._cpuinfo_features(GRAVITON)
    assert hardware._cpuinfo_features(["model name : none said\n"]) == set()


def test_reads_macos() -> None:
    """On a Mac a feature counts if it is 1, or listed among an Intel processor's."""
    assert hardware._sysctl_features(APPLE) == {"feat_i8mm", "neon"}
    assert {"avx512vnni", "avx2"} < hardware._sysctl_features(INTEL_MAC)


@pytest.mark.parametrize(
    ("files", "quotas"),
    [
        ({}, []),
        ({"proc/self/cgroup": "0::/\n"}, []),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, []),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, [2]),
        (
            {
                "proc/self/cgroup": "0::/a.slice/b\n",
                "sys/fs/cgroup/a.slice/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/a.slice/b/cpu.max": "max 100000\n",
            },
            [3],
        ),
        (
            {
                "proc/self/cgroup": "5:cpuset:/x\n4:cpu,cpuacct:/docker/1\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            [1],
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            [],
        ),
    ],
)
def test_a_containers_quota_is_read(
    tmp_path: Path, files: dict[str, str], quotas: list[int]
) -> None:
    """Limits of both generations of control groups are found, rounded up to whole cores."""
    assert hardware._quotas(write(tmp_path, files)) == quotas


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_an_affinity_mask_counts() -> None:
    """A process confined to one core has one."""
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from koe5_integrations.backends.hardware import available_cores
print(available_cores())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "1\n"
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_looking_imports_no_model_library() -> None:
    """The machine is looked at without torch where it has no GPU, and without the runtimes."""
    if Path("/dev/nvidiactl").exists() or sys.platform == "darwin":
        pytest.skip("torch is asked where there may be a GPU")
    code = """
import json, sys
from koe5_integrations.backends.hardware import this_machine
machine = this_machine(ask_for_gpu=True)
print(json.dumps([machine.gpu, sorted(machine.installed), sorted(sys.modules)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    gpu, installed, modules = json.loads(done.stdout)
    assert gpu is None
    assert set(installed) == this_machine(ask_for_gpu=False).installed
    assert not {"torch", "onnxruntime", "openvino", "tokenizers"} & set(modules)
