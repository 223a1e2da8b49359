"""Peak memory of long no-op runs at 32 pixels: `python tests/benchmarks/memory.py [--limit 100000]`. Takes minutes.

Asked for: 100,000 samples under 1 GB, and memory that does not grow with their number.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SQUARES = f"{Path(__file__).parent.parent / 'squares.py'}:SUITE/recolour"


def main() -> None:
    """Run a tenth of the samples, then all, and print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=100_000)
    parser.add_argument("--task", default=SQUARES)
    options = parser.parse_args()
    for limit in (options.limit // 10, options.limit):
        measure(limit, options.task)


def measure(limit: int, task: str) -> None:
    """Run once and print the largest process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = [
            "run",
            "--task",
            task,
            "--model",
            "no-op",
            "--limit",
            str(limit),
            "--resolution",
            "32",
            "--out",
            str(out),
        ]
        command = [sys.executable, "-c", "from qk_bench.cli import main; main()", *words]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.perf_counter() - started
        worker = json.loads((out / "manifest.json").read_text())["sessions"][-1]["worker_peak_memory_bytes"]["no-op"]
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"{limit} samples: largest process {largest / 1e6:.0f} MB, model worker {worker / 1e6:.0f} MB, {wall:.0f} s")


if __name__ == "__main__":
    main()
