"""The few operations on pixels that the edits and their verification share, as thin covers of OpenCV on one thread."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3) sRGB
Bool = NDArray[np.bool_]  # (H, W)
Float = NDArray[np.float32]


@cache
def cv() -> Any:
    """OpenCV, kept to the calling thread: parallel work is done by processes, and results must not depend on it."""
    import cv2

    cv2.setNumThreads(1)
    return cv2


def to_lab(image: Image) -> Float:
    """CIE L*a*b* (D65) of an sRGB image: (H, W, 3), L* in [0, 100]."""
    result: Float = cv().cvtColor(image.astype(np.float32) / np.float32(255), cv().COLOR_RGB2LAB)
    return result


def to_rgb(lab: Float) -> Image:
    """The inverse of `to_lab`; what lies outside of sRGB is clipped."""
    rgb = cv().cvtColor(lab, cv().COLOR_LAB2RGB)
    return np.asarray(np.clip(rgb * np.float32(255) + np.float32(0.5), 0, 255), dtype=np.uint8)


def distance(a: Float, b: Float) -> Float:
    """CIE76 ΔE of two Lab images, pixel by pixel: (H, W)."""
    d = a - b
    d *= d
    return np.asarray(np.sqrt(cv().transform(d, np.ones((1, 3), np.float32))), dtype=np.float32)


def shrink(image: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """An (H, W) or (H, W, C) array at a smaller (or equal) size, each pixel the mean of those it covers."""
    if image.shape[:2] == (height, width):
        return image
    result: NDArray[Any] = cv().resize(image, (width, height), interpolation=cv().INTER_AREA)
    return result


def shrink_mask(mask: Bool, width: int, height: int, share: float = 0.5) -> Bool:
    """A mask at a smaller size: true where at least `share` of what a pixel covers was; 0 means anything at all."""
    if mask.shape == (height, width):
        return mask
    area = shrink(mask.astype(np.float32), width, height)
    return np.asarray(area >= share if share else area > 1e-6, dtype=np.bool_)


def smooth(image: Float, sigma: float) -> Float:
    """Gaussian blur."""
    result: Float = cv().GaussianBlur(image, (0, 0), sigma, borderType=cv().BORDER_REFLECT_101)
    return result


def grow(mask: Bool, radius: int) -> Bool:
    """A mask grown by a disc of a radius in pixels; shrunk where the radius is negative."""
    if radius == 0:
        return mask
    size = 2 * abs(radius) + 1
    disc = cv().getStructuringElement(cv().MORPH_ELLIPSE, (size, size))
    change = cv().dilate if radius > 0 else cv().erode
    return np.asarray(change(mask.astype(np.uint8), disc), dtype=np.bool_)


def box_of(mask: Bool) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of what is true, the last two exclusive. The mask must not be empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def changed(a: Image, b: Image) -> Bool:
    """Where two images differ in any channel."""
    r, g, blue = np.moveaxis(a != b, 2, 0)
    return np.asarray(r | g | blue, dtype=np.bool_)


def as_jpeg(image: Image, quality: int = 90) -> Image:
    """An image after JPEG compression."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Pillow.open(buffer), dtype=np.uint8)


def through_half(image: Image) -> Image:
    """An image brought to half its size and back."""
    height, width = image.shape[:2]
    half = shrink(image, max(1, width // 2), max(1, height // 2))
    return np.asarray(cv().resize(half, (width, height), interpolation=cv().INTER_CUBIC), dtype=np.uint8)
