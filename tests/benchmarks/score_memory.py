"""Peak memory of `qkbench score A --reference B` by number of images: `python -m tests.benchmarks.score_memory`.

Asked for: it does not grow with N beyond the features. Two folders of crops of 128 px under the same names, scored with
PSNR and KID, or with `--metrics`: LPIPS, whose batches are large, would hide what the sets take. Inception's features are
put into the cache beforehand, as noise, since they take minutes and are read back the same way as they are computed, 64
images at a time; with `--network` they are computed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np

from qk_bench import weights
from qk_bench.metrics.features import FeatureStore
from qk_bench.metrics.inception import Inception
from qk_bench.records import pixels_digest
from tests.metrics.photographs import crops, disturbed, write_folder

SIZE = 128
SCORE = """
from qk_bench.cli import main
try:
    main()
finally:  # not ru_maxrss, which has the memory of the process that started this one
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak(count: int, metrics: list[str], network: bool) -> int:
    """Bytes the process that scores held at most."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "cache").mkdir()
        (root / "cache" / "weights").symlink_to(weights.path("inception-tf").parent)
        targets = crops(count, SIZE, 0)
        outputs = [disturbed(image, seed) for seed, image in enumerate(targets)]
        first, second = write_folder(root / "a", outputs), write_folder(root / "b", targets)
        with patch.dict(os.environ, QK_BENCH_CACHE=str(root / "cache")):
            if not network:
                extractor, rng = Inception("clean"), np.random.default_rng(0)
                keys = [bytes.fromhex(pixels_digest(image)) for image in outputs + targets]
                noise = ((key, rng.random(extractor.dimensions, np.float32).tobytes()) for key in keys)
                FeatureStore.of(extractor).put(noise)
            words = ["score", str(first), "--reference", str(second), *(w for m in metrics for w in ("--metric", m))]
            done = subprocess.run([sys.executable, "-c", SCORE, *words], check=True, stdout=subprocess.PIPE, text=True)
            return int(done.stdout.split()[-2]) * 1024  # "VmHWM:  123456 kB"


def main() -> None:
    """Print the peaks, and what each more pair of images took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs=2, default=(300, 900), help="of each folder, first and last")
    parser.add_argument("--metrics", nargs="+", default=["psnr", "kid"])
    parser.add_argument("--network", action="store_true", help="compute Inception's features")
    options = parser.parse_args()
    few, many = options.images
    peaks = [peak(count, options.metrics, options.network) for count in (few, many)]
    for count, held in zip((few, many), peaks, strict=True):
        print(f"{count} + {count} images of {SIZE} px: {held / 1e6:.0f} MB at most", flush=True)
    more = (peaks[1] - peaks[0]) / (many - few) / 1e3
    print(f"{more:.1f} kB for each further pair; its features are {2 * 4 * Inception.dimensions / 1e3:.1f} kB")


if __name__ == "__main__":
    main()
