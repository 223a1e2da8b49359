"""Fits shapes to what is seen of an object: where it is, how large, and how well a shape explains it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from qk_tasks.scenes.render import Box, Float, coverage
from qk_tasks.scenes.world import Obj

SIZE_NOISE = 0.10  # relative error of a fitted radius within which an object has the size it should have
ASIDE = 60.0  # distance in sRGB from the line between background and object, from which a pixel is something else
# Y and a third of Cb and Cr of ITU-R BT.601, the colour space of JPEG.
_OPPONENT = np.array([[0.299, 0.587, 0.114], [-0.0562, -0.1104, 0.1667], [0.1667, -0.1396, -0.0271]], dtype=np.float32)


@dataclass(frozen=True)
class Moments:
    """A shape of radius 1: its area and its centroid."""

    area: float
    x: float
    y: float


@cache
def shape_moments(shape: str) -> Moments:
    """Moments of a shape, from a fine drawing."""
    side = 512
    (rows, columns), cover = coverage(Obj(0, shape, "red", "large", 0.5, 0.5, 0.4), side)
    y, x = (((np.arange(side) + 0.5) / side - 0.5) / 0.4 for _ in range(2))
    x, y = x[columns], y[rows]
    mass = float(cover.sum())
    cx, cy = float(cover.sum(axis=0) @ x / mass), float(cover.sum(axis=1) @ y / mass)
    return Moments(mass / (0.4 * side) ** 2, cx, cy)


@dataclass(frozen=True)
class Fit:
    """A shape fitted to a map of opacities by its centroid and area.

    Attributes:
        x: Centre, fraction of the side; so are `y` and the radius `r`.
        mass: Sum of the map, in pixels.
        error: Squared difference between map and fitted shape, over the squared sum of the shape.
        box: Where the map lies in the image.
        weight: The map.
    """

    x: float
    y: float
    r: float
    mass: float
    error: float
    box: Box
    weight: Float


def fit_shape(weight: Float, box: Box, shape: str, side: int) -> Fit:
    """Fit a shape to an (h, w) map of firm opacities that lies at `box` in an image of `side` pixels."""
    centres = (np.arange(side) + 0.5) / side
    across, down = weight.sum(axis=0), weight.sum(axis=1)
    mass = float(across.sum()) + 1e-6
    moments = shape_moments(shape)
    r = (mass / moments.area) ** 0.5 / side
    x = float(across @ centres[box[1]] / mass) - moments.x * r
    y = float(down @ centres[box[0]] / mass) - moments.y * r
    drawn_box, cover = coverage(Obj(0, shape, "red", "large", x, y, r), side)
    drawn = np.zeros((side, side), dtype=np.float32)
    drawn[drawn_box] = firm(cover)
    error = float(((drawn[box] - weight) ** 2).sum() / max(float((drawn**2).sum()), 1.0))
    return Fit(x, y, r, mass, error, box, weight)


def firm(opacity: Float) -> Float:
    """Opacities stretched about one half, so that neither a ghost nor a slight see-through changes an area."""
    return np.asarray(np.clip(2 * opacity - np.float32(0.5), 0, 1), dtype=np.float32)


def opacity_of(difference: Float, contrast: Float) -> Float:
    """How far each pixel has gone from the empty scene to the object's colour, made firm; arrays are (3, h, w).

    Lightness counts more than hue, since compression blurs hue. 0 where the pixel has gone to a third colour.
    """
    a, b = (np.tensordot(_OPPONENT, image, 1) for image in (difference, contrast))
    share = np.clip((a * b).sum(axis=0) / np.maximum((b**2).sum(axis=0), 1.0), 0, 1)
    aside = ((difference - share * contrast) ** 2).sum(axis=0)
    return firm(np.asarray(np.where(aside < ASIDE**2, share, 0), dtype=np.float32))


def settled(goal: Obj, found: Obj, pixel: float) -> Obj:
    """What was found, less what measuring adds: the goal itself, or its size, where the difference is negligible."""
    same_size = abs(found.r / goal.r - 1) < SIZE_NOISE
    if same_size and max(abs(found.x - goal.x), abs(found.y - goal.y)) < pixel:
        return goal
    return found._replace(r=goal.r) if same_size else found
