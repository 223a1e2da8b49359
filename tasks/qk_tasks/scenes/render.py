"""Draws a scene graph at any resolution, anti-aliased, with signed distances evaluated on each object's own box.

Pure numpy on float32, no random state: the same scene gives the same bytes in every process. Colours are blended in
sRGB, as nearly all image software does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from random import Random

import numpy as np
from numpy.typing import NDArray

from qk_tasks.photographs import pyramid
from qk_tasks.scenes.world import COLOURS, Background, Obj, Scene

Float = NDArray[np.float32]
Box = tuple[slice, slice]


def _star(x: Float, y: Float) -> Float:
    """A five-pointed star: one half point, reflected; outer radius 1, inner radius 0.45."""
    angle = np.arctan2(np.abs(x), -y)  # 0 at the top point, in [0, π]
    fold = np.abs(np.mod(angle + np.pi / 5, 2 * np.pi / 5) - np.pi / 5)
    radius = np.sqrt(x * x + y * y)
    px, py = radius * np.cos(fold), radius * np.sin(fold)  # the edge runs from (1, 0) to (ix, iy)
    ix, iy = 0.45 * np.cos(np.pi / 5), 0.45 * np.sin(np.pi / 5)
    length = np.hypot(1 - ix, iy)
    return np.asarray(((px - 1) * iy + py * (1 - ix)) / length, dtype=np.float32)


def _heart(x: Float, y: Float) -> Float:
    """Two discs, and between them and the tip a wedge bounded by the common tangents and the radii to them."""
    x, y = np.abs(x), y + np.float32(0.06)
    disc = np.sqrt((x - np.float32(0.42)) ** 2 + (y + np.float32(0.28)) ** 2) - np.float32(0.48)
    nx, ny = np.float32(0.7660), np.float32(0.6428)  # normal of the tangent
    wedge = np.maximum(np.maximum(nx * x + ny * y - np.float32(0.6217), ny * x - nx * y - np.float32(0.4845)), -0.28 - y)
    return np.asarray(np.minimum(disc, wedge), dtype=np.float32)


def _triangle(x: Float, y: Float) -> Float:
    y = y - np.float32(0.06)
    return np.maximum(np.float32(0.8660) * np.abs(x) - np.float32(0.5) * y, y) - np.float32(0.5)


# Each takes coordinates in units of the object's radius and returns the signed distance in the same unit, < 0 inside.
_SDF: dict[str, Callable[[Float, Float], Float]] = {
    "circle": lambda x, y: np.sqrt(x * x + y * y) - np.float32(0.88),
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - np.float32(0.70),
    "triangle": _triangle,
    "diamond": lambda x, y: np.float32(0.8192) * np.abs(x) + np.float32(0.5736) * np.abs(y) - np.float32(0.5736),
    "star": _star,
    "ring": lambda x, y: np.abs(np.sqrt(x * x + y * y) - np.float32(0.69)) - np.float32(0.25),
    "cross": lambda x, y: np.minimum(
        np.maximum(np.abs(x) - np.float32(0.90), np.abs(y) - np.float32(0.28)),
        np.maximum(np.abs(x) - np.float32(0.28), np.abs(y) - np.float32(0.90)),
    ),
    "heart": _heart,
}


# Canvases are planar, (3, R, R): numpy is several times faster on rows of pixels than on triples.
_RGB = {name: np.array(rgb, dtype=np.float32).reshape(3, 1, 1) for name, rgb in COLOURS.items()}


@cache
def _centres(resolution: int) -> Float:
    return np.asarray((np.arange(resolution) + 0.5) / resolution, dtype=np.float32)


@lru_cache(maxsize=32)
def coverage(obj: Obj, resolution: int) -> tuple[Box, Float]:
    """How much of each pixel an object covers.

    Returns:
        The (rows, columns) box of the image that holds the object, and the (h, w) coverage there, in [0, 1].
        The array is read-only: it is shared between calls.
    """
    pad = 1.0 / resolution
    reach = obj.r + pad
    rows = slice(max(0, int((obj.y - reach) * resolution)), min(resolution, int((obj.y + reach) * resolution) + 1))
    columns = slice(max(0, int((obj.x - reach) * resolution)), min(resolution, int((obj.x + reach) * resolution) + 1))
    centres = _centres(resolution)
    x = (centres[columns] - np.float32(obj.x))[None, :] / np.float32(obj.r)
    y = (centres[rows] - np.float32(obj.y))[:, None] / np.float32(obj.r)
    distance = _SDF[obj.shape](x, y) * np.float32(obj.r * resolution)  # in pixels
    cover = np.clip(np.float32(0.5) - distance, 0.0, 1.0)
    cover.setflags(write=False)
    return (rows, columns), cover


def draw(canvas: Float, obj: Obj) -> None:
    """Blend one object into a (3, R, R) float32 canvas, in place."""
    (rows, columns), cover = coverage(obj, canvas.shape[1])
    area = canvas[:, rows, columns]
    area += cover * (_RGB[obj.colour] - area)


def paint(scene: Scene, resolution: int) -> Float:
    """The scene as a (3, R, R) float32 image in [0, 255], before rounding."""
    canvas = background(scene.background, resolution).copy()
    for obj in scene.objects:
        draw(canvas, obj)
    return canvas


def render(scene: Scene, resolution: int) -> NDArray[np.uint8]:
    """The scene as an (R, R, 3) uint8 sRGB image."""
    return quantise(paint(scene, resolution))


def quantise(canvas: Float) -> NDArray[np.uint8]:
    """Round a (3, R, R) image in [0, 255] to an (R, R, 3) uint8 one."""
    return np.ascontiguousarray((canvas + np.float32(0.5)).astype(np.uint8).transpose(1, 2, 0))


def visible(scene: Scene, resolution: int) -> dict[int, tuple[Box, Float]]:
    """For each object id its box and the (h, w) share of each pixel where it is seen, what covers it taken away."""
    result: dict[int, tuple[Box, Float]] = {}
    above = np.ones((resolution, resolution), dtype=np.float32)
    for obj in reversed(scene.objects):
        box, cover = coverage(obj, resolution)
        result[obj.id] = (box, cover * above[box])
        above[box] *= 1 - cover
    return result


@lru_cache(maxsize=8)
def background(spec: Background, resolution: int) -> Float:
    """The (3, R, R) float32 background in [0, 255]. Read-only: it is shared between calls."""
    canvas = _photo(spec, resolution) if spec.kind == "photo" else _procedural(spec, resolution)
    canvas.setflags(write=False)
    return canvas


def _photo(spec: Background, resolution: int) -> Float:
    """A square crop, muted: most of its colour and half of its contrast taken away, so that objects keep their contrast."""
    levels = pyramid(spec.photo)
    short = min(levels[0].size)
    x, y, side = (v * short for v in spec.crop)
    level = max((k for k in range(len(levels)) if side / 2**k >= resolution), default=0)
    box = tuple(v / 2**level for v in (x, y, x + side, y + side))
    box = (box[0], box[1], min(box[2], levels[level].width), min(box[3], levels[level].height))
    crop = np.asarray(levels[level].resize((resolution, resolution), box=box), dtype=np.float32).transpose(2, 0, 1)
    grey = crop.mean(axis=0)
    flat = 0.3375 * grey.mean() + 0.1125 * 128
    return np.asarray(0.25 * crop + (0.3 * grey + flat), dtype=np.float32)


def _procedural(spec: Background, resolution: int) -> Float:
    """A smooth field of muted colours from a small control grid, with stripes or checks of low contrast over it."""
    rng = Random(spec.seed)
    cells = {"gradient": 2, "clouds": 5}.get(spec.kind, 3)
    spread = {"gradient": 34.0, "clouds": 30.0}.get(spec.kind, 16.0)
    level = 90 + 90 * rng.random()
    tint = [24 * (rng.random() - 0.5) for _ in range(3)]
    shades = [level + spread * (2 * rng.random() - 1) for _ in range(cells**2)]
    grid = np.array([[s + t + 10 * (rng.random() - 0.5) for s in shades] for t in tint], dtype=np.float32)
    weights = _weights(cells, resolution)
    canvas = np.asarray(weights @ grid.reshape(3, cells, cells) @ weights.T, dtype=np.float32)
    if spec.kind in ("stripes", "checks"):
        angle, frequency, phase = np.pi * rng.random(), 3 + 4 * rng.random(), 2 * np.pi * rng.random()
        amplitude = np.float32(9 + 7 * rng.random())
        u = 2 * np.pi * frequency * _centres(resolution)
        if spec.kind == "stripes":  # sin(a x + b y + c) by its addition theorem: two outer products
            ax, by = u * np.float32(np.cos(angle)), u * np.float32(np.sin(angle)) + np.float32(phase)
            wave = np.outer(np.sin(by), np.cos(ax)) + np.outer(np.cos(by), np.sin(ax))
        else:
            wave = np.outer(np.clip(3 * np.sin(u + phase), -1, 1), np.clip(3 * np.sin(u), -1, 1))
        canvas += amplitude * wave.astype(np.float32)
    return np.clip(canvas, 0, 255, out=canvas)


@cache
def _weights(cells: int, resolution: int) -> Float:
    """(R, cells) weights that interpolate control points smoothly (smoothstep between neighbours)."""
    position = np.clip(_centres(resolution).astype(np.float64) * (cells - 1), 0, cells - 1 - 1e-9)
    left = position.astype(int)
    t = position - left
    t = t * t * (3 - 2 * t) if cells > 2 else t
    weights = np.zeros((resolution, cells), dtype=np.float32)
    weights[np.arange(resolution), left] = 1 - t
    weights[np.arange(resolution), left + 1] = t
    return weights
