"""What kontext and gate cost in inference: `python tests/benchmarks/edit_latency.py [--batch 32] [--repeats 9]`.

The micro preset with random weights (their values do not change the time) edits a batch of scenes, in turn with the same model without kontext and
gate, which denoises every token. Asked for: at most 1.18 times, and 60 ms an image at batch 32.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from qk_model.config import load_preset
from qk_model.infer import Job, make
from qk_model.model import QueryKontext
from qk_tasks.scenes import SUITE

BARE = {"model.kontext.enabled": False, "model.gate.enabled": False}


def main() -> None:
    """Print milliseconds an image of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    tasks = [SUITE.tasks[name] for name in ("color_swap", "insertion", "removal", "layout")]
    samples = [tasks[index % 4].sample("test", index // 4, 64) for index in range(arguments.batch)]
    jobs = [Job(s.instruction, s.width, s.height, seed, s.source) for seed, s in enumerate(samples)]
    models = {
        name: QueryKontext(load_preset("micro", switches).model).eval()
        for name, switches in (("with kontext and gate", {}), ("without", BARE))
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(arguments.repeats + 1):
        for name, model in models.items():
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                started = time.perf_counter()
                make(model, jobs)
            if repeat:  # the first warms up
                seconds[name].append(time.perf_counter() - started)
    for name, times in seconds.items():
        print(f"{name}: {1000 * statistics.median(times) / arguments.batch:.1f} ms an image")
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
