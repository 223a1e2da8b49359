"""Metrics of two plain folders of images, which nothing but their distributions relates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qk_bench.errors import UsageError
from qk_bench.interfaces import Metric, SetValue
from qk_bench.metrics.distribution import DistributionMetric

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp"))
_CHUNK = 64


@dataclass
class Folder:
    """Images of a folder, by name. Files that cannot be read are left out and listed in `broken` as they are met."""

    path: Path
    broken: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """List the files.

        Raises:
            UsageError: The folder does not exist or holds no image file.
        """
        if not self.path.is_dir():
            raise UsageError(f"{self.path} is not a folder")
        self.files = sorted(file for file in self.path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not self.files:
            raise UsageError(f"{self.path} holds no images", f"known: {', '.join(sorted(SUFFIXES))}")

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """Readable images in order of name, (H, W, 3) uint8, a few held at a time."""
        with ThreadPoolExecutor(2) as pool:
            for start in range(0, len(self.files), _CHUNK):
                for image in pool.map(self.read, self.files[start : start + _CHUNK]):
                    if image is not None:
                        yield image

    def read(self, file: Path) -> NDArray[np.uint8] | None:
        """One image as (H, W, 3) uint8 sRGB; None, and a line in `broken`, where it cannot be read."""
        try:
            with Image.open(file) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            self.broken[file.name] = " ".join(str(error).split())
            return None


def score_folders(outputs: Folder, references: Folder, metrics: Mapping[str, Metric]) -> Iterator[SetValue]:
    """Values of all metrics that two unrelated folders allow, as they are ready.

    Args:
        outputs: Images to judge.
        references: Images to judge them by.
        metrics: Metrics by name. Those of distributions compare the folders; the others need samples and give a reason.
    """
    for name, metric in metrics.items():
        available, mend = metric.availability()
        if available and isinstance(metric, DistributionMetric):
            yield from metric.compare(outputs.images(), references.images())
            continue
        reason = f"{name} compares outputs with their samples: score them against a task" if available else mend
        yield from (SetValue(None, None, None, 0, reason, column.id) for column in metric.columns)
