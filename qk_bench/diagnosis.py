"""Looks at the machine and the installation for what would break a run or slow it down."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from qk_bench.errors import QKBenchError
from qk_bench.plugins import Kind, folder_suites, load_metric, load_suite, model_class, names
from qk_bench.run.environment import cores

Level = Literal["ok", "slow", "lacks", "broken"]
NEEDED: Final = ("numpy", "scipy", "pillow", "pyarrow", "pydantic", "scikit-image", "rich", "typer")
OPTIONAL: Final = {
    "torch": "pip install 'qk-bench[metrics]': learned metrics (LPIPS, FID, KID) and models need it",
    "torchvision": "pip install 'qk-bench[metrics]': learned metrics need it",
    "transformers": "pip install transformers: Query-Kontext and other models need it",
    "diffusers": "pip install diffusers: diffusers editors need it",
    "datasets": "pip install datasets: only to load an export with load_dataset",
}
SLOW_WRITE_SECONDS: Final = 0.005
SMALL_DISK: Final = 2e9
SMALL_MEMORY: Final = 2e9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    what: str
    found: str
    mend: str = ""


def diagnose() -> list[Finding]:
    """Everything that was found, in the order it is shown."""
    return [*_python(), *_packages(), *_plugins("task"), *_plugins("model"), *_plugins("metric"), *_machine(), *_disk()]


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", "python", f"{version} at {sys.executable}")


def _packages() -> Iterator[Finding]:
    for package in ("qk-bench", *NEEDED):
        try:
            yield Finding("ok", package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("broken", package, "not installed", f"pip install {package}")
    for package, mend in OPTIONAL.items():
        try:
            yield Finding("ok", package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("lacks", package, "not installed (optional)", mend)


def _plugins(kind: Kind) -> Iterator[Finding]:
    load = {"task": load_suite, "model": model_class, "metric": load_metric}[kind]
    what = "suite" if kind == "task" else kind
    folders = folder_suites() if kind == "task" else []
    for name in names(kind):
        if name in folders:
            yield Finding("ok", f"{what} {name}:FOLDER", "loads; reads a folder of yours")
            continue
        try:
            plugin = load(name)
        except QKBenchError as error:
            yield Finding("broken", f"{what} {name}", str(error), "mend the package that registers it, or uninstall it")
            continue
        available, mend = plugin.availability() if hasattr(plugin, "availability") else (True, "")
        if available:
            yield Finding("ok", f"{what} {name}", "loads")
        else:
            yield Finding("lacks", f"{what} {name}", "cannot run here", mend)


def _machine() -> Iterator[Finding]:
    import psutil

    count, memory = cores(), psutil.virtual_memory()
    if count == 1:
        yield Finding("slow", "cores", "1", "with two or more, scoring runs beside generation")
    else:
        yield Finding("ok", "cores", str(count))
    free = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    if memory.available < SMALL_MEMORY:
        yield Finding("slow", "memory", free, "close other programs: the system may kill workers (model_error)")
    else:
        yield Finding("ok", "memory", free)


def _disk() -> Iterator[Finding]:
    places = {"current folder": Path.cwd(), "temporary folder": Path(tempfile.gettempdir())}
    for what, place in places.items():
        free = shutil.disk_usage(place).free
        try:
            seconds = _write_seconds(place)
        except OSError as error:
            mend = (
                "name a writable folder with --out" if what == "current folder" else "set TMPDIR to a writable folder"
            )
            yield Finding("broken", what, f"{place} cannot be written: {error.strerror}", mend)
            continue
        found = f"{place}, {free / 1e9:.0f} GB free, {seconds * 1e3:.2f} ms to write and rename a small file"
        if free < SMALL_DISK:
            yield Finding("slow", what, found, "free some space: a full disk stops a run")
        elif seconds > SLOW_WRITE_SECONDS:
            yield Finding("slow", what, found, "put --out on a local disk: every output is a file")
        else:
            yield Finding("ok", what, found)


def _write_seconds(folder: Path) -> float:
    """Median time to store one small output the way a run does."""
    data, times = os.urandom(8192), []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".qkbench-doctor-") as name:
        for number in range(20):
            started = time.perf_counter()
            path = Path(name) / f"{number}.tmp"
            path.write_bytes(data)
            path.rename(path.with_suffix(".png"))
            times.append(time.perf_counter() - started)
    return statistics.median(times)
