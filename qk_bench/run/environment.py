"""Where a run runs: versions, git revision, hardware, and what the processes cost."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import JsonValue

import qk_bench

PACKAGES: Final = (
    "numpy",
    "pillow",
    "pyarrow",
    "pydantic",
    "scikit-image",
    "scipy",
    "torch",
    "transformers",
    "diffusers",
)


IMAGE_VARIABLE: Final = "QK_BENCH_IMAGE"
"""Set by `qkbench container run`: the image that the process is in, as JSON."""


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that decide pixels and numbers."""
    found = {"python": platform.python_version(), "qk-bench": qk_bench.__version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git() -> dict[str, JsonValue]:
    """Revision of the checkout this package runs from and whether it is dirty (None: unknown); empty if there is none."""
    root = Path(qk_bench.__file__).parent.parent

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top = ask("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return {}
    changes = ask("status", "--porcelain", "--untracked-files=no")
    return {"revision": ask("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def hardware() -> dict[str, JsonValue]:
    """Processor, cores this process may use, memory, accelerators."""
    import psutil

    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "accelerators": _accelerators(),
        **({"image": found} if (found := image()) else {}),
    }


def image() -> dict[str, JsonValue]:
    """The container image this process is in, as `qkbench container run` names it; empty if it is in none."""
    try:
        told = json.loads(os.environ.get(IMAGE_VARIABLE, "{}"))
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in told.items()} if isinstance(told, dict) else {}


def cores() -> int:
    """Number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_seconds() -> float:
    """CPU time of this process and of its finished children."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _accelerators() -> list[JsonValue]:
    """NVIDIA devices by name, asked of the driver so that torch need not be imported here."""
    if sys.platform != "linux":
        return []
    names = []
    for info in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        names += [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("Model")]
    return list(names)
