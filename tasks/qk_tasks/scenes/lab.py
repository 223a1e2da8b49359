"""sRGB bytes to CIE L*a*b* (D65, 2°), by a table and one matrix product: much faster than the general converters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_RGB_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = np.array([0.95047, 1.0, 1.08883])

_level = np.arange(256) / 255
_linear = np.where(_level > 0.04045, ((_level + 0.055) / 1.055) ** 2.4, _level / 12.92)
_LINEAR = _linear.astype(np.float32)
_MATRIX = (_RGB_TO_XYZ / _WHITE[:, None]).astype(np.float32)


def to_lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIE L*a*b* of an image, planar.

    Args:
        image: (H, W, 3) uint8 sRGB.

    Returns:
        (3, H, W) float32: L* in [0, 100], a*, b*; within 1e-3 of `skimage.color.rgb2lab`.
    """
    linear = _LINEAR.take(image.transpose(2, 0, 1).reshape(3, -1))
    xyz = _MATRIX @ linear
    f = np.cbrt(xyz)
    dark = xyz <= 0.008856
    if dark.any():
        f[dark] = np.float32(7.787) * xyz[dark] + np.float32(16 / 116)
    lab = np.empty_like(f)
    np.multiply(f[1], np.float32(116), out=lab[0])
    lab[0] -= np.float32(16)
    np.multiply(f[0] - f[1], np.float32(500), out=lab[1])
    np.multiply(f[1] - f[2], np.float32(200), out=lab[2])
    return np.asarray(lab.reshape(3, *image.shape[:2]), dtype=np.float32)


def colour_distance(a: Sequence[float], b: Sequence[float]) -> float:
    """CIE76 ΔE of two sRGB colours in [0, 255]."""
    return math.dist(_lab(tuple(a)), _lab(tuple(b)))


@lru_cache(maxsize=64)
def _lab(colour: tuple[float, ...]) -> tuple[float, float, float]:
    r, g, b = (_linear_list[round(min(max(v, 0), 255))] for v in colour)
    xyz = [row[0] * r + row[1] * g + row[2] * b for row in _ROWS]
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


_linear_list = _linear.tolist()
_ROWS = (_RGB_TO_XYZ / _WHITE[:, None]).tolist()
