"""How fast pairs are built and written on one core: `python tests/benchmarks/pairs_speed.py [--photos 12] [--resolution 512]`.

Asked for: 25 pairs/s at 512 px on one core, everything included: reading annotations and JPEGs of 640 x 480, fingerprints, masks, edits, the
check of each pair, PNGs, Parquet. CPU time, since other work on the machine only slows it down. Then what 1.5 million pairs would take.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from pathlib import Path

from qk_tasks.pairs.builder import Options, build


def main() -> None:
    """Print the rate, and the plan for 1.5 million pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--resolution", type=int, default=512)
    arguments = parser.parse_args()
    maker = importlib.util.spec_from_file_location(
        "coco_folder", Path(__file__).parents[1] / "tasks" / "pairs" / "coco_folder.py"
    )
    assert maker is not None and maker.loader is not None
    coco_folder = importlib.util.module_from_spec(maker)
    sys.modules["coco_folder"] = coco_folder
    maker.loader.exec_module(coco_folder)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        coco_folder.make(folder / "warm", 1, 640, 480)
        coco_folder.make(folder / "coco", arguments.photos, 640, 480)
        options = Options("coco-edits", resolution=arguments.resolution)
        build(folder / "warm", folder / "first", options, note=lambda _: None)  # imports and tables
        started = time.process_time()
        built = build(folder / "coco", folder / "out", options, note=lambda _: None)
        seconds = time.process_time() - started
        size = sum(path.stat().st_size for path in (folder / "out").rglob("*") if path.is_file())
    print(
        f"{built.pairs} pairs at {arguments.resolution} px in {seconds:.2f} s of CPU: {built.pairs / seconds:.1f} pairs/s"
    )
    hours = 1.5e6 * seconds / built.pairs / 3600
    photos = 1.5e6 * arguments.photos / built.pairs
    print(
        f"1.5 million pairs: {hours:.1f} hours on one core, {1.5e6 * size / built.pairs / 1e12:.2f} TB, {photos:,.0f} photographs"
    )


if __name__ == "__main__":
    main()
