"""Draws faces from their parameters, anti-aliased, at any size; numpy only, so that a face is the same everywhere.

Each part is a signed distance to its outline in units of the head (negative inside), turned into a share of each pixel.
Parts are painted back to front; what of each is seen is kept, and is its mask.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qk_tasks.faces.person import BACKGROUNDS, FRAMES, HAIR, HATS, IRIS, LIPSTICK, SKIN, Colour, Face

Float = NDArray[np.float32]
PARTS: Final = ("background", "cloth", "skin", "hair", "brows", "eyes", "nose", "lips", "teeth", "glasses", "hat")
CLOTH: Final[Colour] = (70, 84, 104)


class Picture(NamedTuple):
    """A drawn face.

    Attributes:
        image: (R, R, 3) uint8 sRGB.
        parts: For each of `PARTS` the (R, R) float32 share of each pixel where it is seen.
    """

    image: NDArray[np.uint8]
    parts: dict[str, Float]


def draw(face: Face, resolution: int) -> Picture:
    """Draw a face at `resolution` pixels a side."""
    canvas = _Canvas(face, resolution)
    _draw_background(canvas, face)
    _draw_head(canvas, face)
    _draw_features(canvas, face)
    _draw_mouth(canvas, face)
    if face.look.glasses:
        _draw_glasses(canvas, face)
    if face.look.hat:
        _draw_hat(canvas, face)
    image = np.ascontiguousarray((np.clip(canvas.colours, 0, 255) + 0.5).astype(np.uint8).transpose(1, 2, 0))
    return Picture(image, canvas.parts)


class _Canvas:
    """The picture so far, and coordinates: `u` to the right and `v` down from the middle of the head."""

    def __init__(self, face: Face, resolution: int) -> None:
        centres = (np.arange(resolution, dtype=np.float32) + np.float32(0.5)) / resolution
        self.u: Float = ((centres - face.x) / face.scale)[None, :].astype(np.float32)  # (1, R)
        self.v: Float = ((centres - face.y) / face.scale)[:, None].astype(np.float32)  # (R, 1)
        self._pixels = np.float32(face.scale * resolution)  # pixels per unit of distance
        self.colours: Float = np.zeros((3, resolution, resolution), np.float32)
        self.parts: dict[str, Float] = {name: np.zeros((resolution, resolution), np.float32) for name in PARTS}

    def fill(self, part: str, distance: Float, colour: Colour) -> None:
        """Paint a part over what is there."""
        self.paint(part, np.clip(np.float32(0.5) - distance * self._pixels, 0, 1).astype(np.float32), colour)

    def paint(self, part: str, share: Float, colour: Colour) -> None:
        """Paint a colour by the share of each pixel that it covers."""
        for plane, value in zip(self.colours, colour, strict=True):
            plane += share * (np.float32(value) - plane)
        for seen in self.parts.values():
            seen *= 1 - share
        self.parts[part] += share


def _ellipse(u: Float, v: Float, x: float, y: float, a: float, b: float) -> Float:
    radius = np.sqrt(((u - x) / a) ** 2 + ((v - y) / b) ** 2)
    return np.asarray((radius - 1) * min(a, b), np.float32)


def _capsule(u: Float, v: Float, start: tuple[float, float], end: tuple[float, float], radius: float) -> Float:
    dx, dy = end[0] - start[0], end[1] - start[1]
    t = np.clip(((u - start[0]) * dx + (v - start[1]) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
    return np.asarray(np.hypot(u - start[0] - t * dx, v - start[1] - t * dy) - radius, np.float32)


def _box(u: Float, v: Float, x: float, y: float, width: float, height: float) -> Float:
    """A box of half sides `width` and `height` with rounded corners."""
    corner = 0.25 * min(width, height)
    dx, dy = np.abs(u - x) - (width - corner), np.abs(v - y) - (height - corner)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return np.asarray(outside + np.minimum(np.maximum(dx, dy), 0) - corner, np.float32)


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


class _Head(NamedTuple):
    """Sizes that several parts share, in units of the head."""

    a: float  # half width
    b: float  # half height
    eye_x: float
    eye_y: float

    @classmethod
    def of(cls, face: Face) -> _Head:
        feature = face.person.feature
        a, b = 0.195 + 0.06 * feature("face_width"), 0.275 + 0.05 * feature("face_height")
        return cls(a, b, a * (0.36 + 0.16 * feature("eye_spacing")), b * (-0.16 + 0.14 * feature("eye_height")))


def _draw_background(canvas: _Canvas, face: Face) -> None:
    everywhere = np.ones_like(canvas.parts["background"])
    colour = BACKGROUNDS[face.look.background]
    canvas.paint("background", everywhere, colour)
    shade = np.linspace(0.0, 0.14, everywhere.shape[0], dtype=np.float32)[:, None] * everywhere  # darker below
    canvas.paint("background", shade, _mixed(colour, (0, 0, 0), 0.8))


def _draw_head(canvas: _Canvas, face: Face) -> None:
    u, v, person = canvas.u, canvas.v, face.person
    head, skin, hair = _Head.of(face), SKIN[person.skin], HAIR[face.look.hair]
    a, b = head.a, head.b
    if person.style in ("bob", "long"):
        low = 0.62 if person.style == "bob" else 1.25
        canvas.fill("hair", _ellipse(u, v, 0, -0.1 * b + 0.35 * low * b, 1.3 * a, (0.75 + 0.45 * low) * b), hair)
    if person.style == "bun":
        canvas.fill("hair", _ellipse(u, v, 0, -1.22 * b, 0.4 * a, 0.4 * a), hair)
    canvas.fill("skin", _box(u, v, 0, 1.1 * b, 0.42 * a, 0.4 * b), _mixed(skin, (0, 0, 0), 0.16))
    canvas.fill("cloth", _ellipse(u, v, 0, 2.15 * b, 2.1 * a, 0.9 * b), CLOTH)
    for side in (-1, 1):
        canvas.fill("skin", _ellipse(u, v, side * a, 0.02, 0.16 * a, 0.16 * b), _mixed(skin, (0, 0, 0), 0.1))
    narrowing = 1 - (0.1 + 0.3 * person.feature("jaw")) * np.clip(v / b, 0, 1) ** 1.5
    radius = np.sqrt((u / (a * narrowing)) ** 2 + (v / b) ** 2)
    outline = np.asarray((radius - 1) * a, np.float32)
    canvas.fill("skin", outline, skin)
    if person.mole:
        canvas.fill("skin", _ellipse(u, v, person.mole[0] * a, person.mole[1] * b, 0.013, 0.013), (70, 42, 32))
    cap = _ellipse(u, v, 0, -0.12 * b, 1.13 * a, 1.02 * b)
    wave = 0.03 * np.cos(u / a * (9 if person.style == "curly" else 2)) + 0.1 * b * (u / a) ** 2
    canvas.fill("hair", np.maximum(cap, np.asarray(v + 0.5 * b - wave, np.float32)), hair)
    if person.style == "curly":
        for k in range(7):
            angle = np.pi * (1.08 + 0.14 * k)
            x, y = 1.08 * a * float(np.cos(angle)), -0.2 * b + 0.95 * b * float(np.sin(angle))
            canvas.fill("hair", _ellipse(u, v, x, y, 0.075, 0.075), hair)


def _draw_features(canvas: _Canvas, face: Face) -> None:
    u, v, person = canvas.u, canvas.v, face.person
    head, skin = _Head.of(face), SKIN[person.skin]
    size = 0.034 + 0.018 * person.feature("eye_size")
    brow_y, tilt = head.eye_y - 0.075, 0.03 * (person.feature("brow_tilt") - 0.5)
    weight = 0.008 + 0.01 * person.feature("brow_weight")
    for side in (-1, 1):
        x = side * head.eye_x
        canvas.fill("eyes", _ellipse(u, v, x, head.eye_y, 1.25 * size, 0.8 * size), (244, 242, 238))
        canvas.fill("eyes", _ellipse(u, v, x, head.eye_y, 0.72 * size, 0.72 * size), IRIS[person.iris])
        canvas.fill("eyes", _ellipse(u, v, x, head.eye_y, 0.32 * size, 0.32 * size), (16, 14, 16))
        inner, outer = (x - side * 0.045, brow_y + tilt), (x + side * 0.05, brow_y - tilt)
        canvas.fill("brows", _capsule(u, v, inner, outer, weight), _mixed(skin, (20, 14, 10), 0.75))
    tip = head.eye_y + 0.09 + 0.07 * person.feature("nose_length")
    width = 0.022 + 0.02 * person.feature("nose_width")
    shade = _mixed(skin, (40, 10, 0), 0.28)
    canvas.fill("nose", _capsule(u, v, (0, head.eye_y + 0.03), (0, tip), 0.012), shade)
    canvas.fill("nose", _ellipse(u, v, 0, tip, width, 0.02), shade)


def _draw_mouth(canvas: _Canvas, face: Face) -> None:
    u, v, person = canvas.u, canvas.v, face.person
    head, skin = _Head.of(face), SKIN[person.skin]
    smile = face.look.smile
    width = head.a * (0.3 + 0.14 * person.feature("mouth_width")) * (1.35 if smile else 1.0)
    middle = head.b * (0.52 + 0.1 * person.feature("mouth_height"))
    across = np.clip(u / width, -1, 1)
    bow = middle + (0.075 if smile else -0.008) * (0.45 - across**2)  # (1, R): a smile lifts the corners
    half = (0.036 if smile else 0.026) * (1 - across**2)
    ends = np.abs(u) - width
    lips = np.asarray(np.maximum(np.abs(v - bow) - half, ends), np.float32)
    colour = LIPSTICK[face.look.lips] if face.look.lips else _mixed(skin, (150, 40, 40), 0.35)
    canvas.fill("lips", lips, colour)
    inner = np.asarray(np.maximum(np.abs(v - bow) - (0.42 if smile else 0.1) * half, ends), np.float32)
    if smile:
        canvas.fill("teeth", inner, (248, 248, 244))
    else:
        canvas.fill("lips", inner, _mixed(colour, (0, 0, 0), 0.4))


def _draw_glasses(canvas: _Canvas, face: Face) -> None:
    assert face.look.glasses is not None
    u, v, head = canvas.u, canvas.v, _Head.of(face)
    colour, shape = FRAMES[face.look.glasses[0]], face.look.glasses[1]
    size, frame = min(0.078, head.eye_x - 0.008), 0.011
    for side in (-1, 1):
        x = side * head.eye_x
        lens = _ellipse(u, v, x, head.eye_y, size, size) if shape == "round" else _box(
            u, v, x, head.eye_y, size, 0.8 * size
        )  # fmt: skip
        canvas.fill("glasses", np.asarray(np.abs(lens) - frame, np.float32), colour)
        ear = (side * 1.04 * head.a, head.eye_y - 0.01)
        canvas.fill("glasses", _capsule(u, v, (x + side * size, head.eye_y - 0.01), ear, 0.75 * frame), colour)
    inner = head.eye_x - size
    canvas.fill("glasses", _capsule(u, v, (-inner, head.eye_y), (inner, head.eye_y), 0.75 * frame), colour)


def _draw_hat(canvas: _Canvas, face: Face) -> None:
    assert face.look.hat is not None
    u, v, head = canvas.u, canvas.v, _Head.of(face)
    colour, brim = HATS[face.look.hat], -0.66 * head.b
    crown = _ellipse(u, v, 0, brim, 1.2 * head.a, 0.78 * head.b)
    canvas.fill("hat", np.maximum(crown, np.asarray(v - brim, np.float32)), colour)
    ends = 1.5 * head.a
    canvas.fill("hat", _capsule(u, v, (-ends, brim), (ends, brim), 0.026), _mixed(colour, (0, 0, 0), 0.25))
