"""The four edits of a photograph whose objects have masks: recolour, remove, insert, move.

Each takes a square photograph and masks of its objects and gives the pair's other image, or raises `RejectedError` where
the result would not be a fair question. All work happens in the box around the edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from qk_tasks.pairs.vision import Bool, Float, Image, box_of, cv, grow, shrink, smooth, to_lab, to_rgb
from qk_tasks.scenes.world import COLOURS

FILL_SIDE = 32  # holes are filled at this size: finer, what is beside them goes on into them
MAX_DETAIL = 11.0  # standard deviation of the surroundings' lightness detail above which a fill would show
MAX_STRUCTURE = 14.0  # root mean square CIE76 between the surroundings and the plane that fits them best, likewise
LIGHT = (18.0, 88.0)  # mean lightness between which a region can take a colour

_ALL = {**COLOURS, "brown": (120, 75, 40), "black": (22, 22, 24), "grey": (128, 128, 128), "white": (240, 240, 240)}
_names = np.array([list(_ALL.values())], dtype=np.uint8)  # (1, n, 3)


class RejectedError(Exception):
    """Why an instance makes no pair of some operation: a short fixed phrase, counted in the data card."""


@dataclass(frozen=True)
class Layer:
    """A region with its soft edge, within its box."""

    box: tuple[slice, slice]
    alpha: Float  # (h, w) in [0, 1]


def soften(mask: Bool, sigma: float, pad: int) -> Layer:
    """A mask feathered by a Gaussian of `sigma` pixels, in its box grown by `pad`."""
    height, width = mask.shape
    x0, y0, x1, y1 = box_of(mask)
    box = slice(max(0, y0 - pad), min(height, y1 + pad)), slice(max(0, x0 - pad), min(width, x1 + pad))
    alpha = smooth(mask[box].astype(np.float32), sigma)
    return Layer(box, np.where(alpha < 0.02, np.float32(0), np.minimum(alpha, np.float32(1))))


def blend(below: Image, above: Image, alpha: Float) -> Image:
    """`above` over `below`, both (h, w, 3); where alpha is 0 or 1 nothing is rounded."""
    a = alpha[..., None]
    mixed = below + a * (above.astype(np.float32) - below)
    return np.asarray(mixed + np.float32(0.5), dtype=np.uint8)


def colour_name(colour: Float) -> str:
    """The name nearest to a Lab colour, of the suite's eight and brown, black, grey and white."""
    palette = to_lab(_names)[0]
    return list(_ALL)[int(np.argmin(((palette - colour) ** 2).sum(axis=1)))]


def lab_of(name: str) -> Float:
    """The Lab colour (3,) of a named one."""
    return np.asarray(to_lab(np.array([[_ALL[name]]], dtype=np.uint8))[0, 0], dtype=np.float32)


def choose_colour(image: Image, mask: Bool, random: Random) -> str:
    """A colour that a region clearly has not.

    Raises:
        RejectedError: The region is too dark or too bright to show a colour.
    """
    x0, y0, x1, y1 = box_of(mask)
    mean = to_lab(image[y0:y1, x0:x1])[mask[y0:y1, x0:x1]].mean(axis=0)
    if not LIGHT[0] <= mean[0] <= LIGHT[1]:
        raise RejectedError("too dark or too bright to recolour")
    far = [name for name in COLOURS if np.hypot(*(lab_of(name) - mean)[1:]) > 40]
    return random.choice(far)


def recolour(image: Image, mask: Bool, colour: str) -> Image:
    """Give a region a colour and keep its texture.

    In CIE Lab: lightness keeps its detail and moves a little towards the colour's; a* and b* become the colour's, in
    proportion to lightness, as a lit surface has them, with a part of their own variation.

    Raises:
        RejectedError: The colour lies too far outside of sRGB at this lightness.
    """
    layer = soften(mask, sigma=0.8, pad=3)
    part, inside = image[layer.box], mask[layer.box]
    lab, asked = to_lab(part), lab_of(colour)
    mean = lab[inside].mean(axis=0)
    level = mean[0] + np.clip(0.6 * (asked[0] - mean[0]), -25, 25)
    new = np.empty_like(lab)
    new[..., 0] = np.clip(lab[..., 0] - mean[0] + level, 2, 98)
    lit = np.clip(new[..., :1] / max(level, 10.0), 0.35, 1.3)
    new[..., 1:] = asked[1:] * lit + np.float32(0.25) * (lab[..., 1:] - mean[1:])
    result = image.copy()
    result[layer.box] = blend(part, to_rgb(new), layer.alpha)
    reached = to_lab(result[layer.box])[inside].mean(axis=0)
    if np.hypot(*(reached - asked)[1:]) > 32:
        raise RejectedError("the colour cannot be reached at this lightness")
    return result


def hole_of(mask: Bool) -> Bool:
    """What is filled when an object is taken away: its mask, and the soft edge and the annotator's slack around it."""
    return grow(mask, max(2, round(0.012 * mask.shape[0])))


def fill(image: Image, mask: Bool, others: Bool, noise: np.random.Generator) -> Image:
    """Take an object away: inpaint its place (biharmonic) and give it the grain of its surroundings.

    Args:
        image: (R, R, 3) uint8.
        mask: The object, (R, R).
        others: All other objects, of which nothing is to be seen in the fill.
        noise: Of the grain.

    Raises:
        RejectedError: There is too little around it to fill from, or what is there has so much detail, or so many colours
            besides a gradient, that a fill shows.
    """
    from skimage.restoration import inpaint_biharmonic

    size = mask.shape[0]
    hole = hole_of(mask)
    layer = soften(hole, sigma=1.0, pad=max(8, size // 20))
    part, inside = image[layer.box], grow(hole, 2)[layer.box]
    unknown = inside | others[layer.box]
    ring = ~unknown
    if ring.mean() < 0.25:
        raise RejectedError("too little around it to fill its place from")
    lightness = to_lab(part)[..., 0]
    detail = lightness - smooth(lightness, 0.01 * size)
    if detail[ring].std() > MAX_DETAIL:
        raise RejectedError("surroundings too detailed to fill its place")
    height, width = inside.shape
    scale = min(1.0, FILL_SIDE / max(height, width))
    small = (max(8, round(width * scale)), max(8, round(height * scale)))
    low = np.asarray(shrink(part, *small), np.uint8)
    at = shrink(unknown.astype(np.float32), *small) > 1e-6
    if at.all() or _structure(to_lab(low), ~at) > MAX_STRUCTURE:
        raise RejectedError("surroundings of too many colours to fill its place")
    filled = 255 * inpaint_biharmonic(low, at, channel_axis=-1)
    filled = np.clip(filled, *np.percentile(low[~at], (1, 99), axis=0)).astype(np.float32)  # it overshoots beside edges
    filled = cv().resize(filled, (width, height), interpolation=cv().INTER_CUBIC)
    fine = (lightness - smooth(lightness, 1.2))[ring]
    spread = 1.4826 * np.median(np.abs(fine - np.median(fine)))  # a standard deviation that single edges do not rule
    grain = noise.standard_normal((height, width), np.float32) * np.float32(spread * 2.55)
    filled = np.asarray(np.clip(filled + grain[..., None], 0, 255), np.uint8)
    result = image.copy()
    result[layer.box] = blend(part, filled, np.where(hole[layer.box], np.float32(1), layer.alpha))
    return result


def _structure(lab: Float, at: Bool) -> float:
    """How far the Lab colours of some pixels are from the plane that fits them best: root mean square, CIE76."""
    ys, xs = np.nonzero(at)
    plane = np.stack([np.ones(ys.size), ys, xs], axis=1)
    left = lab[at] - plane @ np.linalg.lstsq(plane, lab[at], rcond=None)[0]
    return float(np.sqrt((left**2).sum(axis=1).mean()))


def places_to_go(mask: Bool, others: Bool, random: Random) -> tuple[int, int]:
    """A displacement (dx, dy) in pixels, along one axis, to where an object lies free of others and of its old place.

    Raises:
        RejectedError: There is none.
    """
    size = mask.shape[0]
    x0, y0, x1, y1 = box_of(mask)
    taken = hole_of(mask) | others
    steps = [
        (sign * round(share * size), axis) for share in (0.2, 0.3, 0.4, 0.5) for sign in (-1, 1) for axis in (0, 1)
    ]
    random.shuffle(steps)
    for step, axis in steps:
        dx, dy = (step, 0) if axis == 0 else (0, step)
        if x0 + dx < 2 or y0 + dy < 2 or x1 + dx > size - 2 or y1 + dy > size - 2:
            continue
        if not (taken[y0 + dy : y1 + dy, x0 + dx : x1 + dx] & mask[y0:y1, x0:x1]).any():
            return dx, dy
    raise RejectedError("no free place to move it to")


def move(image: Image, filled: Image, mask: Bool, dx: int, dy: int) -> Image:
    """Cut an object out of `image` and paste it, feathered, onto `filled` (the image without it), `dx`, `dy` away."""
    height, width = mask.shape
    layer = soften(mask, sigma=0.8, pad=3)
    rows, columns = layer.box
    y0, y1 = max(0, rows.start + dy), min(height, rows.stop + dy)
    x0, x1 = max(0, columns.start + dx), min(width, columns.stop + dx)
    there = slice(y0, y1), slice(x0, x1)
    here = slice(y0 - dy, y1 - dy), slice(x0 - dx, x1 - dx)
    within = slice(y0 - dy - rows.start, y1 - dy - rows.start), slice(x0 - dx - columns.start, x1 - dx - columns.start)
    result = filled.copy()
    result[there] = blend(filled[there], image[here], layer.alpha[within])
    return result
