"""How fast scenes are drawn and judged on one core: `python tests/benchmarks/scenes_speed.py [--rounds 5]`.

Asked for: 1,500 complete samples/s at 64 px, 40/s at 512 px, 500 verdicts/s at 64 px. CPU time of the best round, since
other work on the machine only ever slows a round down. Verdicts are of right edits (the target, and the target after
JPEG, which costs most) and of wrong ones (the source).
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image
from qk_tasks.scenes import SUITE


def rate(rounds: int, work: Callable[[int], Iterable[object]]) -> float:
    """Items per second of CPU time in the best of some rounds; `work(round)` yields one thing per item."""
    best = 0.0
    for number in range(rounds):
        started = time.process_time()
        items = sum(1 for _ in work(number))
        best = max(best, items / (time.process_time() - started))
    return best


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    edit = [SUITE.tasks[name] for name in SUITE.groups["edit"]]
    for tasks, what in ((edit, "edit"), (list(SUITE.tasks.values()), "all tasks")):
        for resolution, number in ((64, 100), (512, 6)):

            def draw(
                k: int, tasks: list = tasks, resolution: int = resolution, number: int = number
            ) -> Iterable[object]:
                return (task.sample("train", k * number + i, resolution) for task in tasks for i in range(number))

            print(f"samples, {what}, {resolution} px: {rate(rounds, draw):.0f}/s")
    pairs = [(task, task.sample("val", i, 64)) for task in edit for i in range(40)]

    def jpeg(image: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=90)
        return np.asarray(Image.open(buffer))

    outputs = {
        "target": [s.target for _, s in pairs],
        "target after JPEG": [jpeg(s.target) for _, s in pairs],
        "source": [s.source for _, s in pairs],
    }
    for what, images in outputs.items():

        def judge(_: int, images: list = images) -> Iterable[object]:
            return (task.verify(sample, image) for (task, sample), image in zip(pairs, images, strict=True))

        print(f"verdicts, {what}, 64 px: {rate(rounds, judge):.0f}/s")


if __name__ == "__main__":
    main()
