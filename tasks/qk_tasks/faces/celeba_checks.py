"""What the masks of CelebAMask-HQ decide about an edited portrait, and the composites that satisfy it.

Thresholds are chosen here and told in docs/faces.md. A colour is judged by the median over the part's mask; taking
something off by whether what is inside its mask was replaced: necessary, not sufficient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qk_bench.images import resample
from qk_bench.records import Mask, Verdict
from qk_tasks.faces.person import BACKGROUNDS, LIPSTICK, Colour

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]

HAIR: Final[Mapping[str, Colour]] = {
    "black": (30, 26, 26), "brown": (96, 62, 40), "blond": (214, 180, 116), "grey": (160, 160, 162), "blue": (50, 80, 180),
}  # fmt: skip
PALETTES: Final[Mapping[str, Mapping[str, Colour]]] = {
    "hair_colour": HAIR,
    "lipstick": LIPSTICK,
    "background": BACKGROUNDS,
}
LEAST_CHANGE: Final = 8.0
"""CIE76 by which the median colour of a part must move."""
REPLACED: Final = 0.5
"""Share of the pixels of something to be taken off that must differ by more than `VISIBLE`."""
VISIBLE: Final = 10.0
STRAY: Final = 0.1
"""Share of the pixels outside the edit mask that may differ by more than `VISIBLE`."""


def recoloured(image: NDArray[np.uint8], mask: Mask, colour: Colour) -> NDArray[np.uint8]:
    """The image with a part brought to a colour: its median in CIE L*a*b* is moved there, its texture is kept.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) bool.
        colour: sRGB, 0 to 255.
    """
    from skimage.color import lab2rgb

    lab = _lab(image)
    lab[mask] += lab_of(colour) - np.median(lab[mask], axis=0)
    result = image.copy()
    result[mask] = (np.clip(lab2rgb(lab[mask]), 0, 1) * 255 + 0.5).astype(np.uint8)
    return result


def filled(image: NDArray[np.uint8], mask: Mask, colour: Colour) -> NDArray[np.uint8]:
    """The image with a part in one plain colour."""
    result = image.copy()
    result[mask] = colour
    return result


def judge_colour(task: str, source: NDArray[np.uint8], output: NDArray[np.uint8], mask: Mask, wanted: str) -> Verdict:
    """Whether a part has the colour asked for, and the rest is as it was.

    Args:
        task: A key of `PALETTES`.
        source: (H, W, 3) uint8.
        output: (H', W', 3) uint8.
        mask: (H, W) bool, the part.
        wanted: The colour asked for.
    """
    output = resample(output, source.shape[1], source.shape[0])
    before, after = (median_lab(image, mask) for image in (source, output))
    distances = {name: apart(after, lab_of(rgb)) for name, rgb in PALETTES[task].items()}
    nearest = min(distances, key=lambda name: distances[name])
    moved, stray = float(np.linalg.norm(after - before)), stray_share(source, output, mask)
    reason = ""
    if moved < LEAST_CHANGE:
        reason = f"not done: the colour moved by {moved:.1f}"
    elif nearest != wanted:
        reason = f"the colour is nearer to {nearest}"
    elif stray > STRAY:
        reason = f"changed elsewhere: {stray:.0%} of the rest"
    return Verdict(success=not reason, reason=reason, details={"moved": round(moved, 3), "stray": round(stray, 4)})


def judge_removal(source: NDArray[np.uint8], output: NDArray[np.uint8], part: Mask, edit_mask: Mask) -> Verdict:
    """Whether what is inside a part's mask was replaced, and the rest is as it was.

    Args:
        source: (H, W, 3) uint8.
        output: (H', W', 3) uint8.
        part: (H, W) bool, what was to be taken off.
        edit_mask: (H, W) bool, where the picture may change for it.
    """
    output = resample(output, source.shape[1], source.shape[0])
    replaced = float((_distance(source, output)[part] > VISIBLE).mean())
    stray = stray_share(source, output, edit_mask)
    reason = ""
    if replaced < REPLACED:
        reason = f"not done: {replaced:.0%} of it is replaced"
    elif stray > STRAY:
        reason = f"changed elsewhere: {stray:.0%} of the rest"
    return Verdict(
        success=not reason, reason=reason, details={"replaced": round(replaced, 4), "stray": round(stray, 4)}
    )


def stray_share(source: NDArray[np.uint8], output: NDArray[np.uint8], mask: Mask) -> float:
    """Share of the pixels well outside a mask that visibly changed; two images of one size, (H, W, 3) uint8."""
    outside = ~grown(mask, max(1, mask.shape[0] // 64))
    return float((_distance(source, output)[outside] > VISIBLE).mean()) if outside.any() else 0.0


def grown(mask: Bool, radius: int) -> Bool:
    """A mask with a margin of some pixels."""
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(mask, np.ones((3, 3), np.bool_), iterations=radius), np.bool_)


def _core(mask: Bool) -> Bool:
    from scipy.ndimage import binary_erosion

    core = np.asarray(binary_erosion(mask), np.bool_)
    return core if core.any() else mask


def _lab(image: NDArray[np.uint8]) -> Float:
    from skimage.color import rgb2lab

    return np.asarray(rgb2lab(image), np.float64)


def median_lab(image: NDArray[np.uint8], mask: Mask) -> Float:
    """The median CIE L*a*b* of an (H, W, 3) uint8 image over a mask, away from its border."""
    return np.asarray(np.median(_lab(image)[_core(mask)], axis=0), np.float64)


def lab_of(colour: Colour) -> Float:
    """CIE L*a*b* of an sRGB colour."""
    return np.asarray(_lab(np.array([[colour]], np.uint8))[0, 0], np.float64)


def apart(one: Float, other: Float) -> float:
    """CIE76 with lightness at half weight: light falls on a portrait from everywhere."""
    return float(np.linalg.norm((one - other) * (0.5, 1.0, 1.0)))


def _distance(source: NDArray[np.uint8], output: NDArray[np.uint8]) -> Float:
    """CIE76 per pixel after a blur of one pixel: (H, W)."""
    from scipy.ndimage import gaussian_filter

    labs = [_lab(np.asarray(gaussian_filter(image, (1.0, 1.0, 0)), np.uint8)) for image in (source, output)]
    return np.asarray(np.linalg.norm(labs[0] - labs[1], axis=2), np.float64)
