"""Measure every promise of precision and write docs/precision.md: `python -m tests.precision`."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from pathlib import Path

from tests.precision.measurements import MEASUREMENTS, NotHereError

PAGE = Path(__file__).parents[2] / "docs" / "precision.md"
PEERS = ("torch-fidelity", "clean-fid", "lpips", "prdc", "torchmetrics", "scikit-image", "torch", "numpy", "scipy")
HEAD = """# Precision

Each metric against the published implementation of it, on the same input and with the same weights. The error is the
largest over all values compared; ours and theirs are those of the worst one. `python -m tests.precision` measures all
of it again and rewrites this page; `pytest tests/precision` fails where an error exceeds its bound.

| what | peer | on | ours | theirs | error | bound |
|---|---|---|---:|---:|---:|---:|
"""
TAIL = """
What moves a value more than any of these errors is written into the metric's id: the extractor, the resize (clean-fid's
or TensorFlow's), the number of images, the reference set, the subsets and seed of KID, the cap of PSNR.

The images of the lpips package's example are in its repository, not in the package. They are downloaded from there and
their hashes checked; without a network, `QK_BENCH_LPIPS_EXAMPLE=PerceptualSimilarity/imgs` names the folder of a clone.

Measured with {versions}; weights of the cache as pinned in `qk_bench/weights.yaml`. Results do not depend on the batch
or on the number of threads (`tests/metrics/test_independence.py`).
"""


def main() -> int:
    """Write the page; 1 if a bound is exceeded."""
    warnings.simplefilter("ignore")
    rows, failed = [], 0
    for one in MEASUREMENTS:
        try:
            ours, theirs, error = one.compare()
        except NotHereError as why:
            print(f"skip {one.what}: {why}", file=sys.stderr)
            rows.append(f"| {one.what} | {one.peer} | {one.on} | not measured | | | {one.bound:.0e} |")
            continue
        failed += error > one.bound
        print(f"{'FAIL' if error > one.bound else 'ok':4} {one.what}: {error:.1e}", file=sys.stderr)
        values = f"{ours:.7g} | {theirs:.7g} | {error:.1e} {one.kind} | {one.bound:.0e}"
        rows.append(f"| {one.what} | {one.peer} | {one.on} | {values} |")
    versions = ", ".join(f"{name} {version(name)}" for name in PEERS)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(HEAD + "\n".join(rows) + "\n" + TAIL.format(versions=versions))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
