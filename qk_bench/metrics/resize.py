"""The two ways FID's images are brought to 299 × 299. They give different FIDs, so a metric's id names its own.

`clean` is clean-fid's (Parmar, Zhang, Zhu, arXiv 2104.11222): Pillow's antialiased bicubic on float channels, clipped
to [0, 255], not rounded. `tf` is the legacy one of the original code and of torch-fidelity: TensorFlow 1's bilinear,
which neither antialiases nor centres pixels. Both are separable, hence two small matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Resize = Literal["clean", "tf"]


def clean(image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Antialiased bicubic: (H, W, 3) uint8 → (3, side, side) float32 in [0, 255]."""
    return np.asarray(np.clip(_separable(image, _bicubic, side), 0, 255))


def tf(image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """TensorFlow 1's bilinear with align_corners=False: (H, W, 3) uint8 → (3, side, side) float32 in [0, 255]."""
    return _separable(image, _bilinear, side)


RESIZES: dict[Resize, Callable[[NDArray[np.uint8], int], NDArray[np.float32]]] = {"clean": clean, "tf": tf}


def _separable(
    image: NDArray[np.uint8], kernel: Callable[[int, int], NDArray[np.float32]], side: int
) -> NDArray[np.float32]:
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)  # (3, H, W)
    return np.asarray(kernel(image.shape[0], side) @ (planes @ kernel(image.shape[1], side).T))


@lru_cache(maxsize=32)
def _bicubic(size: int, side: int) -> NDArray[np.float32]:
    """(side, size): Keys' cubic (a = -1/2) over a support that widens when shrinking, as Pillow's; rows sum to 1."""
    scale = size / side
    stretch = max(scale, 1.0)
    centre = (np.arange(side)[:, None] + 0.5) * scale
    first = np.maximum((centre - 2 * stretch + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + 2 * stretch + 0.5).astype(np.int64), size)
    place = np.arange(size)[None, :]
    x = np.abs(place - centre + 0.5) / stretch
    near, far = 1 + x * x * (1.5 * x - 2.5), 2 + x * (-4 + x * (2.5 - 0.5 * x))
    weight = np.where(x < 1, near, np.where(x < 2, far, 0)) * ((place >= first) & (place < last))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), dtype=np.float32)


@lru_cache(maxsize=32)
def _bilinear(size: int, side: int) -> NDArray[np.float32]:
    """(side, size): output i lies at i·size/side, between two neighbours."""
    place = np.arange(side, dtype=np.float32) * np.float32(size / side)
    low = place.astype(np.int64)
    share = place - low
    weight = np.zeros((side, size), np.float32)
    np.add.at(weight, (np.arange(side), low), 1 - share)
    np.add.at(weight, (np.arange(side), np.minimum(low + 1, size - 1)), share)
    return np.asarray(weight)
