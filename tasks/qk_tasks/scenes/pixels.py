"""What the verifier does to images: neighbourhoods, gradients, compression."""

from __future__ import annotations

import io
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qk_tasks.scenes.render import Box, Float

T = TypeVar("T", NDArray[np.float32], NDArray[np.bool_])

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in the lightness of ITU-R BT.601."""


def around(image: T, extreme: np.ufunc, reach: int) -> T:
    """The least or greatest value within `reach` pixels, over the last two axes."""
    for _ in range(reach):
        across = image.copy()
        extreme(across[..., 1:], image[..., :-1], out=across[..., 1:])
        extreme(across[..., :-1], image[..., 1:], out=across[..., :-1])
        image = across.copy()
        extreme(image[..., 1:, :], across[..., :-1, :], out=image[..., 1:, :])
        extreme(image[..., :-1, :], across[..., 1:, :], out=image[..., :-1, :])
    return image


def gradient_energy(image: Float) -> Float:
    """Squared gradient of an (h, w) image, (h - 1, w - 1)."""
    return np.asarray(np.diff(image, axis=0)[:, :-1] ** 2 + np.diff(image, axis=1)[:-1] ** 2, dtype=np.float32)


def jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image after JPEG compression at quality 90, Pillow's default subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return np.asarray(Image.open(buffer))


def grown(box: Box, side: int, by: int) -> Box:
    """A box larger by so many pixels on each side, within an image of `side` pixels."""
    rows, columns = box
    return (
        slice(max(0, rows.start - by), min(side, rows.stop + by)),
        slice(max(0, columns.start - by), min(side, columns.stop + by)),
    )
