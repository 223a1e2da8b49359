"""How long `qkbench --help` takes, whole process: `python tests/benchmarks/help_time.py`. Asked for: at most 0.3 s."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 15


def main() -> None:
    """Print the median and the spread."""
    command = [sys.executable, "-c", "from qk_bench.cli import main; main()", "--help"]
    seconds = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    counted = seconds[1:]  # the first one fills the caches
    print(
        f"qkbench --help: median {statistics.median(counted):.3f} s of {RUNS} ({min(counted):.3f} to {max(counted):.3f})"
    )


if __name__ == "__main__":
    main()
