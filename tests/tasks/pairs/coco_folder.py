"""Makes folders in COCO's layout from photographs that ship in packages, with discs and boxes on them as objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from qk_tasks.masks import encode_rle
from qk_tasks.photographs import pyramid

PHOTOS = ("flower", "rocket", "chelsea", "china", "coffee", "astronaut", "motorcycle", "grace_hopper")
CATEGORIES = ({"id": 1, "name": "ball"}, {"id": 2, "name": "sports car"}, {"id": 3, "name": "apple"})
_COLOURS = np.array([(200, 60, 50), (70, 110, 190), (220, 190, 80), (90, 150, 80), (150, 90, 160)])


def photograph(number: int, width: int, height: int) -> np.ndarray:
    """A crop of a shipped photograph, another one for each number."""
    random = np.random.default_rng(number)
    photo = pyramid(PHOTOS[number % len(PHOTOS)])[0]
    scale = (0.75 + 0.25 * random.random()) * min(photo.width / width, photo.height / height)
    w, h = width * scale, height * scale
    x, y = random.random() * (photo.width - w), random.random() * (photo.height - h)
    return np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS, box=(x, y, x + w, y + h))).copy()


def objects(pixels: np.ndarray, number: int) -> list[tuple[int, np.ndarray, list[float]]]:
    """Draw three lit objects: the category, mask and outline of each."""
    random = np.random.default_rng(1000 + number)
    height, width = pixels.shape[:2]
    ys, xs = np.mgrid[:height, :width] + 0.5
    placed = []
    for k, category in enumerate((1, 2, 3)):
        r = (0.08 + 0.03 * random.random()) * min(width, height)
        side = min(width, height)
        cx = (width - side) / 2 + side * (0.22 + 0.28 * k)
        cy = side * (0.2 + 0.6 * random.random())
        if category == 2:
            outline = [
                cx - 1.3 * r,
                cy - 0.7 * r,
                cx + 1.3 * r,
                cy - 0.7 * r,
                cx + 1.3 * r,
                cy + 0.7 * r,
                cx - 1.3 * r,
                cy + 0.7 * r,
            ]
            mask = (np.abs(xs - cx) < 1.3 * r) & (np.abs(ys - cy) < 0.7 * r)
        else:
            turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
            outline = np.stack([cx + r * np.cos(turn), cy + r * np.sin(turn)], axis=1).ravel().tolist()
            mask = (xs - cx) ** 2 + (ys - cy) ** 2 < r * r
        light = 0.75 + 0.35 * np.clip(1 - ((xs - cx + r / 3) ** 2 + (ys - cy + r / 3) ** 2) / (2.5 * r * r), 0, 1)
        grain = 1 + 0.05 * random.standard_normal((height, width))
        colour = _COLOURS[(number + k) % len(_COLOURS)]
        pixels[mask] = np.clip(colour * (light * grain)[mask][:, None], 0, 255).astype(np.uint8)
        placed.append((category, mask, [round(float(v), 2) for v in outline]))
    return placed


def make(
    folder: Path, count: int, width: int = 320, height: int = 240, spoil: Callable[[dict[str, Any]], None] | None = None
) -> Path:
    """Write `count` photographs with three objects each: outlines, and run lengths for every third one."""
    images, annotations = [], []
    (folder / "annotations").mkdir(parents=True)
    (folder / "val2017").mkdir()
    for number in range(count):
        pixels = photograph(number, width, height)
        for category, mask, outline in objects(pixels, number):
            segmentation: Any = [outline]
            if number % 3 == 0:
                segmentation = {"size": [height, width], "counts": encode_rle(mask)}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": category,
                    "iscrowd": 0,
                    "segmentation": segmentation,
                }
            )
        name = f"{number + 1:012d}.jpg"
        Image.fromarray(pixels).save(folder / "val2017" / name, quality=95)
        images.append(
            {
                "id": number + 1,
                "file_name": name,
                "width": width,
                "height": height,
                "license": 4,
                "flickr_url": f"photo {number + 1}",
            }
        )
    data = {
        "images": images, "annotations": annotations, "categories": list(CATEGORIES),
        "licenses": [{"id": 4, "name": "Attribution License", "url": "CC-BY-2.0"}],
    }  # fmt: skip
    if spoil:
        spoil(data)
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(data))
    return folder
