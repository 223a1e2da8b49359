"""What the harness adds to a model of 20 ms an image: `python tests/benchmarks/overhead.py [--limit 1000] [--task T]`.

The overhead is the wall time of the whole command (start-up, scoring, tables, summary and page included) less the time
inside the adapter, over the latter. Asked for: at most 10 % at 64 pixels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run both models of known cost and print what the harness added."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--task", default="color_swap")
    parser.add_argument("--metric", action="append", default=[])
    parser.add_argument("--model", action="append", choices=["Sleeping", "Busy"], default=[])
    options = parser.parse_args()
    for model in options.model or ["Sleeping", "Busy"]:
        measure(model, options)


def measure(model: str, options: argparse.Namespace) -> None:
    """Time one run."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = ["run", "--task", options.task, "--model", f"{HERE / 'models.py'}:{model}", "--out", str(out)]
        words += ["--limit", str(options.limit), "--resolution", str(options.resolution)]
        words += [word for metric in options.metric for word in ("--metric", metric)]
        command = [sys.executable, "-c", "from qk_bench.cli import main; main()", *words]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.perf_counter() - started
        timings = [json.loads(line) for line in (out / "timings.jsonl").read_text().splitlines()]
        inside = sum(timing["seconds"] / timing["requests"] for timing in timings)
        session = json.loads((out / "manifest.json").read_text())["sessions"][-1]
    print(
        f"{model}: {len(timings)} images, {inside:.2f} s inside the adapter, {wall:.2f} s in all: "
        f"{wall / inside - 1:.1%} overhead; {session['cpu_seconds']:.1f} s of CPU"
    )


if __name__ == "__main__":
    main()
