"""Draws a scene graph at any resolution, anti-aliased, with signed distances evaluated on each object's own box.

The same scene gives the same bytes everywhere: images are made by sums, products, square roots and roundings alone,
which every processor does alike (matrix products and vectorised sines are not so). Colours are blended in sRGB, as
nearly all image software does.
"""

from __future__ import annotations

import math
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
    """A five-pointed star, outer radius 1, inner radius 0.45: folded onto one edge by two reflections."""
    cos, sin = np.float32(0.809016994), np.float32(0.587785252)  # of 36°
    two = np.float32(2)
    x, y = np.abs(x), -y
    fold = two * np.maximum(cos * x - sin * y, 0)
    x, y = x - fold * cos, y + fold * sin
    fold = two * np.maximum(-cos * x - sin * y, 0)
    x, y = np.abs(x + fold * cos), y + fold * sin - np.float32(1)
    edge_x, edge_y = 0.45 * 0.587785252, 0.45 * 0.809016994 - 1
    length = (edge_x**2 + edge_y**2) ** 0.5
    return np.float32(edge_x / length) * y - np.float32(edge_y / length) * x


def _heart(x: Float, y: Float) -> Float:
    """Two discs, and between them and the tip a wedge bounded by the common tangents and the radii to them."""
    x, y = np.abs(x), y + np.float32(0.06)
    disc = np.sqrt((x - np.float32(0.42)) ** 2 + (y + np.float32(0.28)) ** 2) - np.float32(0.48)
    nx, ny = np.float32(0.7660), np.float32(0.6428)  # normal of the tangent
    tangent, radius = nx * x + ny * y - np.float32(0.6217), ny * x - nx * y - np.float32(0.4845)
    wedge = np.maximum(np.maximum(tangent, radius), -0.28 - y)
    return np.asarray(np.minimum(disc, wedge), dtype=np.float32)


def _triangle(x: Float, y: Float) -> Float:
    y = y - np.float32(0.06)
    return np.asarray(np.maximum(np.float32(0.8660) * np.abs(x) - np.float32(0.5) * y, y) - np.float32(0.5), np.float32)


# Each takes coordinates in units of the object's radius and returns the signed distance in the same unit, < 0 inside.
_SDF: dict[str, Callable[[Float, Float], Float]] = {
    "circle": lambda x, y: np.sqrt(x * x + y * y) - np.float32(0.88),
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - np.float32(0.70),
    "triangle": _triangle,
    "diamond": lambda x, y: np.abs(np.float32(0.8192) * x) + np.abs(np.float32(0.5736) * y) - np.float32(0.5736),
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


def render_pair(source: Scene, target: Scene, resolution: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both scenes of an edit, on one background, as `render` draws them; what lies below the edit is drawn once."""
    pairs = zip(source.objects, target.objects, strict=False)
    shared = next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(source.objects), len(target.objects)))
    below = paint(Scene(source.background, source.objects[:shared]), resolution)
    images = []
    for scene in (source, target):
        canvas = below.copy()
        for obj in scene.objects[shared:]:
            draw(canvas, obj)
        images.append(quantise(canvas))
    return images[0], images[1]


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
    """A square crop with most of its colour and half of its contrast taken away, so that objects stand out."""
    levels = pyramid(spec.photo)
    short = min(levels[0].size)
    x, y, side = (v * short for v in spec.crop)
    level = max((k for k in range(len(levels)) if side / 2**k >= resolution), default=0)
    box = tuple(v / 2**level for v in (x, y, x + side, y + side))
    box = (box[0], box[1], min(box[2], levels[level].width), min(box[3], levels[level].height))
    pixels = np.asarray(levels[level].resize((resolution, resolution), box=box))
    flat = np.float32(0.3375 * float(pixels.mean()) + 0.1125 * 128)
    red, green, blue = np.asarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    grey = np.float32(0.1) * (red + green + blue) + flat
    return np.stack([np.float32(0.25) * channel + grey for channel in (red, green, blue)])


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
    grid = grid.reshape(3, cells, cells, 1)
    rows = sum((grid[:, :, k] * weights[:, k] for k in range(1, cells)), grid[:, :, 0] * weights[:, 0])  # (3, cells, R)
    canvas = rows[:, :1] * weights[:, :1]
    for k in range(1, cells):
        canvas += rows[:, k : k + 1] * weights[:, k : k + 1]  # (3, R, R)
    if spec.kind in ("stripes", "checks"):
        angle, frequency, phase = np.pi * rng.random(), 3 + 4 * rng.random(), 2 * np.pi * rng.random()
        amplitude = np.float32(9 + 7 * rng.random())
        u = 2 * np.pi * frequency * _centres(resolution).astype(np.float64)
        if spec.kind == "stripes":  # sin(a x + b y + c) by its addition theorem: two outer products
            ax, by = u * math.cos(angle), u * math.sin(angle) + phase
            pairs = [(np.sin(by), np.cos(ax)), (np.cos(by), np.sin(ax))]
        else:
            pairs = [(np.clip(3 * np.sin(u + phase), -1, 1), np.clip(3 * np.sin(u), -1, 1))]
        for down, across in pairs:
            canvas += (amplitude * down.astype(np.float32))[:, None] * across.astype(np.float32)
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
