"""Crops of the photographs that ship with scikit-image and scikit-learn."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@cache
def _whole() -> dict[str, NDArray[np.uint8]]:
    from skimage import data
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    own = {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
    return {**own, "china": china, "flower": flower}


def whole(name: str) -> NDArray[np.uint8]:
    """A photograph by name, (H, W, 3) uint8."""
    return _whole()[name]


def crops(count: int, size: int, seed: int, names: tuple[str, ...] = ()) -> list[NDArray[np.uint8]]:
    """Random square crops of the named photographs (all of them without names), (size, size, 3) uint8."""
    rng = np.random.default_rng(seed)
    images = [_whole()[name] for name in names or _whole()]
    found = []
    for _ in range(count):
        image = images[rng.integers(len(images))]
        y, x = (rng.integers(side - size + 1) for side in image.shape[:2])
        found.append(np.ascontiguousarray(image[y : y + size, x : x + size]))
    return found


def disturbed(image: NDArray[np.uint8], seed: int, deviation: float = 12.0) -> NDArray[np.uint8]:
    """The image with Gaussian noise in every byte."""
    noise = np.random.default_rng(seed).normal(0, deviation, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def write_folder(folder: Path, images: list[NDArray[np.uint8]]) -> Path:
    """Images as numbered PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:05d}.png", compress_level=1)
    return folder
